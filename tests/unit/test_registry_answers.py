"""The registry's answers: every route that reads, every change that is refused, by status, code and document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.definitions import Definition
from schemas.registry import Entry, FileRegistry
from schemas.topics import Topics
from streams.registry.answers import COMPATIBILITY, MODE, Answers
from streams.registry.catalog import Catalog
from tests.support.wire import definition, with_field, without_field

TOPICS = Topics(agents=("revenue_agent",), partitions=4, prefix="fin.")
SUBMITTED = "fin.tasks.submitted.v1-value"
MOOD = {"name": "mood", "type": ["null", "string"], "default": None}
GROWN = with_field(definition("TaskSubmitted"), MOOD)
FILE = FileRegistry.load()
REGISTRY = FileRegistry([*FILE.entries, Entry(112, "pointsman.TaskSubmitted", 2, GROWN)])
ANSWERS = Answers(Catalog(REGISTRY, TOPICS))


def get(target: str) -> tuple[int, Any]:
    return ANSWERS.to("GET", target, b"")


def post(target: str, schema: Definition | None = None, **more: Any) -> tuple[int, Any]:
    document = {"schema": json.dumps(schema)} if schema is not None else {}
    return ANSWERS.to("POST", target, json.dumps(document | more).encode())


def text_of(schema_id: int) -> str:
    return REGISTRY.get_schema(schema_id).schema_str


def test_a_record_stands_under_its_name_its_topics_and_both() -> None:
    status, subjects = get("/subjects")
    assert status == 200
    assert subjects == sorted(subjects)
    for name in (
        *("pointsman.TaskSubmitted", "pointsman.Feedback", SUBMITTED, "fin.tasks.results.v1-value"),
        *("fin.tasks.submitted.v1-pointsman.TaskSubmitted", "fin.agents.revenue_agent.inbox.v1-value"),
    ):
        assert name in subjects
    assert not [name for name in subjects if "tasks.dead" in name]
    assert get("/subjects?subjectPrefix=fin.tasks.submitted&deleted=true")[1] == [
        "fin.tasks.submitted.v1-pointsman.TaskSubmitted",
        SUBMITTED,
    ]
    assert get("/subjects?offset=1&limit=2")[1] == subjects[1:3]


@pytest.mark.parametrize(
    "subject", [SUBMITTED, "pointsman.TaskSubmitted", "fin.tasks.submitted.v1-pointsman.TaskSubmitted"]
)
def test_a_subject_has_the_versions_and_ids_of_the_file(subject: str) -> None:
    assert get(f"/subjects/{subject}/versions") == (200, [1, 2])
    newest = {"subject": subject, "version": 2, "id": 112, "schema": text_of(112)}
    for version in ("2", "latest", "-1"):
        assert get(f"/subjects/{subject}/versions/{version}") == (200, newest)
    assert get(f"/subjects/{subject}/versions/1/schema") == (200, json.loads(text_of(11)))
    assert get(f"/subjects/{subject}/versions/1/referencedby") == (200, [])


def test_an_id_gives_its_schema_and_where_it_stands() -> None:
    assert get("/schemas/ids/11") == (200, {"schema": text_of(11)})
    assert get("/schemas/ids/11?fetchMaxId=true&subject=x") == (200, {"schema": text_of(11), "maxId": 112})
    assert get("/schemas/ids/11/schema") == (200, json.loads(text_of(11)))
    assert SUBMITTED in get("/schemas/ids/11/subjects")[1]
    assert {"subject": SUBMITTED, "version": 2} in get("/schemas/ids/112/versions")[1]
    assert {"subject": SUBMITTED, "version": 1} not in get("/schemas/ids/112/versions")[1]


def test_schemas_are_listed() -> None:
    every = get("/schemas?subjectPrefix=pointsman.TaskS")[1]
    assert [(each["subject"], each["version"], each["id"]) for each in every] == [
        ("pointsman.TaskSpilled", 1, 15),
        ("pointsman.TaskSpilled", 2, 16),
        ("pointsman.TaskSubmitted", 1, 11),
        ("pointsman.TaskSubmitted", 2, 112),
    ]
    assert [each["id"] for each in get("/schemas?subjectPrefix=pointsman.TaskSu&latestOnly=true")[1]] == [112]
    assert get("/schemas/types") == (200, ["AVRO"])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", {}),
        ("/contexts", ["."]),
        ("/config", {"compatibilityLevel": COMPATIBILITY}),
        (f"/config/{SUBMITTED}", {"compatibilityLevel": COMPATIBILITY}),
        ("/config/nobody?defaultToGlobal=true", {"compatibilityLevel": COMPATIBILITY}),
        ("/mode", {"mode": MODE}),
        (f"/mode/{SUBMITTED}", {"mode": MODE}),
        ("/mode/nobody?defaultToGlobal=true", {"mode": MODE}),
    ],
)
def test_it_says_how_it_is_configured(target: str, expected: Any) -> None:
    assert get(target) == (200, expected)
    assert ANSWERS.to("HEAD", target, b"") == (200, expected)


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/subjects/nobody/versions", 404, 40401),
        ("/subjects/nobody/versions/latest", 404, 40401),
        (f"/subjects/{SUBMITTED}/versions/3", 404, 40402),
        (f"/subjects/{SUBMITTED}/versions/0", 422, 42202),
        (f"/subjects/{SUBMITTED}/versions/newest", 422, 42202),
        (f"/subjects/{SUBMITTED}/versions/2147483648", 422, 42202),
        (f"/subjects/{SUBMITTED}/versions/{'9' * 5000}", 422, 42202),
        ("/schemas/ids/99", 404, 40403),
        ("/schemas/ids/-1", 404, 40403),
        ("/schemas/ids/eleven/schema", 404, 40403),
        (f"/schemas/ids/{'9' * 5000}/versions", 404, 40403),
        ("/config/nobody", 404, 40408),
        ("/mode/nobody", 404, 40409),
        ("/nothing", 404, 404),
        ("/subjects/x/y/z", 404, 404),
        ("/associations/resources/-/fin.tasks.submitted.v1", 404, 404),
    ],
)
def test_what_is_not_there_has_the_code_that_clients_know(target: str, status: int, code: int) -> None:
    answered, document = get(target)
    assert (answered, document["error_code"]) == (status, code)
    assert document["message"]


def as_java_writes_it(schema: Definition) -> Definition:
    """Avro's generated classes say how Java holds a text, and carry the docs."""
    fields = [
        field | {"type": {"type": "string", "avro.java.string": "String"}} if field["type"] == "string" else field
        for field in schema["fields"]
    ]
    return {**schema, "fields": fields, "doc": "One task."}


