"""What the Python client checks before anything is sent, and what it makes of a result; no broker."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from schemas.codec import Codec
from schemas.errors import ConfigurationError, UnreachableError
from schemas.records import record, table
from schemas.registry import FileRegistry
from streams.client import Client, InvalidTasksError, Result, Submission
from streams.client.results import result_of
from tests.support.wire import rows

CLIENT = Client("nobody:9")
NOW = 1_700_000_000_000_000


def decoded(values: Sequence[bytes | None]) -> list[dict[str, Any]]:
    found = Codec(FileRegistry.load(), 262_144).decode(values, "TaskSubmitted")
    assert found.faults == []
    return rows(found.batch, record("TaskSubmitted").definition)


def test_a_task_becomes_its_record_under_the_key_of_the_rule() -> None:
    prepared = CLIENT.prepare(
        [
            {"text": "a", "task_id": "t1"},
            Submission(
                text="b",
                task_id="t2",
                conversation_id="c1",
                value_tier="HIGH",
                labels={"team": "ops"},
                payload='{"n":1}',
                deadline_in_ms=5_000,
            ),
        ]
    )
    assert (prepared.task_ids, prepared.keys) == (["t1", "t2"], [b"t1", b"c1"])
    first, second = decoded(prepared.values)
    assert (first["text"], first["tenant"], first["labels"], first["deadline_ms"]) == ("a", "default", {}, None)
    assert second["deadline_ms"] == second["submitted_at"] // 1000 + 5_000
    assert (second["value_tier"], second["labels"], second["payload"]) == ("HIGH", {"team": "ops"}, '{"n":1}')


def test_every_field_of_the_record_can_be_stated() -> None:
    assert set(Submission.model_fields) - {"deadline_in_ms"} == set(record("TaskSubmitted").arrow.names) - {
        "submitted_at"
    }


def test_ids_are_made_where_none_is_given() -> None:
    assert len({*CLIENT.prepare([{"text": "x"}] * 3).task_ids, *CLIENT.prepare_columns({"text": ["x"]}).task_ids}) == 4


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({}, "text: is missing"),
        ({"text": ""}, "text: should have at least 1 character"),
        ({"text": 1}, "text: should be a valid string"),
        ({"text": "x", "txet": "y"}, "txet: is no field of a task"),
        ({"text": "x", "confidence": 1.5}, "confidence: should be less than or equal to 1"),
        ({"text": "x", "confidence": math.nan}, "confidence: should be a finite number"),
        ({"text": "x", "value_tier": "highest"}, "value_tier: should be 'UNKNOWN', 'LOW', 'MEDIUM' or 'HIGH'"),
        ({"text": "x", "labels": {"a": 1}}, "labels.a: should be a valid string"),
        ({"text": "x", "payload": "no json"}, "payload: text that is not JSON"),
        ({"text": "x", "payload": math.nan}, "payload: "),
        ({"text": "x", "deadline_ms": 0}, "deadline_ms: should be greater than 0"),
        ({"text": "x", "deadline_ms": 5, "deadline_in_ms": 5}, "cannot both be stated"),
        ({"text": "x" * 300_000}, "262144 are allowed"),
    ],
)
def test_a_task_that_cannot_be_is_refused_with_its_field(task: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTasksError) as caught:
        CLIENT.prepare([{"text": "fine"}, {"task_id": "t1", **task}])
    [fault] = caught.value.faults
    assert (fault.row, fault.task_id) == (1, "t1")
    assert said in fault.message
    assert str(caught.value).startswith("t1: ")


def test_all_faulty_tasks_are_named_and_the_text_stays_short() -> None:
    with pytest.raises(InvalidTasksError) as caught:
        CLIENT.prepare([{"no": "text"}] * 50)
    assert len(caught.value.faults) == 50
    assert str(caught.value).splitlines()[-1] == "... and 30 more"


def test_columns_are_checked_for_shape() -> None:
    arrow = pa.table({"text": ["a", "b"], "task_id": ["t1", "t2"]})
    columns = dict(zip(arrow.column_names, arrow.columns, strict=True))
    prepared = CLIENT.prepare_columns({**columns, "tenant": "acme", "conversation_id": ["c", None]})
    assert prepared.keys == [b"c", b"t2"]
    assert [row["tenant"] for row in decoded(prepared.values)] == ["acme", "acme"]
    for wrong in ({"txt": ["a"]}, {"text": ["a", "b"], "task_id": ["t1"]}, {"text": ["a", None]}, {"tenant": ["a"]}):
        with pytest.raises(ValueError, match="TaskSubmitted"):
            CLIENT.prepare_columns(wrong)


def test_a_result_has_the_fields_of_its_record_and_times_as_times() -> None:
    fields = [field.name for field in dataclasses.fields(Result)]
    assert fields == record("TaskResult").arrow.names
    columns = {"task_id": "t", "tenant": "acme", "status": "COMPLETED", "reason": "ANSWERED"}
    times = {"submitted_at": [NOW, 0, 2**63 - 1], "decided_at": NOW + 1_500}
    vote = {"agent_id": "a", "vote": "x", "confidence": 0.5, "weight": 2.0}
    batch = table("TaskResult", {**columns, **times, "votes": [[vote], [], []]}, 3)
    first, none_stated, beyond = map(result_of, batch.to_pylist())
    assert (first.key, first.ms, first.votes[0].weight) == (("acme", "t"), 1.5, 2.0)
    assert first.submitted_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (none_stated.submitted_at, none_stated.ms, beyond.submitted_at, beyond.ms) == (None, None, None, None)


def test_the_environment_names_the_deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POINTSMAN_BROKER", "127.0.0.1:1")
    with Client.from_environment() as client, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        client.submit("hello")
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(tmp_path / "missing.yaml"))
    with pytest.raises(ConfigurationError, match=r"missing\.yaml"):
        Client.from_environment()


def test_nothing_heavy_comes_with_it() -> None:
    heavy = {"faust", "clickhouse_connect", "chdb", "ahocorasick_rs", "ruamel", "schemas.topology"}
    script = f"import sys, streams.client; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
