"""Whether a peer decided as the oracle does: every record that it wrote, field by field, in its place and order.

The oracle (`loadtest.oracle`) reads the submissions as they stand in the topic, once for all peers. Times are the only
thing in which peers may differ; they have to lie within the run and to agree with each other. I/O: none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any, TypeAlias

from loadtest.oracle import Action, Dispatch, Note, Oracle, Result
from schemas.ids import fact_id
from schemas.topics import Topics
from schemas.topology import Topology

Record: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[str, int]
"""A topic and a partition of it."""
Written: TypeAlias = tuple[bytes | None, bytes | None]
"""Key and value of a record, as a peer wrote it."""

NOW_MS = 1_800_000_000_000
# An oracle remembers every task; each is asked about as many as stay cheap.
ORACLE_TASKS = 500
EXAMPLES_MAX = 3
UNREADABLE = (ValueError, EOFError, IndexError)
SKEW_US = 1_000_000
TIMES = frozenset({"routed_at", "deadline_default_ms", "decided_at", "at"})


@dataclass(frozen=True, slots=True)
class Expected:
    """One record that must be written. `rest_ms`: what a dispatch's deadline is later than its routing."""

    key: bytes
    record: Mapping[str, Any]
    rest_ms: int = 0


@dataclass
class Judge:
    """What must stand in each topic-partition, in order. `take` a partition's submissions in offset order."""

    topology: Topology
    expected: dict[Place, list[Expected]] = field(default_factory=dict)

    def take(self, partition: int, submissions: Iterable[tuple[bytes, Record]]) -> None:
        """Keys and records of one partition."""
        topics, oracle = self.topology.topics(), Oracle(self.topology, partition)
        for number, (key, task) in enumerate(submissions, 1):
            if number % ORACLE_TASKS == 0:
                oracle = Oracle(self.topology, partition)
            actions = oracle.submit(task, NOW_MS)
            intent = next(action.intent for action in actions if not isinstance(action, Note))
            for action in actions:
                topic, expected = self._expected(action, topics, key, task, intent)
                self.expected.setdefault((topic, partition), []).append(expected)

    def _expected(
        self, action: Action, topics: Topics, key: bytes, task: Record, intent: str | None
    ) -> tuple[str, Expected]:
        """The topic of an action, and the record that says it, but for the times."""
        version = self.topology.version
        if isinstance(action, Dispatch):
            record = {"slip": _slip(action, version), "task": task}
            return topics.inbox(action.agent_id), Expected(key, record, action.deadline_ms - action.routed_at_ms)
        if isinstance(action, Result):
            return topics.results, Expected(key, _result(action, task, version))
        return topics.orchestrator, Expected(key, _note(action, task, intent, version))


def _slip(action: Dispatch, version: str) -> Record:
    same = ("agent_id", "attempt", "seat", "stage", "intent", "confidence", "band", "reason", "value_tier")
    sums = ("cost_microusd", "tokens", "probe_epoch", "timeout_ms")
    return {
        **{name: getattr(action, name) for name in (*same, *sums)},
        "panel": list(action.panel),
        "chain": list(action.chain),
        "attempts": action.attempt,
        "route_version": version,
    }


def _result(action: Result, task: Record, version: str) -> Record:
    same = ("labels", "traceparent", "status", "reason", "intent", "answer", "payload", "confidence")
    sums = ("attempts", "cost_microusd", "tokens", "submitted_at")
    return {
        **_names(task),
        **{name: getattr(action, name) for name in (*same, *sums)},
        "agents": list(action.agents),
        "votes": [],
        "dissent": list(action.dissent),
        "route_version": version,
    }


def _note(action: Note, task: Record, intent: str | None, version: str) -> Record:
    parts = (action.tenant, action.task_id, action.kind, action.reason, action.agent_id or "", 0, "UNKNOWN")
    return {
        **_names(task),
        "event_id": fact_id(*parts),
        "kind": action.kind,
        "reason": action.reason,
        "agent_id": action.agent_id,
        "root_id": task["root_id"],
        "submitted_at": task["submitted_at"],
        "intent": intent,
        "attempt": 0,
        "seat": 0,
        "stage": "UNKNOWN",
        "detail": None,
        "route_version": version,
    }


