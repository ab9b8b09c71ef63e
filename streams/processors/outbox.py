"""What the cells decide becomes records: encoded in columns, sent to the partition that it came from.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from schemas.codec import Codec, DecodeFault
from schemas.reasons import DispatchReason, ResultReason
from schemas.records import RECORDS
from schemas.runs import runs
from schemas.topology import Topology
from streams.core.cohort import ENDINGS, Cohort
from streams.core.effects import Dispatch, Effects, Note, Result
from streams.core.in_columns import Agreed, Answered, Settled, Unsure
from streams.core.rows import at, together
from streams.processors.decided import note_columns, result_columns, result_table, settled_table, unsure_table
from streams.processors.slips import SlipEncoder
from streams.transport.batch import Batch
from streams.transport.deadletters import bury
from streams.transport.pauses import TopicPauses
from streams.transport.producer import Sends, SendsOne
from streams.transport.telemetry import (
    CASCADE_DEPTH,
    DECISION_DURATION,
    DISPATCHES,
    DUPLICATES,
    LATE_VOTES,
    RESULTS,
    counter,
)

US = 1_000_000


class Sender(Sends, SendsOne, Protocol):
    """The part of streams.transport.producer.Output that is used here."""


class Outbox:
    """Encodes and hands over; it waits only while the producer's queue is full. All methods raise DeliveryError."""

    def __init__(self, topology: Topology, codec: Codec, producer: Sender, pauses: TopicPauses | None = None) -> None:
        self._topics, self._version = topology.topics(), topology.version
        self._codec, self._producer, self._pauses = codec, producer, pauses
        self._slips = SlipEncoder(codec)
        _count_from_zero(topology)

    def emit(self, decided: Mapping[int, Effects]) -> None:
        """What cells decided, by partition; each topic's records of a partition in the order of decision.

        That is the order of submission for what departed. What others have failed in may overtake each other.
        """
        departed = {number: each.departed for number, each in decided.items() if each.departed}
        settled = {number: each.settled for number, each in decided.items() if each.settled}
        unsure = {number: each.unsure for number, each in decided.items() if each.unsure}
        dispatches = {number: each.dispatches for number, each in decided.items() if each.dispatches}
        notes = {number: each.notes for number, each in decided.items() if each.notes}
        answered = {number: each.answered for number, each in decided.items() if each.answered}
        agreed = {number: each.agreed for number, each in decided.items() if each.agreed}
        results = {number: each.results for number, each in decided.items() if each.results}
        if departed:
            self._depart(departed)
        if dispatches:
            self._dispatch(dispatches)
        if unsure:
            self._escalate(unsure)
        if notes:
            self._note(notes)
        if settled:
            self._settle(settled)
        if answered or agreed:
            self._end(answered, agreed)
        if results:
            self._answer(results)

    def bury(self, batch: Batch, faults: Sequence[DecodeFault], component: str) -> None:
        """Rows of a batch that cannot be taken go to the dead topic; too many of a topic pause it."""
        bury(self._producer, self._topics, batch, faults, component)
        if self._pauses is not None:
            self._pauses.saw(batch, [fault.row for fault in faults])

    def _depart(self, departed: Mapping[int, Cohort]) -> None:
        for cohorts in _alike(departed):
            self._depart_alike(cohorts)

    def _depart_alike(self, departed: Mapping[int, Cohort]) -> None:
        """Cohorts of the same bodies, with the same dispatches."""
        cohorts = list(departed.values())
        bodies, slips = cohorts[0].bodies, [slip for first in cohorts[0].firsts.each for slip in first.slips]
        encoded = self._slips.encode(slips)
        # Of few frames and few slips there are fewer heads than tasks.
        heads = {frame: [frame + slip for slip in encoded] for frame in set(bodies.frames)}
        owner, rows, which = unfolded(cohorts)
        agents, agent_of = _numbered(slip.agent_id for slip in slips)
        inboxes, numbers = [self._topics.inbox(agent) for agent in agents], list(departed)
        order, places = runs(owner * len(agents) + agent_of[which])
        frames, datums, body = bodies.frames, bodies.datums, slice(bodies.ahead, None)
        each = zip(rows[order].tolist(), which[order].tolist(), strict=True)
        if len(heads) == 1:  # all came under one schema
            (head,) = heads.values()
            values = [head[slip] + datums[row][body] for row, slip in each]
        else:
            values = [heads[frames[row]][slip] + datums[row][body] for row, slip in each]
        keys = at(bodies.keys, rows[order])
        for code, start, end in places:
            part, agent = divmod(code, len(agents))
            self._producer.send(inboxes[agent], numbers[part], values[start:end], keys[start:end])
        counts: Counter[tuple[str, str]] = Counter()
        for slip, times in zip(slips, np.bincount(which, minlength=len(slips)).tolist(), strict=True):
            counts[slip.agent_id, slip.reason] += times
        for (agent_id, reason), count in counts.items():
            counter(DISPATCHES, agent_id, reason).inc(count)

    def _end(self, answered: Mapping[int, Answered], agreed: Mapping[int, Agreed]) -> None:
        """What was decided in columns, encoded in one call: each costs as much as many rows."""
        batch = result_table(list(answered.values()), list(agreed.values()), self._version)
        values = iter(self._codec.encode(batch, "TaskResult"))
        for parts in (answered, agreed):
            self._hand_over(self._topics.results, values, {number: part.keys for number, part in parts.items()})
        ended: list[Answered | Agreed] = [*answered.values(), *agreed.values()]
        times = np.bincount(np.concatenate([part.endings for part in ended]), minlength=len(ENDINGS))
        for ending, count in zip(ENDINGS, times.tolist(), strict=True):
            counter(RESULTS, ending.status, ending.reason.value).inc(count)
        for part in ended:
            depths = part.attempts - 1 if isinstance(part, Answered) else np.zeros(len(part.rows))
            _observe(depths, part.batch.column("task").field("submitted_at").to_numpy()[part.rows], part.decided_at)

    def _settle(self, settled: Mapping[int, Settled]) -> None:
        """What was answered at once."""
        batch = settled_table(list(settled.values()), self._version)
        values = self._codec.encode(batch, "TaskResult")
        self._hand_over(self._topics.results, values, {number: part.keys for number, part in settled.items()})
        endings = Counter((each.status, each.reason.value) for part in settled.values() for each in part.endings)
        for (status, reason), count in endings.items():
            counter(RESULTS, status, reason).inc(count)
        decided_at = next(iter(settled.values())).decided_at
        _observe(np.zeros(batch.num_rows), batch.column("submitted_at").to_numpy(), decided_at)

    def _escalate(self, unsure: Mapping[int, Unsure]) -> None:
        """What nobody was sure of."""
        values = self._codec.encode(unsure_table(list(unsure.values()), self._version), "OrchestratorEvent")
        self._hand_over(self._topics.orchestrator, values, {number: part.keys for number, part in unsure.items()})

    def _hand_over(self, topic: str, values: Iterable[bytes], keys: Mapping[int, Sequence[bytes]]) -> None:
        """Records for all partitions, one partition's after the other's."""
        left = iter(values)
        for partition, own in keys.items():
            self._producer.send(topic, partition, list(islice(left, len(own))), own)

    def _dispatch(self, decided: Mapping[int, list[Dispatch]]) -> None:
        # Equal slips of a turn are one object, so a batch has few distinct ones: each is encoded once.
        distinct = {id(each.slip): each.slip for dispatches in decided.values() for each in dispatches}
        encoded = dict(zip(distinct, self._slips.encode(list(distinct.values())), strict=True))
        times: Counter[int] = Counter()
        for partition, dispatches in decided.items():
            by_agent: dict[str, tuple[list[bytes | None], list[bytes | None]]] = {}
            for slip, key, frame, datum in dispatches:
                group = by_agent.get(slip.agent_id)
                if group is None:
                    group = by_agent[slip.agent_id] = ([], [])
                group[0].append(frame + encoded[id(slip)] + datum)
                group[1].append(key)
            for agent_id, (values, keys) in by_agent.items():
                self._producer.send(self._topics.inbox(agent_id), partition, values, keys)
            times.update([id(dispatch.slip) for dispatch in dispatches])
        for slip_id, count in times.items():
            slip = distinct[slip_id]
            counter(DISPATCHES, slip.agent_id, slip.reason).inc(count)

    def _answer(self, decided: Mapping[int, list[Result]]) -> None:
        results = list(chain.from_iterable(decided.values()))
        keys = {partition: [result.key for result in own] for partition, own in decided.items()}
        values = self._codec.encode_values(result_columns(results, self._version), len(results), "TaskResult")
        self._hand_over(self._topics.results, values, keys)
        for (status, reason), count in Counter((result.status, result.reason) for result in results).items():
            counter(RESULTS, status, reason).inc(count)
        CASCADE_DEPTH.observe([result.failed_agents for result in results])
        stated = [result for result in results if result.identity.submitted_at]
        DECISION_DURATION.observe([max(result.decided_at - result.identity.submitted_at, 0) / US for result in stated])

    def _note(self, decided: Mapping[int, list[Note]]) -> None:
        notes = list(chain.from_iterable(decided.values()))
        keys = {partition: [note.key for note in own] for partition, own in decided.items()}
        values = self._codec.encode_values(note_columns(notes, self._version), len(notes), "OrchestratorEvent")
        self._hand_over(self._topics.orchestrator, values, keys)
        kinds = Counter(note.kind for note in notes)
        DUPLICATES.inc(kinds["DUPLICATE"])
        LATE_VOTES.inc(kinds["LATE_VOTE"])


