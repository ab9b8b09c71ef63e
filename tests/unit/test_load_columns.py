"""The audit in columns finds what the scalar one finds, of any log; and hashes tell equal facts from others."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from loadtest.audit_log import Log, LogReader
from loadtest.auditor import audit_tasks
from loadtest.column_audit import audit_columns, kept, of_run
from loadtest.column_log import ColumnLog, ColumnReader, DeadReader, hashed
from loadtest.decisions import misattributed
from schemas.codec import Codec
from schemas.deadletter import Origin, headers
from schemas.records import table
from schemas.redrive import Redriven, marker_headers
from schemas.topics import Topics
from streams.transport.batch import Batch
from tests.support.wire import new_codec

TOPICS = Topics(agents=("alpha", "beta"), partitions=2)
CODEC = new_codec()
SLIP = {
    "intent": "money",
    "confidence": 0.9,
    "reason": "ROUTED",
    "route_version": "1",
    "attempts": 1,
    "timeout_ms": 5,
    "deadline_default_ms": 5,
}
CHECKS = ("lost", "duplicated", "out_of_order", "unasked", "asked_twice")


class Topic:
    """What one topic holds, partition by partition."""

    def __init__(self, name: str, record: str) -> None:
        self.name, self.record = name, record
        self.rows: dict[int, list[dict[str, Any]]] = {0: [], 1: []}

    def batches(self, codec: Codec) -> list[Batch]:
        return [batch_of(self.name, self.record, number, rows, codec) for number, rows in self.rows.items() if rows]


def batch_of(topic: str, record: str, partition: int, rows: list[dict[str, Any]], codec: Codec) -> Batch:
    n = len(rows)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    for part in {"slip", "task"} & {*columns}:
        columns[part] = {name: [row[part][name] for row in rows] for name in rows[0][part]}
    keys = [(row.get("conversation_id") or row.get("task_id") or "k").encode() for row in rows]
    return Batch(
        topic,
        [*codec.encode(table(record, columns, n), record)],
        [*keys],
        [topic] * n,
        np.full(n, partition, np.int32),
        np.arange(n),
        1_000 + np.arange(n),
        None,
        {(topic, partition): n - 1},
    )


def number_of(who: dict[str, Any]) -> int:
    return int(who["task_id"][1:])


def play(seed: int) -> list[Topic]:
    """A run in which much goes wrong: tasks without an end, with two, dispatches out of order, twice, to nobody."""
    dice = Random(seed)
    submitted, results = Topic(TOPICS.submitted, "TaskSubmitted"), Topic(TOPICS.results, "TaskResult")
    inboxes = {agent: Topic(TOPICS.inbox(agent), "TaskDispatched") for agent in TOPICS.agents}
    logs = {agent: Topic(TOPICS.events(agent), "AgentEvent") for agent in TOPICS.agents}
    tasks = []
    for number in range(dice.randint(1, 25)):
        who: dict[str, Any] = {
            "task_id": f"t{dice.randint(0, 30)}",
            "tenant": dice.choice(["default", "acme"]),
            "conversation_id": dice.choice([None, "c", "d"]),
        }
        tasks.append((number_of(who) % 2, who))
        submitted.rows[tasks[-1][0]].append({**who, "text": "x", "submitted_at": number})
    for partition, who in tasks if dice.random() < 0.5 else dice.sample(tasks, len(tasks)):
        for attempt in range(1, dice.choice([2, 2, 2, 3])):
            slip: dict[str, Any] = {
                **SLIP,
                "agent_id": dice.choice(TOPICS.agents),
                "attempt": attempt,
                "stage": dice.choice(["WORK", "WORK", "WORK", "REGROUND"]),
                "panel": dice.choice([[], ["alpha", "beta"]]),
                "routed_at": dice.choice([1, 1, 2]),
            }
            inboxes[slip["agent_id"]].rows[partition].append({"slip": slip, "task": {**who, "text": "x"}})
            if dice.random() < 0.1:
                slip = {**slip, "attempt": 9}
            identity: dict[str, Any] = {
                **who,
                "root_id": None,
                "cause_id": None,
                "depth": 0,
                "labels": [],
                "traceparent": None,
            }
            logs[slip["agent_id"]].rows[partition].append(
                {
                    "event_id": f"e{len(logs[slip['agent_id']].rows[partition])}",
                    "kind": dice.choice(["COMPLETED", "STARTED"]),
                    "slip": slip,
                    "task": {**identity, "submitted_at": 0, "deadline_ms": 0},
                    "agent_version": "1",
                    "epoch": 1,
                    "started_at": 1,
                    "finished_at": 2,
                }
            )
        if dice.random() > 0.1:
            for _ in range(dice.choice([1, 1, 1, 1, 2])):
                results.rows[partition].append(
                    {**who, "status": "COMPLETED", "reason": "ANSWERED", "submitted_at": 0, "decided_at": 5}
                )
    if dice.random() < 0.3:
        results.rows[0].append(
            {
                "task_id": "stranger",
                "tenant": "acme",
                "conversation_id": None,
                "status": "COMPLETED",
                "reason": "ANSWERED",
                "submitted_at": 0,
                "decided_at": 5,
            }
        )
    return [submitted, *inboxes.values(), *logs.values(), results]


def read(topics: list[Topic]) -> tuple[ColumnLog, Log]:
    columns, plain = ColumnReader(TOPICS, CODEC), LogReader(TOPICS, CODEC)
    for topic in topics:
        for batch in topic.batches(CODEC):
            columns.take(batch)
            plain.take(batch)
    return columns.log(plain.log.dead), plain.log


@pytest.mark.parametrize("seeds", [range(start, start + 60) for start in (0, 60, 120)])
def test_it_finds_what_the_scalar_audit_finds(seeds: range) -> None:
    found = dict.fromkeys(CHECKS, 0)
    for seed in seeds:
        columns, log = read(play(seed))
        audit = audit_columns(columns)
        twin = audit_tasks(log.submissions, log.dispatches, log.outcomes, log.results)
        for name in CHECKS:
            keys = getattr(twin, name)
            assert audit.breaches[name].count == len(keys), (seed, name)
            hashes = pl.DataFrame(keys, schema=["tenant", "task_id"], orient="row").select(hashed("tenant", "task_id"))
            assert set(audit.breaches[name].keys) <= set(hashes.to_series().to_list()), (seed, name)
            found[name] += len(keys)
        assert audit.accepted == twin.accepted
        assert (audit.submitted, audit.results, audit.dispatches) == (twin.submitted, twin.results, twin.dispatches)
    assert all(found.values()), found


def test_a_task_that_was_delivered_and_is_not_in_the_topic_is_told() -> None:
    columns, _ = read(play(1))
    keys = columns.submissions["key"]
    assert audit_columns(columns, keys.unique()).breaches["unrecorded"].count == 0
    more = pl.concat([keys.unique(), pl.Series("key", [5], dtype=pl.UInt64)])
    assert audit_columns(columns, more).breaches["unrecorded"].count == 1


def test_what_the_history_lacks_repeats_or_made_up_is_counted() -> None:
    facts = pl.Series([1, 2, 3, 3], dtype=pl.UInt64)
    whole = kept(facts, pl.Series([3, 2, 1], dtype=pl.UInt64))
    assert (whole.expected, whole.complete) == (3, True)
    torn = kept(facts, pl.Series([1, 1, 9], dtype=pl.UInt64))
    assert (torn.missing, torn.surplus, torn.repeated, torn.complete) == (2, 1, 1, False)
    ends = pl.Series([0, 2**64 - 1], dtype=pl.UInt64)
    worn = kept(ends, pl.Series([0, 0, 0, 5, 5], dtype=pl.UInt64))
    assert (worn.missing, worn.surplus, worn.repeated) == (1, 1, 2)
    nothing = pl.Series([], dtype=pl.UInt64)
    assert kept(nothing, nothing).complete
    assert (kept(ends, nothing).missing, kept(nothing, ends).surplus) == (2, 2)


def test_records_that_are_none_must_be_among_the_dead() -> None:
    topics = play(2)
    [first, *_] = topics[0].batches(CODEC)
    first.values[0] = b"garbage"
    reader = ColumnReader(TOPICS, CODEC)
    reader.take(first)
    place = (TOPICS.submitted, int(first.partitions[0]), 0)
    assert audit_columns(reader.log()).breaches["unburied"].count == 1
    assert audit_columns(reader.log([place])).breaches["unburied"].count == 0
    assert audit_columns(reader.log([place, (TOPICS.results, 0, 7)])).breaches["unburied"].count == 1


def test_a_marker_of_a_redrive_is_no_dead_letter() -> None:
    """Its letter may be older than what is audited, and the record that was put away mended since."""
    place, mended = Origin(TOPICS.submitted, 1, 7, 1_000), Origin(TOPICS.submitted, 1, 3, 1_000)
    marker = marker_headers(Redriven(mended, letter_offset=0, to_offset=9, attempt=1, at_ms=2_000))
    first = play(2)[0].batches(CODEC)[0].take(np.arange(2))
    batch = replace(first, channel=TOPICS.dead, headers=[headers(place, "UNFRAMED", "", "worker"), marker])
    columns, objects = DeadReader(), LogReader(TOPICS, CODEC)
    columns.take(batch)
    objects.take(batch)
    assert columns.places == objects.log.dead == {place[:3]}


def test_a_result_that_repeats_another_submission_is_misattributed() -> None:
    who = {"task_id": "a", "tenant": "default", "conversation_id": "c"}
    submitted, results = Topic(TOPICS.submitted, "TaskSubmitted"), Topic(TOPICS.results, "TaskResult")
    submitted.rows[0].append({**who, "text": "x", "submitted_at": 5})
    for sent, conversation in ((5, "c"), (6, "c"), (5, None)):
        results.rows[0].append(
            {
                **who,
                "conversation_id": conversation,
                "status": "COMPLETED",
                "reason": "ANSWERED",
                "submitted_at": sent,
                "decided_at": 9,
            }
        )
    columns, _ = read([submitted, results])
    assert misattributed(columns).count == 2


def test_on_a_deployment_that_serves_others_only_the_runs_own_tasks_count() -> None:
    columns, _ = read(play(3))
    mine = columns.submissions["key"].unique().head(2)
    own = of_run(columns, mine)
    assert set(own.submissions["key"].to_list()) == set(mine.to_list())
    assert all(frame.join(mine.to_frame(), on="key", how="anti").is_empty() for frame in own.frames.values())


def test_hashes_are_the_same_in_whatever_frame_and_differ_where_values_do() -> None:
    frame = pl.DataFrame({"a": ["x", "x", "y", None], "b": [1, 2, 1, 1]})
    whole = frame.select(hashed("a", "b")).to_series().to_list()
    assert len(set(whole)) == 4
    parts = [frame[row : row + 1].select(hashed("a", "b")).to_series().to_list()[0] for row in range(4)]
    assert parts == whole
