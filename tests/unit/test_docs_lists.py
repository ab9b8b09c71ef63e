"""What the pages list they list whole: every command, variable, topic, metric, reason, rule and decision."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.cli.main import program
from schemas import reasons
from tests.unit.test_docs import ROOT, TOPICS, VARIABLES, anchors, commands, metrics, page


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("docs/configuration.md", [*VARIABLES]),
        ("docs/commands.md", commands(program())),
        ("docs/architecture.md", [spec.name for spec in TOPICS.specs()]),
        ("docs/metrics.md", metrics()),
    ],
)
def test_a_page_lists_all_that_it_is_for_and_the_readme_leads_to_it(name: str, wanted: Iterable[str]) -> None:
    text, names = page(name), list(wanted)
    assert names
    assert [each for each in names if f"`{each}`" not in text] == []
    assert f"]({name})" in page("README.md")


def test_the_commands_page_lists_every_exit_code() -> None:
    listed = set(re.findall(r"^\| (\d+) \|", page("docs/commands.md"), re.MULTILINE))
    assert listed == {str(code.value) for code in ExitCode}


def test_the_architecture_lists_every_topic_with_its_record() -> None:
    text = page("docs/architecture.md")
    for spec in TOPICS.specs():
        cleanup = "compact" if spec.cleanup == "compact" else "delete"
        record = f"`{spec.record}`" if spec.record else "as they came"
        partitions = "1" if spec.name.startswith("control.") and spec.cleanup == "compact" else "all"
        assert f"| `{spec.name}` | {record} | {partitions} | {cleanup} |" in text


def test_the_rules_name_every_reason() -> None:
    text = page("docs/rules.md")
    enums = (reasons.DispatchReason, reasons.FailReason, reasons.ErrorClass, reasons.ResultReason)
    assert [code for enum in enums for code in enum if f"`{code}`" not in text] == []


def test_the_rules_have_every_rule_that_code_names() -> None:
    anchored = " ".join(anchors(page("docs/rules.md")))
    named = set()
    for path in (*ROOT.glob("streams/core/*.py"), *ROOT.glob("loadtest/*.py"), ROOT / "tests/unit/test_oracle.py"):
        named |= set(re.findall(r"\bR\d+\b", path.read_text("utf-8")))
    assert named
    assert [rule for rule in named if f"{rule.lower()}-" not in anchored] == []


def test_every_decision_is_listed_and_numbered_once() -> None:
    records = sorted(path.name for path in ROOT.glob("docs/decisions/[0-9]*.md"))
    assert records
    assert [name[:4] for name in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", page("docs/decisions/README.md"))
    assert listed == records


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/decisions/[0-9]*.md")), ids=lambda path: path.name)
def test_a_decision_has_its_four_parts(path: Path) -> None:
    headings = re.findall(r"^## (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "Evidence"]


def test_the_newest_task_schema_has_the_greatest_id() -> None:
    """The README's snippet takes that one."""
    entries = json.loads((ROOT / "schemas/registry.json").read_text("utf-8"))
    submitted = [entry for entry in entries if entry["schema"]["name"] == "TaskSubmitted"]
    assert max(submitted, key=lambda entry: entry["id"]) == max(submitted, key=lambda entry: entry["version"])
