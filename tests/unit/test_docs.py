"""Every path, link, symbol, topic, code, key, variable, metric and command that the pages cite exists."""

from __future__ import annotations

import pkgutil
import re
import shlex
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram
from pydantic import BaseModel

from agents.memory.modelled import SUMMARISED, Unfit
from agents.summarising import MADE
from console.cli.failures import ExitCode
from console.cli.main import program
from schemas import reasons
from schemas.records import RECORDS
from schemas.redrive import Refusal
from schemas.settings import KAFKA_CONFIG, PREFIX, Settings
from schemas.topics import Topics
from schemas.topology import Topology
from streams.core.breaker import Cause, Phase
from streams.transport import telemetry
from streams.transport.histogram import BatchHistogram

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "loadtest/peers/README.md",
    *(str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md"))),
)

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FOLDERS = "schemas|streams|agents|loadtest|console|tests|docs|ops"
FOLDER_PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*|(?<![\w/])\.ci/\w+")
ROOT_FILE = re.compile(r"[\w-]+\.(?:yaml|toml|lock|md)|Makefile")
SYMBOL = re.compile(rf"(?:{FOLDERS})(?:\.\w+)+(?::\w+(?:\.\w+)*)?")
TOPIC = re.compile(r"[\w.<>]+\.v1")
CODE = re.compile(r"[A-Z][A-Z_]{2,}")
KEY = re.compile(r"(topic_policy|defaults|limits|bands|answers|consensus|breaker)\.(\w+)")
METRIC = re.compile(r"pointsman_\w+")
VARIABLE = re.compile(rf"\b{PREFIX}\w*")
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?(make|pointsman)(?= |$)")

TOPICS = Topics(agents=("<agent>",), partitions=1)
# Variables of others that the console heeds, and the timeline's own kinds.
FOREIGN = {"NO_COLOR", "COLUMNS", "PATH", "SUBMITTED", "DISPATCHED", "RESULT"}
# What becomes of a summary that a model makes.
OF_SUMMARIES = {SUMMARISED, MADE, *Unfit}
# The broker's properties come by a file, whatever the field is called.
VARIABLES = {KAFKA_CONFIG, *(f"{PREFIX}{name.upper()}" for name in Settings.model_fields if name != "kafka")}
# What tests are asked for more with.
OF_TESTS = {"POINTSMAN_FULL_LOAD", "POINTSMAN_EFFECT_SEEDS"}


def faults(text: str, folder: Path = ROOT) -> list[str]:
    """What a page in `folder` cites and is not there."""
    prose = FENCE.sub("", text)
    spans = SPAN.findall(prose)
    scripts = [line for language, body in FENCE.findall(text) if language == "sh" for line in body.splitlines()]
    return [
        *(f"no path {path}" for path in FOLDER_PATH.findall(text) if not path_exists(path)),
        *(f"no link target {link}" for link in LINK.findall(prose) if not link_resolves(link, folder)),
        *(f"no variable {name}" for name in VARIABLE.findall(text) if name not in VARIABLES | OF_TESTS | {PREFIX}),
        *(f"no {span}" for span in spans if not span_exists(span)),
        *(f"no command {line}" for line in (*spans, *scripts) if COMMAND.match(line) and not command_exists(line)),
    ]


def path_exists(path: str) -> bool:
    return any(ROOT.glob(path.rstrip("./").removesuffix("/**") or ".")) if "*" in path else (ROOT / path).exists()


def link_resolves(link: str, folder: Path) -> bool:
    if link.startswith("https://"):
        return True
    name, _, anchor = link.partition("#")
    page = folder / name if name else None
    if page is not None and not page.exists():
        return False
    if not anchor:
        return True
    # A link within the page is looked up in all pages of its folder, for `faults` knows a text and no page.
    pages = [page] if page is not None else [*folder.glob("*.md")]
    return any(anchor in anchors(each.read_text("utf-8")) for each in pages)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def span_exists(span: str) -> bool:
    """Whether what stands in backticks is there; what looks like nothing that can be looked up is."""
    if ROOT_FILE.fullmatch(span):
        return (ROOT / span).exists() or span in {path.name for path in ROOT.glob("docs/**/*.md")}
    if TOPIC.fullmatch(span):
        return span in {spec.name for spec in TOPICS.specs()}
    if SYMBOL.fullmatch(span):
        return symbol_exists(span)
    if KEY.fullmatch(span):
        section, _, key = span.partition(".")
        return key in section_fields(section)
    if METRIC.fullmatch(span):
        return span in metrics()
    if CODE.fullmatch(span) and not span.startswith(PREFIX):
        return span in codes() | make_variables() | FOREIGN | OF_SUMMARIES
    return True


