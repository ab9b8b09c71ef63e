"""What cells have decided, as columns of the records TaskResult and OrchestratorEvent.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import fact_id
from schemas.records import record, table
from streams.core.cohort import ENDINGS, PAIR
from streams.core.columns import columns_of
from streams.core.consensus import Vote
from streams.core.effects import Note, Result
from streams.core.in_columns import UNSURE_KIND, UNSURE_REASON, Agreed, Answered, Settled, Unsure
from streams.core.intake import Intake
from streams.core.pairs import best, by_seat
from streams.core.task import Identity, TaskKey

VOTE_CHARS_MAX = 1_000


def shown(vote: str) -> str:
    """What a result shows of a vote: a long one by its beginning and a hash, equal where the votes are equal.

    Voters answer in up to a quarter of a MiB each; all of them together would be more than a broker takes.
    """
    if len(vote) <= VOTE_CHARS_MAX:
        return vote
    return f"{vote[: VOTE_CHARS_MAX - 34]}… {fact_id(vote)}"


def result_columns(results: Sequence[Result], route_version: str) -> dict[str, Any]:
    """Columns of the record TaskResult, of Python values."""
    columns = columns_of(Result, results)
    identities = columns.pop("identity")
    columns |= {**_ids(columns.pop("id"), identities), "route_version": route_version}
    columns["votes"] = [list(map(_vote, votes)) for votes in columns["votes"]]
    columns |= {name: [getattr(each, name) for each in identities] for name in ("labels", "traceparent")}
    for name in ("key", "failed_agents"):
        del columns[name]
    return columns


def _vote(vote: Vote) -> dict[str, Any]:
    """What a result shows of one."""
    return {"agent_id": vote.agent_id, "vote": shown(vote.key), "confidence": vote.confidence, "weight": vote.weight}


def result_table(answered: Sequence[Answered], agreed: Sequence[Agreed], route_version: str) -> pa.RecordBatch:
    """Columns of the record TaskResult: first of those that were answered, then of those that agreed, all of one turn.

    One table for both: a call of Arrow costs as much as many rows.
    """
    parts: list[Answered | Agreed] = [*answered, *agreed]
    rows, endings = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "endings"))
    codes, last = pa.array(endings), parts[-1]
    said = [*([_of_answered(answered)] if answered else []), *([_of_agreed(agreed)] if agreed else [])]
    columns = {
        **_brought_back(last.batch, rows, last.decided_at, route_version),
        "status": _STATUSES.take(codes),
        "reason": _REASONS.take(codes),
        **{name: pa.concat_arrays([each[name] for each in said]) for name in said[0]},
    }
    return table("TaskResult", columns, len(rows))


_STATUSES = pa.array([ending.status for ending in ENDINGS])
_REASONS = pa.array([ending.reason.value for ending in ENDINGS])


def _of_answered(parts: Sequence[Answered]) -> dict[str, pa.Array]:
    """What the last agent said, and what those before it took."""
    batch = parts[0].batch
    rows, attempts, past_cost, past_tokens = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("rows", "attempts", "past_cost", "past_tokens")
    )
    cost, tokens_in, tokens_out = (
        batch.column(name).to_numpy()[rows] for name in ("cost_microusd", "tokens_in", "tokens_out")
    )
    return {
        **{name: batch.column(name).take(rows) for name in ("answer", "payload")},
        "confidence": pa.array(parts[0].hearing.confidence[rows]),
        "agents": _lists(batch.column("slip").field("agent_id").take(rows), 1),
        "votes": pa.array([[]] * len(rows), _VOTES),
        "attempts": pa.array(attempts, pa.int32()),
        "cost_microusd": pa.array(cost + past_cost),
        "tokens": pa.array(tokens_in + tokens_out + past_tokens),
    }


def _of_agreed(parts: Sequence[Agreed]) -> dict[str, pa.Array]:
    """What both said."""
    voices = pa.concat_batches([part.voices for part in parts])
    lower, higher = by_seat(voices, "confidence")
    agents = parts[0].policy.agent_columns.names.take(voices.column("agent"))
    return {
        **{name: voices.column(name).take(pa.array(best(voices))) for name in ("answer", "payload")},
        "confidence": pa.array((lower + higher) / 2),
        "agents": _lists(agents, PAIR),
        "votes": _lists(_votes(agents, voices), PAIR).cast(_VOTES),
        "attempts": pa.array(np.full(len(lower), PAIR, np.int32)),
        **{name: pa.array(sum(by_seat(voices, name))) for name in ("cost_microusd", "tokens")},
    }


_VOTES = record("TaskResult").arrow.field("votes").type


def _votes(agents: pa.StringArray, voices: pa.RecordBatch) -> pa.StructArray:
    """What results show of them."""
    key = voices.column("key")
    if pc.max(pc.utf8_length(key)).as_py() > VOTE_CHARS_MAX:
        key = pa.array(map(shown, key.to_pylist()), pa.string())
    columns = [agents, key, voices.column("confidence"), voices.column("weight")]
    return pa.StructArray.from_arrays(columns, fields=list(_VOTES.value_type))


def _brought_back(
    batch: pa.RecordBatch, rows: npt.NDArray[np.int64], decided_at: int, route_version: str
) -> dict[str, Any]:
    """What a result repeats of events."""
    slip, task = batch.column("slip"), batch.column("task")
    return {
        **{name: task.field(name).take(rows) for name in _REPEATED},
        "intent": slip.field("intent").take(rows),
        "decided_at": decided_at,
        "route_version": route_version,
    }


def _lists(values: pa.Array, size: int) -> pa.ListArray:
    """Lists of so many values each."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, size, dtype=np.int32)), values)


