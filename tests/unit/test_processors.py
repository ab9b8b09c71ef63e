"""Router, consensus and outbox against a recording producer: from bytes to bytes, whatever the bytes are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from agents.notes import claims
from schemas.codec import FRAME_BYTES, Codec
from schemas.deadletter import Origin
from schemas.epochs import Epochs
from schemas.ids import agent_event_id
from schemas.reasons import DeadReason
from schemas.records import record, table
from schemas.registry import Entry, FileRegistry, missing
from schemas.runs import by_value
from schemas.topology import Agent, ConsensusPolicy, Fallback, Route, Topology
from streams.core import swift
from streams.core.cell import Cell
from streams.core.policy import Policy
from streams.processors.consensus import Consensus
from streams.processors.decided import shown
from streams.processors.frontier import Frontier
from streams.processors.outbox import Outbox
from streams.processors.router import Router
from streams.transport.batch import Batch, TopicPartition
from tests.support.recorder import DeadLetters

NOW = 1_700_000_000_000
PARTITIONS = 3
TOPOLOGY = Topology(
    partitions=PARTITIONS,
    agents={name: Agent(run="m:f", effect="read") for name in ("one", "two", "three")},
    routes={"work": Route(agents=("one", "two", "three"), fallback=Fallback(answer="nobody knows"))},
    consensus=ConsensusPolicy(panel_size=2),
    default_route="work",
)
TOPICS = TOPOLOGY.topics()
CODEC = Codec(FileRegistry.load(), 4_096)


class Recorder(DeadLetters):
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(TOPICS)
        self.sent: list[tuple[str, int, bytes, bytes | None]] = []

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        assert keys is not None
        for value, key in zip(values, keys, strict=True):
            assert value is not None
            self.sent.append((topic, partition, value, key))

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """Records of one topic, decoded."""
        values = [value for name, _, value, _ in self.sent if name == topic]
        decoded = CODEC.decode(values, TOPICS.record_of(topic) or "")
        assert not decoded.faults
        return list(decoded.batch.to_pylist())


class World:
    """All partitions of one worker."""

    def __init__(self) -> None:
        self.producer = Recorder()
        policy = Policy.compile(TOPOLOGY)
        self.cells = {number: Cell(policy, number) for number in range(PARTITIONS)}
        outbox = Outbox(TOPOLOGY, CODEC, self.producer)
        self.router = Router(policy, CODEC, outbox, self.cells)
        self.frontiers = {number: Frontier() for number in range(PARTITIONS)}
        self.consensus = Consensus(TOPOLOGY.agents, CODEC, outbox, self.cells, Epochs(), self.frontiers)


def batch(
    topic: str,
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None],
    partitions: Sequence[int] | None = None,
) -> Batch:
    n = len(values)
    numbers = np.array(partitions or [0] * n, np.int32)
    offsets = np.arange(100, 100 + n)
    ends = {(topic, int(number)): int(offset) for number, offset in zip(numbers, offsets, strict=True)}
    return Batch(
        topic, list(values), list(keys), [topic] * n, numbers, offsets, np.full(n, NOW - 5, np.int64), None, ends
    )


def submitted(**columns: Any) -> list[bytes]:
    n = len(columns["task_id"])
    return CODEC.encode(table("TaskSubmitted", {"text": "do it", "intent": "work", **columns}, n), "TaskSubmitted")


def test_a_task_becomes_a_dispatch_in_its_own_partition_under_its_own_key() -> None:
    world = World()
    ids = [f"t{number}" for number in range(7)]
    partitions = [2, 0, 2, 1, 0, 2, 2]
    values = submitted(task_id=ids, labels=[[("n", each)] for each in ids])
    world.router.handle(batch(TOPICS.submitted, values, [each.encode() for each in ids], partitions), NOW)
    sent = [(topic, partition, key) for topic, partition, _, key in world.producer.sent]
    assert sorted(sent) == sorted(
        (TOPICS.inbox("one"), partition, each.encode()) for each, partition in zip(ids, partitions, strict=True)
    )
    rows = world.producer.rows(TOPICS.inbox("one"))
    assert [row["task"]["task_id"] for row in rows] == ["t1", "t4", "t3", "t0", "t2", "t5", "t6"]
    assert all(row["task"]["labels"] == [("n", row["task"]["task_id"])] for row in rows)
    assert {row["slip"]["reason"] for row in rows} == {"ROUTED"}
    assert {cell.low_watermark() for cell in world.cells.values()} == {NOW - 5}


BAD: list[tuple[DeadReason, bytes | None, bytes | None]] = [
    (DeadReason.NULL_VALUE, None, b"x"),
    (DeadReason.EMPTY_VALUE, b"", b"x"),
    (DeadReason.UNFRAMED, b"\x07plain text", b"x"),
    (DeadReason.UNKNOWN_SCHEMA, b"\x00\x00\x0f\xff\xffdatum", b"x"),
    (DeadReason.WRONG_SCHEMA, CODEC.frame("TaskResult") + b"datum", b"x"),
    (DeadReason.UNDECODABLE, submitted(task_id=["x"])[0][:-20], b"x"),
    (DeadReason.INVALID_UTF8, submitted(task_id=["xyz"])[0].replace(b"xyz", b"\xff\xfe\xfd"), b"xyz"),
    (DeadReason.OVERSIZED, b"\x00" * 5_000, b"x"),
    (DeadReason.INVALID_KEY, submitted(task_id=["x"])[0], None),
    (DeadReason.INVALID_KEY, submitted(task_id=["x"])[0], b"\xff"),
    (DeadReason.KEY_MISMATCH, submitted(task_id=["x"])[0], b"y"),
    (DeadReason.KEY_MISMATCH, submitted(task_id=["x"], conversation_id=["c"])[0], b"x"),
]


@pytest.mark.parametrize(("reason", "value", "key"), BAD, ids=[f"{reason}-{n}" for n, (reason, _, _) in enumerate(BAD)])
def test_a_bad_record_is_one_dead_letter_and_costs_no_neighbour(
    reason: DeadReason, value: bytes | None, key: bytes | None
) -> None:
    world = World()
    good = submitted(task_id=["before", "after"])
    values, keys = [good[0], value, good[1]], [b"before", key, b"after"]
    world.router.handle(batch(TOPICS.submitted, values, keys, [1, 1, 2]), NOW)
    ((dead_value, dead_key, partition, letter),) = world.producer.dead
    assert (dead_value, dead_key, partition) == (value, key, 1)
    assert letter.reason == reason
    assert letter.origin == Origin(TOPICS.submitted, 1, 101, NOW - 5)
    assert letter.component == "router"
    assert {row["task"]["task_id"] for row in world.producer.rows(TOPICS.inbox("one"))} == {"before", "after"}


ABSURD: list[tuple[str, dict[str, Any]]] = [
    ("INVALID_CONFIDENCE", {"confidence": float("nan")}),
    ("INVALID_CONFIDENCE", {"confidence": 1.5}),
    ("INVALID_CONFIDENCE", {"confidence": -0.1}),
    ("INVALID_BUDGET", {"budget_microusd": -1}),
    ("INVALID_DEADLINE", {"deadline_ms": 0}),
    ("INVALID_DEADLINE", {"deadline_ms": 2**63 - 1}),
    ("INVALID_DEADLINE", {"deadline_ms": -(2**63)}),
    ("INVALID_DEPTH", {"depth": -1}),
    ("INVALID_SUBMITTED_AT", {"submitted_at": 2**63 - 1}),
    ("INVALID_TASK_ID", {"task_id": ""}),
    ("UNKNOWN_INTENT", {"intent": "no such thing"}),
]


@pytest.mark.parametrize(("reason", "fields"), ABSURD, ids=[f"{reason}-{n}" for n, (reason, _) in enumerate(ABSURD)])
def test_an_absurd_task_gets_a_result_that_says_why(reason: str, fields: dict[str, Any]) -> None:
    world = World()
    columns = {"task_id": "absurd", **fields}
    values = submitted(**{name: [value] for name, value in columns.items()})
    world.router.handle(batch(TOPICS.submitted, values, [columns["task_id"].encode()]), NOW)
    assert not world.producer.dead
    (result,) = world.producer.rows(TOPICS.results)
    assert (result["status"], result["reason"], result["task_id"]) == ("REJECTED", reason, columns["task_id"])
    (note,) = world.producer.rows(TOPICS.orchestrator)
    assert (note["kind"], note["reason"]) == ("REFUSED", reason)


def answers(
    dispatches: list[dict[str, Any]], answer: str, agent: str, epoch: int = 0, status: str = "COMPLETED"
) -> list[bytes]:
    kind = record("AgentEvent")
    rows = []
    for dispatch in dispatches:
        task, slip = dispatch["task"], dispatch["slip"]
        identity = {field.name: task.get(field.name) for field in kind.arrow.field("task").type}
        parts = (task["tenant"], task["task_id"], agent, slip["attempt"], slip["stage"], status)
        event_id = agent_event_id(*parts, epoch)
        rows.append(
            {**{name: kind.defaults.get(name) for name in kind.arrow.names}}
            | {"event_id": event_id, "kind": status, "slip": slip, "answer": answer, "confidence": 0.9}
            | {"epoch": epoch}
            | {"task": identity | {"deadline_ms": slip["deadline_default_ms"]}}
        )
    names = kind.arrow.names
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in names if name not in ("slip", "task")}
    structs = {name: pa.array([row[name] for row in rows], kind.arrow.field(name).type) for name in ("slip", "task")}
    return CODEC.encode(table("AgentEvent", {**columns, **structs}, len(rows)), "AgentEvent")


def test_two_voices_that_agree_are_one_result_with_their_votes() -> None:
    world = World()
    values = submitted(task_id=["t"], value_tier=["HIGH"], labels=[[("a", "b")]], traceparent=["00-1"])
    world.router.handle(batch(TOPICS.submitted, values, [b"t"], [1]), NOW)
    for agent in ("one", "two"):
        events = answers(world.producer.rows(TOPICS.inbox(agent)), "42", agent)
        world.consensus.handle(batch(TOPICS.events(agent), [*events, b"junk"], [b"t", None], [1, 1]), NOW + 10)
    (result,) = world.producer.rows(TOPICS.results)
    assert (result["status"], result["reason"], result["answer"]) == ("COMPLETED", "CONSENSUS", "42")
    assert [vote["agent_id"] for vote in result["votes"]] == ["one", "two"]
    assert (result["labels"], result["traceparent"]) == ([("a", "b")], "00-1")
    assert result["route_version"] == TOPOLOGY.version
    assert [(partition, key) for topic, partition, _, key in world.producer.sent if topic == TOPICS.results] == [
        (1, b"t")
    ]
    assert [letter.reason for _, _, _, letter in world.producer.dead] == [DeadReason.UNFRAMED] * 2


def test_what_a_zombie_writes_behind_its_successors_claim_is_noted_and_decides_nothing() -> None:
    world = World()
    world.router.handle(batch(TOPICS.submitted, submitted(task_id=["t"]), [b"t"], [1]), NOW)
    log, dispatches = TOPICS.events("one"), world.producer.rows(TOPICS.inbox("one"))
    claim = CODEC.encode(claims(["one"], {TopicPartition(log, 1): 7}), "AgentEvent")
    late = answers(dispatches, "by the zombie", "one", epoch=6)
    other = batch(TOPICS.events("two"), late, [b"t"], [1])
    assert world.consensus._epochs.void(other.topics, other.partitions, other.offsets, np.array([6])) is None
    world.consensus.handle(batch(log, [*claim, *late], [b"one", b"t"], [1, 1]), NOW + 10)
    assert world.producer.rows(TOPICS.results) == []
    (note,) = world.producer.rows(TOPICS.orchestrator)
    assert (note["kind"], note["reason"], note["task_id"], note["agent_id"]) == ("LATE_VOTE", "FENCED", "t", "one")
    of_owner = batch(log, answers(dispatches, "by the owner", "one", epoch=7), [b"t"], [1])
    of_owner.offsets = of_owner.offsets + 2
    world.consensus.handle(of_owner, NOW + 20)
    (result,) = world.producer.rows(TOPICS.results)
    assert result["answer"] == "by the owner"


def test_long_votes_are_shown_short_and_still_told_apart() -> None:
    assert shown("yes") == "yes"
    long = ["a" * 1_000, "a" * 1_001, "a" * 200_000, "a" * 200_000 + "b"]
    assert len({shown(vote) for vote in long}) == len(long)
    assert max(len(shown(vote)) for vote in long) == 1_000
    world = World()
    world.router.handle(batch(TOPICS.submitted, submitted(task_id=["t"], value_tier=["HIGH"]), [b"t"]), NOW)
    large = Codec(FileRegistry.load(), 400_000)
    outbox = Outbox(TOPOLOGY, large, world.producer)
    consensus = Consensus(TOPOLOGY.agents, large, outbox, world.cells, Epochs(), world.frontiers)
    for agent in ("one", "two", "three"):
        events = answers(world.producer.rows(TOPICS.inbox(agent)), "x" * 250_000, agent)
        consensus.handle(batch(TOPICS.events(agent), events, [b"t"]), NOW + 10)
    (value,) = [value for topic, _, value, _ in world.producer.sent if topic == TOPICS.results]
    assert len(value) < 300_000


def test_a_task_of_an_older_producer_keeps_its_own_bytes_and_one_of_no_known_pair_is_written_anew() -> None:
    shipped = FileRegistry.load()
    definition = json.loads(record("TaskSubmitted").avro)
    older = definition | {
        "fields": [each for each in definition["fields"] if each["name"] not in ("traceparent", "depth")]
    }
    lone = Entry(max(entry.id for entry in shipped.entries) + 1, "pointsman.TaskSubmitted", 90, older)
    paired = [*shipped.entries, lone, *missing([*shipped.entries, lone])]
    datum = BytesIO()
    fastavro.schemaless_writer(datum, fastavro.parse_schema(older), {"task_id": "t", "text": "do it", "intent": "work"})
    value = b"\x00" + lone.id.to_bytes(4, "big") + datum.getvalue()
    for entries, keeps_bytes in ((paired, True), ([*shipped.entries, lone], False)):
        codec, producer = Codec(FileRegistry(entries), 4_096), Recorder()
        policy = Policy.compile(TOPOLOGY)
        router = Router(policy, codec, Outbox(TOPOLOGY, codec, producer), {0: Cell(policy, 0)})
        router.handle(batch(TOPICS.submitted, [value, *submitted(task_id=["u"])], [b"t", b"u"]), NOW)
        dispatched = [sent for _, _, sent, _ in producer.sent]
        assert dispatched[0].endswith(datum.getvalue()) == keeps_bytes
        assert (dispatched[0][:FRAME_BYTES] == dispatched[1][:FRAME_BYTES]) != keeps_bytes
        decoded = codec.decode(dispatched, "TaskDispatched")
        assert not decoded.faults
        tasks = decoded.batch.column("task").to_pylist()
        assert [(task["task_id"], task["depth"], task["traceparent"]) for task in tasks] == [
            ("t", 0, None),
            ("u", 0, None),
        ]


def test_a_batch_of_which_nothing_can_be_read_decides_nothing() -> None:
    world = World()
    world.router.handle(batch(TOPICS.submitted, [b"", None], [b"x", b"y"], [0, 2]), NOW)
    world.consensus.handle(batch(TOPICS.events("one"), [b"", None], [b"x", b"y"], [0, 2]), NOW)
    assert (world.producer.sent, len(world.producer.dead)) == ([], 4)


def test_rows_by_owner() -> None:
    owners = np.array([3, 0, 3, 1, 0], np.int32)
    assert [(owner, rows.tolist()) for owner, rows in by_value(owners)] == [(0, [1, 4]), (1, [3]), (3, [0, 2])]
    assert by_value(owners[:0]) == []


def test_places_by_value() -> None:
    assert [(n, p.tolist()) for n, p in by_value(np.array([3, 1, 3, 1, 2], np.int32))] == [
        (1, [1, 3]),
        (2, [4]),
        (3, [0, 2]),
    ]
    assert [(n, p.tolist()) for n, p in by_value(np.array([5, 5], np.int32))] == [(5, [0, 1])]
    assert by_value(np.array([], np.int32)) == []


def test_columns_write_the_bytes_that_are_written_task_by_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single agents, panels of two, unsure and refused ones, with and without deadlines, over all partitions."""
    n = 60
    ids, partitions = [f"t{number}" for number in range(n)], [number % PARTITIONS for number in range(n)]
    values = submitted(
        task_id=ids,
        conversation_id=["c" if number % 2 else None for number in range(n)],
        confidence=[(0.9, 0.65, 0.3, 7.0, 0.65)[number % 5] for number in range(n)],
        deadline_ms=[NOW + 1_000 + number if number % 3 else None for number in range(n)],
        labels=[[("n", each)] for each in ids],
        submitted_at=[NOW * 1000 - number for number in range(n)],
    )
    keys = [b"c" if number % 2 else each.encode() for number, each in enumerate(ids)]
    written = []
    for rows_min in (1, n * n):
        monkeypatch.setattr(swift, "ROWS_MIN", rows_min)
        world = World()
        world.router.handle(batch(TOPICS.submitted, values, keys, partitions), NOW)
        events: list[tuple[bytes, bytes, int]] = []
        for agent in ("one", "two", "three"):
            asked = [sent for sent in world.producer.sent if sent[0] == TOPICS.inbox(agent)]
            said = answers(world.producer.rows(TOPICS.inbox(agent)), "yes" if agent == "one" else "Yes ", agent)
            events += [(value, key or b"", number) for value, (_, number, _, key) in zip(said, asked, strict=True)]
        world.consensus.handle(batch(TOPICS.events("one"), *map(list, zip(*events, strict=True))), NOW + 10)
        statuses = {(row["status"], row["reason"]) for row in world.producer.rows(TOPICS.results)}
        assert {("COMPLETED", "ANSWERED"), ("COMPLETED", "CONSENSUS"), ("REJECTED", "INVALID_CONFIDENCE")} <= statuses
        assert len(world.producer.rows(TOPICS.results)) == n
        written.append(world.producer.sent)
    swiftly, one_by_one = written
    assert sorted(swiftly, key=repr) == sorted(one_by_one, key=repr)
    for agent in ("one", "two", "three"):
        inbox = [[sent for sent in each if sent[0] == TOPICS.inbox(agent)] for each in written]
        assert inbox[0] == inbox[1], "and in the same order"