def _observe(depths: npt.NDArray[Any], submitted_at: npt.NDArray[np.int64], decided_at: int) -> None:
    """A value per task that ended, times in us since the epoch; a task need not state when it was submitted."""
    CASCADE_DEPTH.observe(depths)
    DECISION_DURATION.observe(np.maximum(decided_at - submitted_at[submitted_at != 0], 0) / US)


def _count_from_zero(topology: Topology) -> None:
    """A rate sees nothing of the value with which a series begins, so every series begins before its first event."""
    for reason in ResultReason:
        for status in RECORDS["TaskResult"].enums["status"]:
            counter(RESULTS, status, reason.value)
    for why in DispatchReason:
        for agent_id in topology.agents:
            counter(DISPATCHES, agent_id, why.value)


def _alike(departed: Mapping[int, Cohort]) -> Iterable[Mapping[int, Cohort]]:
    """Cohorts that share their first dispatches: all of one turn, but where partitions see different breakers."""
    groups: dict[int, dict[int, Cohort]] = {}
    for number, cohort in departed.items():
        groups.setdefault(id(cohort.firsts), {})[number] = cohort
    return groups.values()


def unfolded(cohorts: Sequence[Cohort]) -> tuple[npt.NDArray[np.int64], ...]:
    """Each dispatch of these: the place of its cohort, its row in the bodies, in order, and its slip, counted through
    all firsts, which they share."""
    seats = np.array([len(first.slips) for first in cohorts[0].firsts.each], np.int64)
    rows, owner = together([cohort.rows for cohort in cohorts])
    codes = np.concatenate([cohort.codes for cohort in cohorts])
    times = seats[codes]
    ends = np.cumsum(times)
    seat = np.arange(ends[-1]) - np.repeat(ends - times, times)
    slips = np.repeat((np.cumsum(seats) - seats)[codes], times) + seat
    return np.repeat(owner, times), np.repeat(rows, times), slips


def _numbered(names: Iterable[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """The distinct names, and for each of the given ones its place among them."""
    numbers: dict[str, int] = {}
    places = [numbers.setdefault(name, len(numbers)) for name in names]
    return list(numbers), np.array(places, np.int64)
