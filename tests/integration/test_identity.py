"""What a producer says of a task comes back in its result, however the task came and whatever became of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.deadletter import parse
from streams.client import Client, Result, Submission
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import Producer
from tests.support.fleet import Fleet

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

RESULTS_S = 60.0
TOPOLOGY = """
prefix: "{prefix}"
breaker: {{consecutive_failures: 1000, volume_min: 1000, slow_ms: null}}
agents:
  moody: {{run: "tests.support.agents_sample:moody", effect: read}}
  echo: {{run: "agents.builtin.echo:reply", effect: read}}
  writes: {{run: "tests.support.agents_sample:moody", effect: write}}
  second: {{run: "agents.builtin.echo:reply", effect: read}}
  absent: {{run: "agents.builtin.echo:reply", effect: read, timeout_ms: 500}}
routes:
  plain: {{agents: [moody], fallback: {{agent: echo}}, low_value_answer: "by rule"}}
  exhausted: {{agents: [moody], fallback: {{agent: writes}}}}
  panel: {{agents: [moody, echo], fallback: {{answer: "nobody knows"}}}}
  written: {{agents: [writes], fallback: {{answer: "nobody knows"}}}}
  friends: {{agents: [echo, second], fallback: {{answer: "nobody knows"}}}}
  dead: {{agents: [absent], fallback: {{answer: "nobody was there"}}}}
