"""Wrong in many ways, III: records that are none, on every topic, through the real pipeline.

Each is put away on the dead topic, untouched and with its origin, and costs the tasks beside it nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import confluent_kafka as ck
import pytest

from console.cli.failures import ExitCode
from schemas.codec import Codec
from schemas.deadletter import DeadLetter, parse
from schemas.reasons import DeadReason
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.topics import Topics
from streams.history.queries import History
from tests.support.console import topology_file
from tests.support.fleet import Fleet, wait_for
from tests.support.wire import read_topic
from tests.support.wrong import REPOSITORY, Wrong, judge, run

pytestmark = [pytest.mark.broker, pytest.mark.slow]

AGENT = "revenue_agent"
RECORD_BYTES_MAX = 262_144
CODEC = Codec(FileRegistry.load(), RECORD_BYTES_MAX)
[GOOD] = CODEC.encode(
    table("TaskSubmitted", {"task_id": ["stray"], "text": ["Which policy covers travel?"], "submitted_at": 1}, 1),
    "TaskSubmitted",
)
UNREGISTERED = struct.pack(">BI", 0, 999_999_999)
QUESTION = '{"text": "What was the revenue of EMEA in Q2 2025?", "task_id": "%s"}'

TopicOf = Callable[[Topics], str]
SUBMITTED: TopicOf = lambda topics: topics.submitted  # noqa: E731  a table of them
INBOX: TopicOf = lambda topics: topics.inbox(AGENT)  # noqa: E731
EVENTS: TopicOf = lambda topics: topics.events(AGENT)  # noqa: E731
RESULTS: TopicOf = lambda topics: topics.results  # noqa: E731
NOTES: TopicOf = lambda topics: topics.orchestrator  # noqa: E731
HEALTH: TopicOf = lambda topics: topics.health  # noqa: E731
CARDS: TopicOf = lambda topics: topics.cards  # noqa: E731
BREAKERS: TopicOf = lambda topics: topics.breakers  # noqa: E731
PAUSES: TopicOf = lambda topics: topics.pauses  # noqa: E731

ELSEWHERE: Mapping[str, tuple[TopicOf, str, bool]] = {
    "a dispatch": (INBOX, "TaskDispatched", False),
    "an agent's event": (EVENTS, "AgentEvent", False),
    "a result": (RESULTS, "TaskResult", False),
    "a note": (NOTES, "OrchestratorEvent", False),
    "counts": (HEALTH, "HealthCounts", False),
    "an agent's card": (CARDS, "AgentCard", True),
    "a breaker": (BREAKERS, "BreakerState", True),
    "a pause": (PAUSES, "PauseState", True),
}
"""All other topics that are read: their records, and whether a null value removes a key."""
UNAUDITED = frozenset({HEALTH, CARDS, BREAKERS, PAUSES})


@dataclass(frozen=True)
class Stray:
    """A record that is none, where it is written, and why it cannot be taken."""

    topic: TopicOf
    key: bytes | None
    value: bytes | None
    reason: DeadReason


STRAYS: Mapping[str, Stray] = {
    "no value": Stray(SUBMITTED, b"stray", None, DeadReason.NULL_VALUE),
    "an empty value": Stray(SUBMITTED, b"stray", b"", DeadReason.EMPTY_VALUE),
    "more bytes than a record may have": Stray(
        SUBMITTED, b"stray", GOOD + bytes(RECORD_BYTES_MAX), DeadReason.OVERSIZED
    ),
    "plain text": Stray(SUBMITTED, b"stray", b"hello, is this the right topic?", DeadReason.UNFRAMED),
    "a schema that nobody registered": Stray(SUBMITTED, b"stray", UNREGISTERED + GOOD[5:], DeadReason.UNKNOWN_SCHEMA),
    "another record's schema": Stray(SUBMITTED, b"stray", CODEC.frame("Feedback") + GOOD[5:], DeadReason.WRONG_SCHEMA),
    "a record cut short": Stray(SUBMITTED, b"stray", GOOD[: len(GOOD) // 3], DeadReason.UNDECODABLE),
    "text that is no UTF-8": Stray(
        SUBMITTED, b"stray", GOOD.replace(b"travel", b"tr\xff\xfeel"), DeadReason.INVALID_UTF8
    ),
    "no key": Stray(SUBMITTED, None, GOOD, DeadReason.INVALID_KEY),
    "a key that is no text": Stray(SUBMITTED, b"\xff\xfe", GOOD, DeadReason.INVALID_KEY),
    "another task's key": Stray(SUBMITTED, b"another", GOOD, DeadReason.KEY_MISMATCH),
    "JSON cut short": Stray(SUBMITTED, b"stray", b'{"text": "x", "task_id": "stray"', DeadReason.UNDECODABLE),
    "JSON of another type": Stray(SUBMITTED, b"stray", b'{"text": 5, "task_id": "stray"}', DeadReason.UNDECODABLE),
    "JSON with a field of nobody's": Stray(
        SUBMITTED, b"stray", b'{"text": "x", "task_id": "stray", "colour": "red"}', DeadReason.UNDECODABLE
    ),
    "JSON without its text": Stray(SUBMITTED, b"stray", b'{"task_id": "stray"}', DeadReason.UNDECODABLE),
    "JSON nested without end": Stray(
        SUBMITTED, b"stray", b'{"text": "x", "payload": ' + b"[" * 50_000, DeadReason.UNDECODABLE
    ),
    **{
        f"{how}, in the place of {kind}": Stray(topic, b"stray", value, reason)
        for kind, (topic, record, is_compacted) in ELSEWHERE.items()
        for how, (value, reason) in {
            "plain text": (b"hello", DeadReason.UNFRAMED),
            "a record cut short": (CODEC.frame(record) + b"\x02", DeadReason.UNDECODABLE),
            "a task": (GOOD, DeadReason.WRONG_SCHEMA),
            "megabytes": (bytes(5_000_000), DeadReason.OVERSIZED),
            "no bytes": (b"", DeadReason.EMPTY_VALUE),
            "no value": (None, DeadReason.NULL_VALUE),
        }.items()
        # There it removes its key.
        if not (is_compacted and value is None)
    },
}


@dataclass(frozen=True)
class Found:
    """What became of everything. `dead` by the origin that a dead letter names."""

    places: Mapping[str, tuple[str, int, int]]
    dead: Mapping[tuple[str, int, int], list[tuple[ck.Message, DeadLetter]]]
    rows: list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def found(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """One run of the whole pipeline, a good task before and behind each stray."""
    folder = tmp_path_factory.mktemp("records")
    path = topology_file(REPOSITORY, folder, "wrong-records.")
    env = {"POINTSMAN_BROKER": broker, "POINTSMAN_TOPOLOGY": str(path)}
    with Fleet(broker, folder, path) as fleet:
        fleet.start("store", "worker", "host")
        places = written(broker, fleet.topology.topics())
        results = Wrong("", ["results", "--from-beginning", "-o", "jsonl"], ExitCode.OK, ["could not be decoded"], env)
        wait_for(lambda: len(dead_letters(broker, fleet.topology.topics().dead)) >= len(STRAYS), 60, "the dead letters")
        wait_for(lambda: len(run(results, folder).rows) > len(STRAYS), 60, "the results")
        said = run(results, folder)
        judge(results, said)
        # One task before each stray, and one at the end: each answered once.
        assert sorted(row["task_id"] for row in said.rows) == sorted(f"good-{n}" for n in range(len(STRAYS) + 1))
        assert {row["status"] for row in said.rows} == {"COMPLETED"}
        report = fleet.report(60)
        assert (report.tasks.accepted, report.tasks.results) == (len(STRAYS) + 1, len(STRAYS) + 1)
        # The audit reads no control topics: what is dead of them has no origin for it.
        unknown = sum(stray.topic in UNAUDITED for stray in STRAYS.values())
        assert [text for text in report.findings() if not text.startswith(f"dead topic: {unknown} surplus")] == []
        with closing(History(fleet.clickhouse)) as history:
            rows = history.query("SELECT origin_topic, origin_partition, origin_offset, reason FROM dead").rows
        yield Found(places, dead_letters(broker, fleet.topology.topics().dead), rows)
        for name in ("host", "worker", "store"):
            assert fleet.stop(name), f"{name} ends by itself"
            assert "Traceback" not in fleet.said(name)


def written(broker: str, topics: Topics) -> dict[str, tuple[str, int, int]]:
    """Where each stray lies: topic, partition, offset."""
    producer = ck.Producer(
        {
            "bootstrap.servers": broker,
            "partitioner": "murmur2_random",
            "message.max.bytes": 50_000_000,
            "compression.type": "zstd",
        }
    )
    places: dict[str, tuple[str, int, int]] = {}

    def note(name: str) -> Callable[[Any, ck.Message], None]:
        def noted(error: Any, message: ck.Message) -> None:
            assert error is None
            places[name] = (message.topic(), message.partition(), message.offset())

        return noted

    for number, (name, stray) in enumerate([*STRAYS.items(), ("", None)]):
        producer.produce(topics.submitted, QUESTION % f"good-{number}", key=f"good-{number}")
        if stray is not None:
            producer.produce(stray.topic(topics), stray.value, key=stray.key, on_delivery=note(name))
    assert producer.flush(30) == 0
    return places


def dead_letters(broker: str, topic: str) -> dict[tuple[str, int, int], list[tuple[ck.Message, DeadLetter]]]:
    letters: dict[tuple[str, int, int], list[tuple[ck.Message, DeadLetter]]] = {}
    for message in read_topic(broker, topic):
        letter = parse(message.headers() or [])
        assert letter.origin is not None
        letters.setdefault(letter.origin[:3], []).append((message, letter))
    return letters


@pytest.mark.parametrize("name", STRAYS)
def test_a_record_that_is_none_is_put_away_with_its_origin(name: str, found: Found) -> None:
    stray, place = STRAYS[name], found.places[name]
    # Two processes read an inbox or an agent's log, and either puts away what it cannot take: the origin tells that
    # both mean one record, and so the history has it once.
    assert 1 <= len(found.dead[place]) <= 2
    for message, letter in found.dead[place]:
        assert letter.reason == stray.reason, letter.detail
        assert (message.key(), message.value()) == (stray.key, None if letter.left_out else stray.value)
        assert letter.detail
        assert "travel" not in letter.detail
    assert found.rows.count((*place, stray.reason)) == 1


def test_nothing_else_is_dead(found: Found) -> None:
    assert set(found.dead) == set(found.places.values())
