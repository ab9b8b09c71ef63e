"""The registry file: it holds what the code writes, and what it once held stays as it was."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

import pytest

from schemas import registry as registry_module
from schemas.errors import ConfigurationError, UnknownSchemaError
from schemas.records import RECORDS, RecordType
from schemas.registry import Entry, FileRegistry, Schema, compose_dispatch, main, missing, render
from tests.support.wire import definition, with_field

ENTRIES = FileRegistry.load().entries

# Subject, version and digest of what each id means. Records out there carry these ids: add lines, never change one.
GIVEN_OUT = {
    1: ("AgentCard", 1, "110d587d"),
    2: ("AgentEvent", 1, "90a8fe2a"),
    3: ("BreakerState", 1, "07d05f76"),
    4: ("Feedback", 1, "ea7151d3"),
    5: ("HealthCounts", 1, "34623411"),
    6: ("OrchestratorEvent", 1, "4db1ddb7"),
    7: ("PauseState", 1, "04009f4b"),
    8: ("TaskCancelled", 1, "a1371cb3"),
    9: ("TaskDispatched", 1, "f8315306"),
    10: ("TaskResult", 1, "9491f2df"),
    11: ("TaskSubmitted", 1, "99d42390"),
    12: ("PauseState", 2, "32bc5ad5"),
    13: ("AgentEvent", 2, "7893e5b2"),
    14: ("MemoryDirective", 1, "25832d10"),
    15: ("TaskSpilled", 1, "a6ec5fac"),
    16: ("TaskSpilled", 2, "f89bff96"),
}


def test_the_file_holds_every_schema_that_the_code_writes() -> None:
    assert missing(ENTRIES) == [], "a schema was changed: python -m schemas.registry add"


def test_what_an_id_once_meant_it_means_for_ever() -> None:
    held = {
        entry.id: (
            entry.subject.removeprefix("pointsman."),
            entry.version,
            blake2b(entry.text.encode()).hexdigest()[:8],
        )
        for entry in ENTRIES
    }
    assert held == GIVEN_OUT


def test_ids_are_unique_and_versions_count_from_1_per_subject() -> None:
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)
    for subject in {entry.subject for entry in ENTRIES}:
        versions = [entry.version for entry in FileRegistry(ENTRIES).versions(subject)]
        assert versions == list(range(1, len(versions) + 1))


def test_the_file_is_as_the_tool_writes_it() -> None:
    assert registry_module.REGISTRY.read_text("utf-8") == render(ENTRIES)


def test_an_id_gives_its_schema_and_a_schema_its_id() -> None:
    registry = FileRegistry(ENTRIES)
    for entry in ENTRIES:
        found = registry.get_schema(entry.id)
        assert json.loads(found.schema_str)["name"] == entry.subject.removeprefix("pointsman.")
        assert registry.register_schema(entry.subject, found) == entry.id


def test_docs_and_layout_do_not_make_another_schema() -> None:
    path = Path(registry_module.__file__).parent / "avro" / "TaskSubmitted.avsc"
    document = json.loads(path.read_text("utf-8"))
    assert "doc" in document
    assert (
        FileRegistry(ENTRIES).register_schema("pointsman.TaskSubmitted", Schema(json.dumps(document, indent=7))) == 11
    )


def test_an_unknown_id_or_schema_is_refused() -> None:
    registry = FileRegistry(ENTRIES)
    for schema_id in (0, -1, 10**9):
        with pytest.raises(UnknownSchemaError, match=f"schema id {schema_id} is not in the registry"):
            registry.get_schema(schema_id)
    grown = with_field(definition("Feedback"), {"name": "mood", "type": "string", "default": ""})
    with pytest.raises(ConfigurationError, match=r"append it by: python -m schemas\.registry add"):
        registry.register_schema("pointsman.Feedback", Schema(json.dumps(grown)))
    with pytest.raises(ConfigurationError, match="not in the registry file"):
        registry.register_schema("pointsman.TaskResult", Schema(ENTRIES[3].text))


def test_0_is_a_valid_id() -> None:
    registry = FileRegistry([Entry(0, "pointsman.Feedback", 1, definition("Feedback"))])
    assert registry.register_schema("pointsman.Feedback", registry.get_schema(0)) == 0


def test_one_id_for_two_schemas_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="gives one id twice"):
        FileRegistry([ENTRIES[0], ENTRIES[0]])


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '[{"id": 1}]', "\ufffe"])
def test_a_file_that_is_no_registry_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "registry.json"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match="is no schema registry"):
        FileRegistry.load(path)


def grow(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Today's schema of this record has one more field than the file knows."""
    grown = with_field(definition(name), {"name": "mood", "type": ["null", "string"], "default": None})
    records = {**RECORDS, name: RecordType.of(name, grown)}
    monkeypatch.setattr(registry_module, "RECORDS", MappingProxyType(records))


def test_a_changed_schema_is_missing_until_it_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "registry.json"
    path.write_text(render(ENTRIES), "utf-8")
    grow(monkeypatch, "Feedback")
    [added] = missing(ENTRIES)
    assert (added.id, added.subject, added.version) == (max(GIVEN_OUT) + 1, "pointsman.Feedback", 2)
    assert main(["add"], path) == 0
    assert f"added pointsman.Feedback version 2 as id {added.id}" in capsys.readouterr().err
    assert path.read_text("utf-8").startswith(render(ENTRIES).removesuffix("\n]\n"))
    assert FileRegistry.load(path).entries == (*ENTRIES, added)
    before = path.read_text("utf-8")
    assert main(["add"], path) == 0
    assert path.read_text("utf-8") == before
    assert capsys.readouterr().err == ""


def test_a_new_version_of_the_task_brings_the_dispatch_that_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    grow(monkeypatch, "TaskSubmitted")
    added = missing(ENTRIES)
    assert [(entry.subject, entry.version) for entry in added] == [
        ("pointsman.TaskSubmitted", 2),
        ("pointsman.TaskDispatched", 2),
    ]
    slip, carried = added[1].definition["fields"]
    assert slip["name"] == "slip"
    assert [field["name"] for field in carried["type"]["fields"]][-1] == "mood"


def test_a_registry_starts_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.json"
    assert main(["add"], path) == 0
    made = FileRegistry.load(path)
    assert {(entry.subject, entry.version) for entry in made.entries} == {(each.subject, 1) for each in ENTRIES}
    assert missing(made.entries) == []


@pytest.mark.parametrize("arguments", [[], ["remove"], ["add", "more"]])
def test_the_tool_knows_one_command(tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, tmp_path / "registry.json") == 2
    assert "usage" in capsys.readouterr().err
    assert not (tmp_path / "registry.json").exists()


def test_the_dispatch_of_todays_task_is_todays_dispatch() -> None:
    composed = compose_dispatch(definition("TaskSubmitted"))
    assert FileRegistry(ENTRIES).register_schema("pointsman.TaskDispatched", Schema(json.dumps(composed))) == 9