def symbol_exists(name: str) -> bool:
    """A dotted name or `module:symbol`; a field of a model or dataclass counts too."""
    try:
        pkgutil.resolve_name(name)
    except ImportError:
        return False
    except AttributeError:
        owner, _, field = name.replace(":", ".").rpartition(".")
        try:
            kind = pkgutil.resolve_name(owner)
        except (ImportError, AttributeError):
            return False
        return isinstance(kind, type) and field in typing.get_type_hints(kind)
    return True


def section_fields(section: str) -> set[str]:
    kind = Topology.model_fields[section].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, BaseModel)
    return set(kind.model_fields)


@cache
def codes() -> set[str]:
    """Every symbol of an Avro enum, every reason, every change of a breaker, every exit code's name."""
    found = {symbol for record in RECORDS.values() for symbols in record.enums.values() for symbol in symbols}
    enums = (
        reasons.DispatchReason,
        reasons.FailReason,
        reasons.ErrorClass,
        reasons.ResultReason,
        reasons.DeadReason,
        reasons.LateReason,
        reasons.AgentState,
    )
    for enum in (*enums, Refusal, Phase, Cause):
        found |= set(enum.__members__)
    return found | set(ExitCode.__members__)


@cache
def metrics() -> set[str]:
    """Names as Prometheus sees them; counters end in _total there."""
    found = set()
    for value in vars(telemetry).values():
        if isinstance(value, Counter | Gauge | Histogram | BatchHistogram):
            found |= {metric.name + ("_total" if metric.type == "counter" else "") for metric in value.describe()}
    return found


@cache
def makefile() -> str:
    return (ROOT / "Makefile").read_text("utf-8")


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", makefile(), re.MULTILINE))


def make_variables() -> set[str]:
    return set(re.findall(r"^([A-Z]+) \?=", makefile(), re.MULTILINE))


def command_exists(line: str) -> bool:
    """`make target VARIABLE=...`, or `pointsman command --flag ...` with each flag known to it."""
    try:
        called, *words = shlex.split(line.removeprefix("$ "), comments=True)
    except ValueError:
        return False
    if called == "make":
        return all((word in make_targets() or word.partition("=")[0] in make_variables()) for word in words)
    command: Any = program()
    while (children := subcommands(command)) and words and not words[0].startswith("-"):
        if words[0] not in children:
            return False
        command = children[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return all(word.partition("=")[0] in known for word in words if word.startswith("-") and word != "-")


def subcommands(command: Any) -> Mapping[str, Any]:
    # Typer carries a click of its own, whose classes have no public name.
    children: Mapping[str, Any] = getattr(command, "commands", {})
    return children


def commands(command: Any, path: tuple[str, ...] = ("pointsman",)) -> Iterator[str]:
    children = subcommands(command)
    for name, each in children.items():
        yield from commands(each, (*path, name))
    if not children:
        yield " ".join(path)


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def block(language: str, first: str, name: str = "README.md") -> str:
    """The page's one code block in this language whose text begins with `first`."""
    found = [body for tongue, body in FENCE.findall(page(name)) if tongue == language and body.startswith(first)]
    assert len(found) == 1
    return str(found[0])


# ------------------------------------------------------------------ the pages


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_cites_exists(name: str) -> None:
    assert faults(page(name), (ROOT / name).parent) == []


# ------------------------------------------------------------------ the judge itself


@pytest.mark.parametrize(
    "text",
    [
        "see `streams/core/nothing.py`",
        "```text\nstreams/core/nothing.py  decides\n```",
        "see [the rules](docs/nothing.md)",
        "see [the rules](docs/rules.md#r99-nothing)",
        "`streams.core.cell:Nothing`",
        "`streams.core.nothing`",
        "`schemas.topology:Topology.nothing`",
        "`tasks.nothing.v1`",
        "`NOTHING_SUCH`",
        "`limits.nothing_max`",
        "`pointsman_nothing_total`",
        "`POINTSMAN_NOTHING`",
        "```yaml\n# POINTSMAN_NOTHING\n```",
        "`make nothing`",
        "```sh\nmake demo NOTHING=1\n```",
        "`pointsman nothing`",
        "```sh\npointsman task nothing\n```",
        "`pointsman submit TEXT --nothing`",
        "`nothing.toml`",
    ],
)
def test_a_citation_of_what_is_not_there_is_found(text: str) -> None:
    assert faults(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "`streams/core/*.py`, `docs/`, [rules](docs/rules.md#r1-duplicates) and `streams.core.cell:Cell.submit`",
        "`schemas.topology:Topology.partitions`, `agents.<agent>.inbox.v1`, `tasks.dead.v1`, `limits.poll_ms`",
        "`POINTSMAN_BROKER`, `CASCADED`, `pointsman_results_total`, `make demo BROKER=host:port`, `topology.yaml`",
        '```sh\nmake dev\npointsman submit "the text" --wait  # and more\n```',
    ],
)
def test_a_citation_of_what_is_there_is_none(text: str) -> None:
    assert faults(text) == []
