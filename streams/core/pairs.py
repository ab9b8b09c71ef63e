"""Panels of two while nothing but good answers is heard of them: first voices are kept, second ones may decide.

In columns, for all cells of a turn together; the same decision as streams/core/panel.py makes of the same votes.
I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import eq
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from streams.core.consensus import Vote, vote_key
from streams.core.hearing import Hearing
from streams.core.policy import Policy
from streams.core.rows import Rows, listed
from streams.core.task import Charged, Task

_BLOCK_BITS, _ATTEMPT_BITS = 32, 2
_PLACE, _ATTEMPT = (1 << _BLOCK_BITS) - 1, (1 << _ATTEMPT_BITS) - 1


class _Voice(NamedTuple):
    """The columns of `voices`, in their order."""

    agent: int
    attempt: int
    confidence: float
    weight: float
    cost_microusd: int
    tokens: int
    key: str
    answer: str
    payload: str | None
    event_id: str

    @classmethod
    def at(cls, columns: Sequence[pa.Array], place: int) -> _Voice:
        return cls(*(column[place].as_py() for column in columns))

    def counted(self, policy: Policy) -> Vote:
        """As a panel counts it."""
        name = policy.agent_columns.names[self.agent].as_py()
        return Vote(name, self.key, self.confidence, self.weight, self.attempt - 1, self.answer, self.payload)


def voices(policy: Policy, batch: pa.RecordBatch, hearing: Hearing, rows: Rows) -> pa.RecordBatch:
    """What these rows say, which are good answers of agents that the policy names (AgentEvent columns).

    `agent` is its place in the policy; `key`, what is compared (streams.core.consensus:vote_key).
    """
    places = pa.array(rows)
    stated, answer, payload, event_id = (
        batch.column(name).take(places) for name in ("vote_key", "answer", "payload", "event_id")
    )
    cost, tokens_in, tokens_out = (
        batch.column(name).to_numpy()[rows] for name in ("cost_microusd", "tokens_in", "tokens_out")
    )
    agent = hearing.agent[rows]
    columns: dict[str, Any] = {
        "agent": agent,
        "attempt": hearing.attempt[rows],
        "confidence": hearing.confidence[rows],
        "weight": policy.agent_columns.weights[agent],
        "cost_microusd": cost,
        "tokens": tokens_in + tokens_out,
        "key": pc.coalesce(stated, _keys(answer)),
        "answer": answer,
        "payload": payload,
        "event_id": event_id,
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in _Voice._fields], names=_Voice._fields)


def _keys(answers: pa.StringArray) -> pa.StringArray:
    """What is compared of those who state no key. Equal answers are looked at once: most are, where panels agree."""
    distinct = answers.dictionary_encode()
    keys = [vote_key(None, answer) for answer in distinct.dictionary.to_pylist()]
    return pa.array(keys, pa.string()).take(distinct.indices)


def vote(policy: Policy, voices: pa.RecordBatch, place: int) -> Vote:
    """One of them as a panel counts it."""
    return _Voice.at(voices.columns, place).counted(policy)


class Pairs:
    """First voices by the number of their task, which is in a cohort; those that came together stay in one block.

    A spot is where such a voice is: its block, its place in it, and its attempt, in one number, which is not 0.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._first: dict[int, int] = {}
        self._blocks: dict[int, pa.RecordBatch] = {}
        # Of the blocks of which single voices are asked for: a batch makes its columns anew each time, for 1 us each.
        self._columns: dict[int, list[pa.Array]] = {}
        self._left: dict[int, int] = {}
        self._serial = 0

    def spots(self, numbers: Rows) -> Rows:
        """Where each task's first voice is; 0 where it has none."""
        return np.fromiter(map(self._first.get, numbers.tolist(), repeat(0)), np.int64, len(numbers))

    def keep(self, numbers: Rows, voices: pa.RecordBatch) -> None:
        """First voices, one of each of these tasks."""
        if not len(numbers):
            return
        self._serial += 1
        place = np.arange(len(numbers)) << _ATTEMPT_BITS | voices.column("attempt").to_numpy()
        self._first.update(zip(listed(numbers), listed(self._serial << _BLOCK_BITS | place), strict=True))
        self._blocks[self._serial], self._left[self._serial] = voices, len(numbers)

    def found(self, spots: Rows) -> tuple[list[pa.RecordBatch], Rows]:
        """The blocks in which these are, and of each its place in all of them together."""
        if not len(spots):
            return [], spots
        serial_of = spots >> _BLOCK_BITS
        serials = sorted(set(listed(serial_of)))
        blocks = [self._blocks[serial] for serial in serials]
        starts = np.cumsum([0, *(block.num_rows for block in blocks[:-1])])
        return blocks, starts[np.searchsorted(serials, serial_of)] + ((spots & _PLACE) >> _ATTEMPT_BITS)

    def forget(self, number: int) -> None:
        spot = self._first.pop(number, None)
        if spot is not None:
            self._let_go(spot >> _BLOCK_BITS, 1)

    def _let_go(self, serial: int, times: int) -> None:
        """So many voices of a block are asked for no more."""
        self._left[serial] -= times
        if not self._left[serial]:
            del self._blocks[serial], self._left[serial]
            self._columns.pop(serial, None)

    def forget_all(self, numbers: Sequence[int]) -> None:
        """Of tasks that have ended. One that was decided by two voices of one turn had none here."""
        spots = list(filter(None, map(self._first.pop, numbers, repeat(0))))
        for serial, times in Counter([spot >> _BLOCK_BITS for spot in spots]).items():
            self._let_go(serial, times)

    def tell(self, number: int, task: Task) -> None:
        """Adds the first voice to the facts of its task."""
        spot = self._first.get(number)
        if spot is None:
            return
        serial, place = spot >> _BLOCK_BITS, (spot & _PLACE) >> _ATTEMPT_BITS
        columns = self._columns.get(serial)
        if columns is None:
            columns = self._columns[serial] = self._blocks[serial].columns
        said = _Voice.at(columns, place)
        task.charge(Charged(said.event_id, said.cost_microusd, said.tokens))
        attempt = task.attempts[spot & _ATTEMPT]
        attempt.event_id, attempt.vote = said.event_id, said.counted(self._policy)


