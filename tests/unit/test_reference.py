"""What is made out of the program is what the program says, and says all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from console.cli.help import leaves
from console.cli.main import program
from console.explained.table import table
from console.reference import __main__ as command
from console.reference.configuration import unit, variable_of
from console.reference.pages import FILES
from schemas.settings import Settings
from schemas.topology import Topology
from schemas.topology_words import sections
from tests.support.console import pointsman
from tests.support.contract import breaches, promises
from tests.unit.test_docs import ROOT, page

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", FILES)
def test_a_made_file_is_what_the_program_says(name: str) -> None:
    made = FILES[name]()
    assert (ROOT / name).read_text("utf-8") == made, "stale: run `make reference` and commit what it writes"


def test_the_command_names_what_is_stale_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    for folder in ("docs", "schemas"):
        (tmp_path / folder).mkdir()
    assert command.main(["--check"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FILES)
    assert not (tmp_path / "docs/codes.md").exists()
    assert command.main([]) == 0
    assert command.main(["--check"]) == 0
    (tmp_path / "docs/codes.md").write_text("something else")
    assert command.main(["--check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("docs/codes.md is not what the program says")


def test_the_configuration_has_every_key_in_its_section_and_every_variable() -> None:
    text = page("docs/configuration.md")
    every: dict[str, type[BaseModel]] = {"": Topology, **sections(Topology)}
    for path, section in every.items():
        heading = f"\n### {path.replace('<name>', 'NAME')}\n" if path else "\n## The topology\n"
        assert text.count(heading) == 1, heading
        body = text.partition(heading)[2].partition("\n##")[0]
        assert [key for key in section.model_fields if f"\n| `{key}` | " not in body] == []
        for key, field in section.model_fields.items():
            row = body.partition(f"\n| `{key}` | ")[2].partition("\n")[0]
            assert ("| **required** |" in row) == field.is_required()
    assert [name for name in Settings.model_fields if f"\n| `{variable_of(name)}` | " not in text] == []


def test_a_unit_is_said_where_a_name_ends_in_one() -> None:
    assert (unit("timeout_ms"), unit("batch_bytes_max"), unit("batch_rows_max"), unit("quorum")) == (
        *("ms", "bytes", "rows", ""),
    )


def test_the_page_of_codes_has_every_code_and_the_page_of_commands_every_flag() -> None:
    codes, commands = page("docs/codes.md"), page("docs/commands.md")
    assert [code for code in table() if f"\n### {code}\n" not in codes] == []
    for path, each in leaves(program()):
        body = commands.partition(f"\n## pointsman {path}\n")[2].partition("\n## ")[0]
        flags = [parameter.opts[-1] for parameter in each.params if not parameter.hidden and "--" in parameter.opts[-1]]
        assert [flag for flag in flags if flag not in body] == []
        assert str(each.help) in body


def test_schemas_are_listed_and_printed(capsys: Capture) -> None:
    rows = pointsman(capsys, "schemas", "list", "-o", "jsonl").rows
    assert breaches(rows, promises()["pointsman schemas list"]) == []
    assert [row["name"] for row in rows][:2] == ["topology", "AgentCard"]
    assert json.loads(pointsman(capsys, "schemas", "show", "topology").out) == json.loads(
        page("schemas/topology.schema.json")
    )
    for row in rows[1:]:
        shipped = json.loads((ROOT / f"schemas/avro/{row['name']}.avsc").read_text("utf-8"))
        assert json.loads(pointsman(capsys, "schemas", "show", row["name"]).out) == shipped
    said = pointsman(capsys, "schemas", "show", "TaskSubmit")
    assert (said.code, said.out) == (4, "")
    assert said.err == "pointsman: There is no schema TaskSubmit; did you mean TaskSubmitted? [E403]\n"