default_route: plain
"""


class Case(NamedTuple):
    """What is stated of a task, and what becomes of it."""

    stated: Mapping[str, Any]
    status: str
    reason: str


CASES = {
    "answered": Case({"intent": "plain", "text": "hello"}, "COMPLETED", "ANSWERED"),
    "by rule": Case({"intent": "plain", "text": "hello", "value_tier": "LOW"}, "COMPLETED", "RULE"),
    "agreed": Case({"intent": "friends", "text": "hello", "value_tier": "HIGH"}, "COMPLETED", "CONSENSUS"),
    "disagreed": Case({"intent": "panel", "text": "hello", "value_tier": "HIGH"}, "ESCALATED", "NO_CONSENSUS"),
    "unsure": Case({"intent": "panel", "text": "hello", "confidence": 0.1}, "DEGRADED", "LOW_CONFIDENCE"),
    "cascaded": Case({"intent": "plain", "text": "fail"}, "DEGRADED", "FALLBACK_AGENT"),
    "exhausted": Case({"intent": "exhausted", "text": "refuse"}, "FAILED", "CHAIN_EXHAUSTED"),
    "uncertain": Case({"intent": "written", "text": "bug"}, "ESCALATED", "WRITE_UNCERTAIN"),
    "wrong": Case({"intent": "plain", "text": "wrong"}, "REJECTED", "WRONG_INPUT"),
    "unknown": Case({"intent": "cooking", "text": "hello"}, "REJECTED", "UNKNOWN_INTENT"),
    "too late": Case({"intent": "plain", "text": "hello", "deadline_ms": 1}, "EXPIRED", "DEADLINE"),
}
# Of an agent that no host runs: the worker alone gives up on it.
DEAD = {
    "dead agent": Case({"intent": "dead", "text": "hello"}, "DEGRADED", "FALLBACK_ANSWER"),
    "overtaken": Case({"intent": "dead", "text": "hello", "deadline_in_ms": 700}, "EXPIRED", "DEADLINE"),
}


def identity(name: str, how: str) -> dict[str, Any]:
    number = len(name) + len(how)
    return {
        "task_id": f"{how} {name}",
        "tenant": f"tenant of {name}",
        "conversation_id": f"c {name}" if number % 2 else None,
        "labels": {"case": name, "empty": "", "schlüssel\n": "wért"},
        "traceparent": f"00-{number:032x}-{number:016x}-01",
    }


@pytest.fixture
def fleet(broker: str, tmp_path: Path, prefix: str) -> Iterator[Fleet]:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(prefix=prefix))
    with Fleet(broker, tmp_path, path) as fleet:
        yield fleet


class Door:
    """Tasks go in as Avro by the client, and as JSON by a plain producer."""

    def __init__(self, fleet: Fleet, client: Client) -> None:
        self._topic, self._client = fleet.topology.topics().submitted, client
        self._producer = Producer(client_config(fleet.settings, fleet.topology, "producer"))
        self.submitted_at = time.time_ns() // 1000

    def submit(self, cases: Mapping[str, Case]) -> None:
        tasks = [Submission(**identity(name, "avro"), **case.stated) for name, case in cases.items()]
        self._client.submit_many(tasks)
        for name, case in cases.items():
            fields = {**case.stated, **identity(name, "json"), "submitted_at": self.submitted_at}
            if within := fields.pop("deadline_in_ms", None):
                fields["deadline_ms"] = time.time_ns() // 1_000_000 + within
            self.put(json.dumps(fields).encode(), (fields["conversation_id"] or fields["task_id"]).encode())

    def put(self, value: bytes, key: bytes) -> None:
        self._producer.send_one(self._topic, value, key)
        self._producer.flush(30)

    def close(self) -> None:
        self._producer.close()


def test_labels_and_trace_come_back_whatever_became_of_the_task(fleet: Fleet) -> None:
    every = {**CASES, **DEAD}
    found: dict[str, Result] = {}
    with Client.of(fleet.settings, fleet.topology) as client:
        results = client.results(timeout_s=RESULTS_S)
        door = Door(fleet, client)
        fleet.start("worker")
        door.submit(DEAD)
        found |= {each.task_id: each for each in islice(results, 2 * len(DEAD))}
        fleet.start("host")
        door.submit(CASES)
        door.submit(CASES)  # none of them gets a second result
        for result in results:
            found[result.task_id] = result
            if len(found) == 2 * len(every):
                break
        results._timeout_s = 1.0
        assert list(results) == []
        assert results.repeats == 0
        door.close()
    for how in ("avro", "json"):
        for name, case in every.items():
            result, stated = found[f"{how} {name}"], identity(name, how)
            assert (result.status, result.reason) == (case.status, case.reason), name
            for field, value in stated.items():
                assert getattr(result, field) == value, (name, how, field)
            assert result.submitted_at is not None, name
            assert result.ms is not None, name
            if how == "json":
                assert result.submitted_at.timestamp() == pytest.approx(door.submitted_at / 1e6), name


def test_json_that_is_no_task_is_put_away_with_its_reason(fleet: Fleet) -> None:
    bad = {
        b'{"task_id": "t", "text": "x", "labels": null}': "TaskSubmitted.labels must not be null: leave it out",
        b'{"task_id": "t", "text": "x", "depth": "1"}': "TaskSubmitted.depth must be a whole number of 32 bits",
        b'{"task_id": "t", "txet": "x"}': "was text meant?",
        b'[{"task_id": "t", "text": "x"}]': "a JSON array is no record",
    }
    topics = fleet.topology.topics()
    with Client.of(fleet.settings, fleet.topology) as client:
        door, results = Door(fleet, client), client.results(timeout_s=RESULTS_S)
        fleet.start("worker")
        for value in bad:
            door.put(value, b"t")
        door.put(b'{"task_id": "t", "text": "x", "value_tier": "LOW"}', b"t")
        assert next(results).answer == "by rule"
        door.close()
    config = client_config(fleet.settings, fleet.topology, "consumer")
    consumer = BatchConsumer(config, str, rows_max=100, bytes_max=2**20, poll_s=0.1, with_headers=True)
    marks = consumer.watermarks(consumer.partitions_of([topics.dead]))
    letters = {
        value: parse(headers)
        for batch in consumer.read_to_end(
            {tp: low for tp, (low, _) in marks.items()}, {tp: high for tp, (_, high) in marks.items()}
        )
        for value, headers in zip(batch.values, batch.headers or (), strict=True)
    }
    consumer.close()
    assert letters.keys() == bad.keys()
    for value, said in bad.items():
        assert said in letters[value].detail
        assert letters[value].origin is not None