def _names(task: Record) -> Record:
    return {name: task[name] for name in ("task_id", "tenant", "conversation_id")}


@dataclass(frozen=True)
class Verdict:
    """How many records were looked at and how many are wrong, with a few examples."""

    records: int
    wrong: int
    examples: tuple[str, ...]

    @property
    def reason(self) -> str | None:
        """Why the peer is void; None where it decided as the oracle does."""
        return (
            None if not self.wrong else f"{self.wrong} of {self.records} records are wrong: {'; '.join(self.examples)}"
        )


def compare(
    expected: Mapping[Place, Sequence[Expected]],
    written: Mapping[Place, Sequence[Written]],
    decode: Callable[[str, bytes], Record],
    began_us: int,
    ended_us: int,
) -> Verdict:
    """Holds all that was written between two times of the clock against all that had to be.

    `decode` gives the record of a value in a topic; it raises ValueError where there is none.
    """
    within = range(began_us - SKEW_US, ended_us + SKEW_US)
    wrong = 0
    examples: list[str] = []
    for topic, partition in sorted(expected.keys() | written.keys()):
        place = (topic, partition)
        pairs = zip_longest(*_paired(expected.get(place, ()), written.get(place, ()), partial(decode, topic)))
        for number, (want, have) in enumerate(pairs):
            fault = _fault(want, have, partial(decode, topic), within)
            if fault is not None:
                wrong += 1
                if len(examples) < EXAMPLES_MAX:
                    examples.append(f"{topic}[{partition}] record {number}: {fault}")
    return Verdict(sum(map(len, written.values())), wrong, tuple(examples))


def _paired(
    wanted: Sequence[Expected], found: Sequence[Written], decode: Callable[[bytes], Record]
) -> tuple[Sequence[Expected], Sequence[Written]]:
    """An agent gets its dispatches in the order of submission; results and notes may overtake, so they go by task."""
    if any("slip" in want.record for want in wanted):
        return wanted, found

    def task_id(have: Written) -> str:
        try:
            return str(decode(have[1] or b"").get("task_id"))
        except UNREADABLE:
            return ""

    return sorted(wanted, key=lambda want: str(want.record["task_id"])), sorted(found, key=task_id)


def _fault(want: Expected | None, have: Written | None, decode: Callable[[bytes], Record], within: range) -> str | None:
    if have is None:
        return "is missing"
    if want is None:
        return "is one too many"
    key, value = have
    if key != want.key:
        return f"key {key!r}, not {want.key!r}"
    try:
        record = decode(value or b"")
    except UNREADABLE as error:
        return f"cannot be decoded: {error!r:.100}"
    return _difference(want.record, record) or _time_fault(want, record, within)


def _difference(want: Mapping[str, Any], have: Mapping[str, Any], path: str = "") -> str | None:
    """The first field in which they differ; times are looked at elsewhere."""
    for name, value in want.items():
        other = have.get(name, "nothing")
        if isinstance(value, dict) and isinstance(other, dict):
            if fault := _difference(value, other, f"{path}{name}."):
                return fault
        elif value != other and not _is_close(value, other):
            return f"{path}{name} is {other!r}, not {value!r}"
    surplus = have.keys() - want.keys() - TIMES
    return f"{path}{min(surplus)} is not known" if surplus else None


def _is_close(one: object, other: object) -> bool:
    """The oracle does not round its products; the pipeline does, to twelve decimals."""
    return isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, abs_tol=1e-9)


def _time_fault(want: Expected, have: Record, within: range) -> str | None:
    slip = have.get("slip")
    at: Any = have.get("decided_at", have.get("at")) if slip is None else slip["routed_at"]
    if at not in within:
        return f"decided at {at}, outside of the run"
    if slip is not None and slip["deadline_default_ms"] - at // 1000 != want.rest_ms:
        return f"slip.deadline_default_ms is {slip['deadline_default_ms']}, not {want.rest_ms} ms after it was routed"
    return None
