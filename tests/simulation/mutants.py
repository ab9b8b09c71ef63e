"""Broken builds: the product with one guard removed, each of which the simulation must catch.

A suite that cannot fail is worth nothing. A mutant puts something else in the place of one function of the product; it
must be caught, by one of its invariants, within so many seeds. I/O: none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from agents.admission import Admission
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.memory import snapshot
from agents.ownership import Ownership
from agents.readback import ReadBack, Recovered
from agents.rebuild import Rebuilder, Rebuilt
from agents.recognition import Recognition
from agents.tracker import OffsetTracker
from agents.work import Work
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.finished import Finished
from streams.core.recovery import Fold
from streams.core.task import Task
from streams.processors.cuts import Cuts
from streams.processors.recovery import Recovery
from streams.processors.worker import Worker
from streams.transport.batch import next_positions
from streams.transport.producer import Producer
from tests.simulation.mutant import TWICE, Mutant
from tests.simulation.mutants_fetches import FETCHES
from tests.simulation.mutants_hosts import HOSTS
from tests.simulation.mutants_rereads import REREADS
from tests.simulation.mutants_spill import SPILL
from tests.simulation.mutants_store import STORE
from tests.simulation.mutants_transactions import TRANSACTIONS
from tests.simulation.mutants_turns import TURNS

# ---------------------------------------------------------------------- recovery

_facts, _starts, _cut, _tick, _read, _sort_out, _take = (
    Recovery._facts,
    Recovery._starts,
    Cuts.cut,
    Worker._tick,
    ReadBack.read,
    Admission.sort_out,
    Intake.take,
)


def _facts_without_results(self: Recovery) -> tuple[str, ...]:
    return tuple(topic for topic in _facts(self) if topic != self._topics.results)


def _facts_without_inboxes(self: Recovery) -> tuple[str, ...]:
    return tuple(topic for topic in _facts(self) if topic not in self._topics.inboxes)


def _facts_without_logs(self: Recovery) -> tuple[str, ...]:
    return tuple(topic for topic in _facts(self) if topic not in self._topics.logs)


def _starts_at_commits(
    self: Recovery, consumer: Any, lows: Mapping[int, int], committed: Mapping[Any, tuple[int, str]], now_ms: int
) -> dict[Any, int]:
    starts = _starts(self, consumer, lows, committed, now_ms)
    return {tp: max(start, committed[tp][0]) if tp in committed else start for tp, start in starts.items()}


def _restored_and_left(self: Cell, task: Task, now_ms: int) -> None:
    self.tasks[task.id] = task
    self.bytes += task.size
    self._end_or_watch(task, now_ms, watched=False)


def _resumed_without_tasks(self: Fold, now_ms: int) -> Effects:
    return Effects()


def _unknown(self: Finished, task_id: object) -> bool:
    return False


def _no_expectation(self: Cell, first_fact_ms: Any) -> None:
    pass


# ---------------------------------------------------------------------- snapshots

_rebuild, _seal, _unpack = Rebuilder.rebuild, snapshot._seal, snapshot.unpack


def _unpacked_unseen(parts: Iterable[snapshot.Part]) -> snapshot.Snapshot | snapshot.Refused:
    """Whatever the head says is taken for its hash."""
    held = list(parts)
    return _unpack([each._replace(hash=_seal(each)) for each in held])


def _beyond(self: Rebuilder, *arguments: Any) -> Rebuilt:
    rebuilt = _rebuild(self, *arguments)
    return replace(rebuilt, position=rebuilt.position._replace(log=rebuilt.position.log + 1))


# ---------------------------------------------------------------------- cuts


def _cut_undelivered(self: Cuts, spill: Any, low_watermarks_ms: Callable[[], Mapping[int, int]], drain_s: float) -> Any:
    return self.cut(self.positions, low_watermarks_ms())


def _advanced_too_far(self: Cuts, batch: Any) -> None:
    ahead = {tp: at + (tp.topic == self._anchor) for tp, at in next_positions(batch).items()}
    self.positions.update(ahead)


def _newest(self: Cell) -> int | None:
    return max(self.appended_ms(), default=None)


def _no_watermark(self: Cell) -> int | None:
    return None


def _not_buried(*_: Any) -> None:
    pass


def _handed_over_once(self: Producer, topic: str, partition: int, rows: list[dict[str, Any]]) -> None:
    self._producer.produce_batch(topic, rows, partition=partition)


def _failures_forgotten(self: Producer) -> None:
    pass


def _kept_in_the_queue(self: Worker) -> int:
    return 0


def _not_waited_for(self: Producer, timeout_s: float = 0.0) -> int:
    before = len(self._producer)
    self._producer.purge()
    self._producer.poll(0)
    return before - len(self._producer)


async def _not_settled(self: Worker) -> None:
    pass


def _no_first_cut(self: Cuts, positions: Any, low_watermarks_ms: Mapping[int, int]) -> Any:
    return _cut(self, positions, low_watermarks_ms) if positions is self.positions else {}


# ---------------------------------------------------------------------- time


def _ticked_while_catching_up(self: Worker, *, has_stalled: bool) -> None:
    now_ms = self._clock()
    self._outbox.emit({number: cell.tick(now_ms) for number, cell in self._cells.items()})
    self._throttle()


def _ticked_through_stalls(self: Worker, *, has_stalled: bool) -> None:
    """Neither does it see by its clock that it was stopped, nor by its reader."""
    reader = self.driver._reader  # type: ignore[attr-defined]
    reader._free_at = math.inf
    _tick(self, has_stalled=False)


def _never_expires(self: Any, now_ms: int) -> list[Task]:
    return []


# ---------------------------------------------------------------------- hosts


def _nothing_read_back(self: ReadBack, committed: Any, claim: Any) -> Recovered:
    found = _read(self, committed, claim)
    inboxes = [Inbox(each.agent_id, each.topic, each.partition, epoch=each.epoch) for each in found.inboxes]
    return replace(found, inboxes=inboxes)


async def _not_started(self: EventLog, attempts: Any, started_at: int) -> None:
    pass


def _begun_anew(self: Admission, work: Work) -> None:
    for attempt in work.attempts:
        attempt.began_before = False
    _sort_out(self, work)


def _caught_up_ahead(self: Intake, batch: Any) -> Any:
    for run in self._runs(batch):
        known = None if run.inbox is None else run.inbox.known
        if known is not None and batch.offsets[run.stop - 1] >= known._until:
            run.inbox.known = Recognition({}, 1 << 63, known._memory)
    return _take(self, batch)


async def _never_asked(self: Ownership) -> None:
    pass


def _last_taken(self: OffsetTracker) -> int | None:
    return self._next


def _always_drained(self: Producer, timeout_s: float = 0.0) -> bool:
    self._producer.poll(0)
    self._raise_failure()
    return True


def _kept(*_: Any) -> None:
    pass


LOST = frozenset({"P1", "P3", "P7", "Q1", "T1"})


def _never_void(*_: Any) -> None:
    pass


MUTANTS: Mapping[str, Mutant] = {
    "no epoch check": Mutant("schemas.epochs.Epochs.void", _never_void, frozenset({"P5"}), "zombies"),
    "results are not read back": Mutant(
        "streams.processors.recovery.Recovery._facts", _facts_without_results, TWICE | {"A1"}, "crashes"
    ),
    "dispatches are not read back": Mutant(
        "streams.processors.recovery.Recovery._facts", _facts_without_inboxes, LOST | TWICE, "crashes"
    ),
    "outcomes are not read back": Mutant(
        "streams.processors.recovery.Recovery._facts", _facts_without_logs, LOST | {"T1"}, "halves"
    ),
    "what is read back begins at the committed positions": Mutant(
        "streams.processors.recovery.Recovery._starts", _starts_at_commits, LOST | TWICE | {"T1"}, "halves"
    ),
    "no reconcile after the fold": Mutant("streams.core.cell.Cell.resume", _restored_and_left, LOST, "crashes"),
    "the fold is thrown away": Mutant(
        "streams.core.recovery.Fold.resume", _resumed_without_tasks, LOST | TWICE, "crashes"
    ),
    "a repeat of a task that is finished is a new one": Mutant(
        "streams.core.finished.Finished.__contains__", _unknown, frozenset({"P1", "A2"}), "calm"
    ),
    "a submission that is read again is a repeat of itself": Mutant(
        "streams.core.cell.Cell.expect_again", _no_expectation, frozenset({"A5"}), "crashes"
    ),
    "a commit ahead of delivery": Mutant(
        "streams.processors.cuts.Cuts.take", _cut_undelivered, frozenset({"P3"}), "crashes"
    ),
    "a position past a submission without a record": Mutant(
        "streams.processors.cuts.Cuts.advance", _advanced_too_far, frozenset({"P3", "Q1"}), "crashes"
    ),
    "garbage is passed over": Mutant("streams.processors.outbox.bury", _not_buried, frozenset({"P3"}), "crashes"),
    "the low watermark is that of the newest task": Mutant(
        "streams.core.cell.Cell.low_watermark", _newest, frozenset({"P3"}), "crashes"
    ),
    "the low watermark does not wait for anybody": Mutant(
        "streams.core.cell.Cell.low_watermark", _no_watermark, frozenset({"P3"}), "crashes"
    ),
    "the remainder of produce_batch is ignored": Mutant(
        "streams.transport.producer.Producer._hand_over", _handed_over_once, LOST, "crashes"
    ),
    "failed deliveries are forgotten": Mutant(
        "streams.transport.producer.Producer._raise_failure", _failures_forgotten, LOST, "refusals"
    ),
    "a new partition emits before its first cut": Mutant(
        "streams.processors.cuts.Cuts.cut", _no_first_cut, frozenset({"Q2", "A2", "T1", "P1"}), "early"
    ),
    "undelivered output stays in the queue when partitions go": Mutant(
        "streams.processors.worker.Worker._withdraw", _kept_in_the_queue, frozenset({"P1", "A2"}), "late"
    ),
    "what is on its way when partitions go is not waited for": Mutant(
        "streams.transport.producer.Producer.withdraw", _not_waited_for, frozenset({"P1", "A2"}), "late"
    ),
    "logs are read before one's own output is in them": Mutant(
        "streams.processors.worker.Worker._settle", _not_settled, frozenset({"P1", "A2"}), "regained"
    ),
    "time-outs fire while catching up": Mutant(
        "streams.processors.worker.Worker._tick", _ticked_while_catching_up, frozenset({"T1"}), "pauses"
    ),
    "a process that was stopped fires time-outs before it reads": Mutant(
        "streams.processors.worker.Worker._tick", _ticked_through_stalls, frozenset({"T1"}), "pauses"
    ),
    "nobody looks at the clock": Mutant("streams.core.timers.Timers.due", _never_expires, LOST, "absent"),
    "a snapshot is trusted without its hash": Mutant(
        "agents.memory.snapshot.unpack", _unpacked_unseen, frozenset({"P7"}), "crashes"
    ),
    "a snapshot stands for more than is in it": Mutant(
        "agents.rebuild.Rebuilder.rebuild", _beyond, frozenset({"P7"}), "crashes"
    ),
    "a host forgets what its log says": Mutant(
        "agents.readback.ReadBack.read", _nothing_read_back, frozenset({"E1"}), "crashes"
    ),
    "STARTED is not logged": Mutant("agents.event_log.EventLog.start", _not_started, frozenset({"E1"}), "crashes"),
    "what was begun is begun again": Mutant(
        "agents.admission.Admission.sort_out", _begun_anew, frozenset({"E1"}), "crashes"
    ),
    "a host forgets what its log says with the first poll that reads beyond it": Mutant(
        "agents.intake.Intake.take", _caught_up_ahead, frozenset({"E1"}), "writes"
    ),
    "a host writes without asking whose the inbox is": Mutant(
        "agents.ownership.Ownership.confirmed", _never_asked, frozenset({"E1"}), "doubts"
    ),
    "what is paused when it goes stays paused": Mutant(
        "streams.transport.consumer.BatchConsumer._forget_pauses", _kept, frozenset({"Q1"}), "full"
    ),
    "a host commits past unfinished work": Mutant(
        "agents.tracker.OffsetTracker.position", property(_last_taken), frozenset({"P3"}), "crashes"
    ),
    "a host commits ahead of delivery": Mutant(
        "streams.transport.producer.Producer.drained", _always_drained, frozenset({"P3"}), "crashes"
    ),
    **HOSTS,
    **SPILL,
    **REREADS,
    **TRANSACTIONS,
    **STORE,
    **TURNS,
    **FETCHES,
}