def settled_table(settled: Sequence[Settled], route_version: str) -> pa.RecordBatch:
    """Columns of the record TaskResult, of tasks of one turn of which nobody was asked."""
    first, rows = settled[0], np.concatenate([part.rows for part in settled])
    intake = first.intake
    # Cells that see other agents blocked may end tasks of a kind in other ways.
    endings = [ending for part in settled for ending in part.endings]
    columns = {
        **{name: intake.batch.column(name).take(pa.array(rows)) for name in _REPEATED},
        "status": [ending.status for ending in endings],
        "reason": [ending.reason.value for ending in endings],
        "answer": [ending.text for ending in endings],
        "intent": _intents(intake, rows),
        "decided_at": first.decided_at,
        "route_version": route_version,
    }
    return table("TaskResult", columns, len(rows))


_REPEATED = ("task_id", "tenant", "conversation_id", "labels", "traceparent", "submitted_at")


def unsure_table(unsure: Sequence[Unsure], route_version: str) -> pa.RecordBatch:
    """Columns of the record OrchestratorEvent, of tasks of one turn of which nobody was sure."""
    first, rows = unsure[0], np.concatenate([part.rows for part in unsure])
    intake = first.intake
    columns = {
        **{name: intake.batch.column(name).take(pa.array(rows)) for name in _NAMED},
        "event_id": [event_id for part in unsure for event_id in part.event_ids],
        "kind": UNSURE_KIND,
        "reason": UNSURE_REASON,
        "intent": _intents(intake, rows),
        "at": first.at,
        "route_version": route_version,
    }
    return table("OrchestratorEvent", columns, len(rows))


_NAMED = ("task_id", "tenant", "conversation_id", "submitted_at", "root_id")


def _intents(intake: Intake, rows: npt.NDArray[np.int64]) -> pa.StringArray:
    return pa.array([kind.intent for kind in intake.kinds], pa.string()).take(pa.array(intake.kind[rows]))


def note_columns(notes: Sequence[Note], route_version: str) -> dict[str, Any]:
    """Columns of the record OrchestratorEvent, of Python values."""
    columns = columns_of(Note, notes)
    del columns["key"]
    identities = columns.pop("identity")
    columns |= _ids(columns.pop("id"), identities)
    columns |= {"root_id": [each.root_id for each in identities], "route_version": route_version}
    return columns


def _ids(ids: Sequence[TaskKey], identities: Sequence[Identity]) -> dict[str, Any]:
    """The columns that name a task."""
    return {
        "tenant": [tenant for tenant, _ in ids],
        "task_id": [task_id for _, task_id in ids],
        "conversation_id": [identity.conversation_id for identity in identities],
        "submitted_at": [identity.submitted_at for identity in identities],
    }