@pytest.mark.parametrize("schema", [definition("TaskSubmitted"), as_java_writes_it(definition("TaskSubmitted"))])
def test_a_schema_that_is_there_is_found_and_registering_it_gives_its_id(schema: Definition) -> None:
    found = {"subject": SUBMITTED, "version": 1, "id": 11, "schema": text_of(11)}
    assert post(f"/subjects/{SUBMITTED}?normalize=true&deleted=false", schema) == (200, found)
    assert post(f"/subjects/{SUBMITTED}/versions?normalize=false", schema, schemaType="AVRO") == (200, {"id": 11})


def test_a_schema_that_is_not_there_is_neither_found_nor_taken() -> None:
    new = with_field(GROWN, MOOD | {"name": "weather"})
    status, document = post(f"/subjects/{SUBMITTED}", new)
    assert (status, document["error_code"]) == (404, 40403)
    for subject in (SUBMITTED, "nobody"):
        status, document = post(f"/subjects/{subject}/versions", new)
        assert (status, document["error_code"]) == (422, 42205)
        assert "python -m schemas.registry add" in document["message"]
    assert post("/subjects/nobody", new)[1]["error_code"] == 40401
    assert post("/subjects/fin.tasks.results.v1-value", GROWN)[1]["error_code"] == 40403


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("DELETE", f"/subjects/{SUBMITTED}"),
        ("DELETE", f"/subjects/{SUBMITTED}/versions/1"),
        ("PUT", "/config"),
        ("PUT", f"/config/{SUBMITTED}"),
        ("PUT", "/mode"),
        ("POST", "/mode"),
    ],
)
def test_nothing_can_be_changed(method: str, target: str) -> None:
    status, document = ANSWERS.to(method, target, b'{"compatibility": "NONE"}')
    assert (status, document["error_code"]) == (422, 42205)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, 400),
        (b"\xff{", 400, 400),
        (b"[" * 100_000, 400, 400),
        (b"[]", 422, 42201),
        (b"{}", 422, 42201),
        (b'{"schema": 3}', 422, 42201),
        (b'{"schema": "{"}', 422, 42201),
        (b'{"schema": "{}", "schemaType": "PROTOBUF"}', 422, 42201),
    ],
)
@pytest.mark.parametrize("target", [f"/subjects/{SUBMITTED}", f"/subjects/{SUBMITTED}/versions"])
def test_a_body_that_holds_no_schema_is_refused(target: str, body: bytes, status: int, code: int) -> None:
    answered, document = ANSWERS.to("POST", target, body)
    assert (answered, document["error_code"]) == (status, code)


def compatible(schema: Definition, version: str = "/latest") -> list[str]:
    """The messages; none where it is compatible."""
    status, document = post(f"/compatibility/subjects/{SUBMITTED}/versions{version}?verbose=true", schema)
    assert status == 200
    assert document["is_compatible"] is (document["messages"] == [])
    messages: list[str] = document["messages"]
    return messages


def test_a_schema_is_compatible_where_it_reads_what_is_there() -> None:
    assert compatible(GROWN) == []
    assert compatible(with_field(GROWN, {"name": "n", "type": "int", "default": 0}), "") == []
    assert post(f"/compatibility/subjects/{SUBMITTED}/versions/1", GROWN) == (200, {"is_compatible": True})
    assert compatible(with_field(GROWN, {"name": "n", "type": "int"})) == [
        "pointsman.TaskSubmitted.n is missing in what was written, and has no default (version 2)"
    ]
    needs_mood = with_field(without_field(GROWN, "mood"), {"name": "mood", "type": ["null", "string"]})
    assert compatible(needs_mood) == []
    assert [message[-11:] for message in compatible(needs_mood, "")] == ["(version 1)"]
    assert compatible(with_field(GROWN, {"name": "d", "type": {"type": "int", "logicalType": "date"}})) == [
        "logical type date is not supported"
    ]
    assert post(f"/compatibility/subjects/{SUBMITTED}/versions/7", GROWN)[1]["error_code"] == 40402
    assert post("/compatibility/subjects/nobody/versions/latest", GROWN)[1]["error_code"] == 40401
