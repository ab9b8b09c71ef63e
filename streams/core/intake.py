"""What a batch says, read once for all partitions in it: the columnar part of every decision.

A cell then takes the rows of its own partition, a task at a time. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.reasons import ResultReason
from streams.core.admission import refusals
from streams.core.columns import Events, Submissions, identities, outcomes, task_keys
from streams.core.policy import Policy
from streams.core.task import Identity, Outcome, TaskKey


@dataclass(frozen=True, slots=True)
class Intake:
    """Submissions, a value per row in each sequence; `refused` gives the rows that are refused, and why.

    `intents`, `confidences` and `tiers` are what the task states, else what phrase rules and its tenant's defaults make
    of it (rules R4 and R5 of docs/rules.md); those of refused rows mean nothing. `defaults_ms` is the time that the
    task may take where neither it nor its route says so (R3).
    """

    ids: Sequence[TaskKey]
    identities: Sequence[Identity]
    keys: Sequence[bytes]
    frames: Sequence[bytes]
    datums: Sequence[bytes]
    offsets: Sequence[int]
    appended_ms: Sequence[int]
    deadlines_ms: Sequence[int | None]
    defaults_ms: Sequence[int]
    intents: Sequence[str]
    confidences: Sequence[float]
    tiers: Sequence[str]
    refused: Mapping[int, ResultReason]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def read(cls, policy: Policy, submissions: Submissions, now_ms: int) -> Intake:
        batch = submissions.batch
        intents, confidences = _routes(policy, batch)
        tenants = batch.column("tenant")
        return cls(
            ids=task_keys(batch),
            identities=identities(batch),
            keys=submissions.keys,
            frames=submissions.frames,
            datums=submissions.datums,
            offsets=submissions.offsets,
            appended_ms=submissions.appended_ms,
            deadlines_ms=batch.column("deadline_ms").to_pylist(),
            defaults_ms=policy.defaults.deadlines_ms(tenants),
            intents=intents,
            confidences=confidences,
            tiers=policy.defaults.value_tiers(tenants, batch.column("value_tier")),
            refused=refusals(policy, batch, now_ms),
        )


def _routes(policy: Policy, batch: pa.RecordBatch) -> tuple[list[str], list[float]]:
    """Intent and confidence of each row."""
    stated = batch.column("confidence").to_pylist()
    intents: list[str] = batch.column("intent").to_pylist()
    confidences = [1.0 if each is None else each for each in stated]
    unstated = [row for row, intent in enumerate(intents) if intent is None]
    if unstated:
        matches = policy.rules.match(pc.take(batch.column("text"), pa.array(unstated)))
        names = policy.rules.intents
        found = zip(unstated, matches.intent_code.tolist(), matches.confidence.tolist(), strict=True)
        for row, code, confidence in found:
            intents[row] = names[code] if code >= 0 else policy.topology.default_route
            if stated[row] is None:
                confidences[row] = confidence
    return intents, confidences


@dataclass(frozen=True, slots=True)
class Heard:
    """Agents' events, a value per row in `ids` and `outcomes`; `events` for what is seldom asked."""

    ids: Sequence[TaskKey]
    outcomes: Sequence[Outcome]
    events: Events

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def read(cls, events: Events) -> Heard:
        return cls(task_keys(events.batch.column("task")), outcomes(events.batch), events)