def are_new(spots: Rows, attempt: Rows, times: Rows) -> npt.NDArray[np.bool_]:
    """Whether each voice is of another attempt than the one that was heard before, which is in this spot, in a turn
    with so many of its task."""
    new: npt.NDArray[np.bool_] = (spots == 0) | ((times == 1) & ((spots & _ATTEMPT) != attempt))
    return new


@dataclass(frozen=True)
class Chorus:
    """What becomes of the new voices of a turn, by their places.

    `waiting`: first voices that have to be kept. `deciding`: the later ones of the pairs that agree, ascending, and
    `voices` both of each, by seat, one pair after the other. `taken`: all of which nothing else is to be decided.
    """

    waiting: Rows
    deciding: Rows
    voices: pa.RecordBatch
    taken: Rows

    @classmethod
    def of(cls, now: pa.RecordBatch, blocks: Sequence[pa.RecordBatch], first: Rows, is_double: Rows) -> Chorus:
        """`now` has the new voices, both of a task one after the other where `is_double`.

        `first` is where the voice that was heard before is in `blocks`, which are counted on behind `now`; -1 where
        there was none.
        """
        double = np.flatnonzero(is_double)
        earlier, later = double[::2], double[1::2]
        second = np.flatnonzero(first >= 0)
        deciding, partner = np.concatenate([second, later]), np.concatenate([first[second], earlier])
        order = np.argsort(deciding)
        deciding, partner = deciding[order], partner[order]
        is_lower = now.column("attempt").to_numpy()[deciding] == 1
        seats = np.stack([np.where(is_lower, deciding, partner), np.where(is_lower, partner, deciding)], axis=1)
        both = pa.concat_batches([now, *blocks]).take(pa.array(seats.reshape(-1)))
        keys = both.column("key").to_pylist()
        agree = np.fromiter(map(eq, keys[::2], keys[1::2]), np.bool_, len(deciding))
        waiting = np.flatnonzero((first < 0) & ~is_double)
        decided = deciding[agree]
        with_it = partner[agree]
        return cls(
            waiting=waiting,
            deciding=decided,
            voices=both if agree.all() else both.filter(pa.array(np.repeat(agree, 2))),
            taken=np.concatenate([waiting, decided, with_it[with_it < now.num_rows]]),
        )


def by_seat(voices: pa.RecordBatch, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A column of numbers of pairs: that of the lower seats, and that of the higher ones."""
    column = voices.column(name).to_numpy()
    return column[::2], column[1::2]


def best(voices: pa.RecordBatch) -> Rows:
    """The place of the answer that each pair gives: of the surer one, of equally sure ones the lower seat's."""
    lower, higher = by_seat(voices, "confidence")
    return np.arange(0, voices.num_rows, 2) + (higher > lower)


def votes(policy: Policy, voices: pa.RecordBatch) -> Iterator[tuple[Vote, Vote]]:
    """Both of each pair, one by one."""
    for place in range(0, voices.num_rows, 2):
        yield vote(policy, voices, place), vote(policy, voices, place + 1)
