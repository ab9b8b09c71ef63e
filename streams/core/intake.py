"""What a batch says, read once for all partitions in it: the columnar part of every decision.

A cell then takes the rows of its own partition. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import ResultReason
from streams.core.admission import refusals
from streams.core.columns import Events, Outcomes, Submissions, filled, labels, task_keys
from streams.core.factor import factor
from streams.core.hearing import Hearing
from streams.core.policy import Policy
from streams.core.task import Identity, TaskKey

TIERS = ("UNKNOWN", "LOW", "MEDIUM", "HIGH")
_TIERS = pa.array(TIERS)

UNSTATED_MS = 0
"""Stands for a deadline that the task does not state; one that states it is refused."""


class Kind(NamedTuple):
    """What a plan depends on besides breakers: tasks of one kind are planned alike.

    What the task states, else what phrase rules and its tenant's defaults make of it (rules R4 and R5 of
    docs/rules.md). `default_ms` is the time that it may take where neither it nor its route says so (R3).
    """

    intent: str
    confidence: float
    tier: str
    default_ms: int


@dataclass
class Intake:
    """Submissions, a value per row in each column; `refused` gives the rows that are refused, and why.

    `kind` (int64) is an index into `kinds`; that of a refused row means nothing. `deadlines_ms` (int64) are those that
    tasks state, else UNSTATED_MS. `sizes` (int64) is what a task takes while in flight, in bytes. The first `ahead`
    bytes of each of `datums` are no part of it.
    """

    batch: pa.RecordBatch
    ids: Sequence[TaskKey]
    keys: Sequence[bytes]
    frames: Sequence[bytes]
    datums: Sequence[bytes]
    offsets: Sequence[int]
    appended_ms: Sequence[int]
    sizes: npt.NDArray[np.int64]
    deadlines_ms: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    kinds: Sequence[Kind]
    refused: Mapping[int, ResultReason]
    ahead: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def read(cls, policy: Policy, submissions: Submissions, now_ms: int) -> Intake:
        batch, n = submissions.batch, submissions.batch.num_rows
        kind, kinds = _kinds(policy, batch)
        lengths = (np.fromiter(map(len, column), np.int64, n) for column in (submissions.keys, submissions.datums))
        return cls(
            batch=batch,
            ids=task_keys(batch),
            keys=submissions.keys,
            frames=submissions.frames,
            datums=submissions.datums,
            offsets=submissions.offsets,
            appended_ms=submissions.appended_ms,
            sizes=sum(lengths, np.full(n, -submissions.ahead, np.int64)),
            deadlines_ms=filled(batch.column("deadline_ms"), UNSTATED_MS),
            kind=kind,
            kinds=kinds,
            refused=refusals(policy, batch, now_ms),
            ahead=submissions.ahead,
        )

    @cached_property
    def is_refused(self) -> npt.NDArray[np.bool_]:
        mask = np.zeros(len(self), np.bool_)
        mask[list(self.refused)] = True
        return mask

    @cached_property
    def _identities(self) -> list[list[Any]]:
        names = ("conversation_id", "labels", "traceparent", "submitted_at", "root_id")
        return [_plain(self.batch.column(name)) for name in names]

    def identity(self, row: int) -> Identity:
        """What results and notes repeat of the row's task; made when it is asked for, for few rows are."""
        conversations, labels_, parents, submitted, roots = self._identities
        return Identity(conversations[row], labels_[row], parents[row], submitted[row], roots[row])


def _plain(column: pa.Array) -> list[Any]:
    """The column as Python values; what no task states, and what are numbers, by a quicker way than Arrow's."""
    if pa.types.is_map(column.type):
        return labels(column)
    if column.null_count == len(column):
        return [None] * len(column)
    is_plain = pa.types.is_integer(column.type) and not column.null_count
    return list(column.to_numpy().tolist() if is_plain else column.to_pylist())


def _kinds(policy: Policy, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], list[Kind]]:
    """The kind of each row, and the kinds: intent, confidence, tier and default as one number, and that by hash."""
    routes = policy.rules.intents
    intents, confidences = _routes(policy, batch)
    tenants = batch.column("tenant")
    stated = policy.defaults.value_tiers(tenants, batch.column("value_tier"))
    tiers = pc.index_in(stated, value_set=_TIERS)
    sure, confidence_of = factor(confidences)
    given, default_of = factor(policy.defaults.deadlines_ms(tenants))
    code = (sure * len(routes) + np.maximum(intents, 0)) * len(TIERS) + filled(tiers, 0)
    kind, distinct = factor(code * max(len(default_of), 1) + given)
    kinds = []
    for number in distinct.tolist():
        rest, default = divmod(number, len(default_of))
        rest, tier = divmod(rest, len(TIERS))
        confidence, intent = divmod(rest, len(routes))
        kinds.append(Kind(routes[intent], float(confidence_of[confidence]), TIERS[tier], int(default_of[default])))
    return kind, kinds


def _routes(policy: Policy, batch: pa.RecordBatch) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Intent, as an index into the rules' intents (-1: one that is unknown), and confidence of each row."""
    rules, stated = policy.rules, batch.column("confidence")
    confidences = filled(stated, 1.0)
    intents = filled(pc.index_in(batch.column("intent"), value_set=policy.intents), -1).astype(np.int64)
    unstated = np.flatnonzero(batch.column("intent").is_null())
    if len(unstated):
        matches = rules.match(batch.column("text").take(pa.array(unstated)))
        default = rules.intents.index(policy.topology.default_route)
        intents[unstated] = np.where(matches.intent_code >= 0, matches.intent_code, default)
        guessed = stated.is_null().to_numpy(zero_copy_only=False)[unstated]
        confidences = confidences.copy()
        confidences[unstated[guessed]] = matches.confidence[guessed]
    return intents, confidences


@dataclass
class Heard:
    """Agents' events, a value per row; `outcomes` makes those that are asked for.

    `hearing` is what they say in columns, the same for all cells: streams/core/hearing.py.
    """

    ids: Sequence[TaskKey]
    outcomes: Outcomes
    events: Events
    _hearing: Hearing | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def read(cls, events: Events) -> Heard:
        return cls(task_keys(events.batch.column("task")), Outcomes(events.batch), events)

    def hearing(self, policy: Policy) -> Hearing:
        """Read at the first call; all cells of a worker have one policy."""
        if self._hearing is None:
            self._hearing = Hearing.read(policy, self.events.batch)
        return self._hearing
