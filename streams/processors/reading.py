"""What a worker may read now, and what it has read and must not take yet.

Three things keep a record waiting: its partition holds as many tasks as it may, its schema is not known yet, its topic
is paused for the whole fleet. The first leaves records on the broker; the others put them aside, in their order. I/O:
Kafka, through the driver that is told what to pause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from streams.core.cell import Cell
from streams.transport.batch import Batch, TopicPartition
from streams.transport.held import HeldBack, SetAside
from streams.transport.pauses import TopicPauses
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.worker")

RESUME_BELOW = 0.9
"""Of what a partition may hold: once it holds less, it is read again."""


class Steering(Protocol):
    """The part of streams.transport.faust_driver.Driver that is used here."""

    def pause(self, tps: Iterable[tuple[str, int]]) -> None: ...

    def resume(self, tps: Iterable[tuple[str, int]]) -> None: ...


class Reading:
    """One worker's. `handle` gets what may be taken: the processor's name, and a batch for it."""

    def __init__(
        self,
        submitted: str,
        handle: Callable[[str, Batch], None],
        held: HeldBack | None = None,
        pauses: TopicPauses | None = None,
    ) -> None:
        self._submitted, self._handle = submitted, handle
        self._held, self._pauses, self._aside = held, pauses, SetAside()
        self._full: set[int] = set()
        self._paused: set[TopicPartition] = set()

    @property
    def resting(self) -> frozenset[str]:
        """Topics that are paused for the whole fleet."""
        return self._pauses.resting if self._pauses is not None else frozenset()

    @property
    def absent(self) -> frozenset[str]:
        """Agents that people have paused or retired."""
        return self._pauses.agents if self._pauses is not None else frozenset()

    def take(self, processor: str, batch: Batch) -> None:
        """What may be taken of it now. What has waited longer comes first."""
        for each in (*self._aside.released(self.resting), (processor, batch)):
            self._take_unless_resting(*each)

    def release(self) -> None:
        """Go on with what was kept and can be taken by now."""
        for each in self._aside.released(self.resting):
            self._take_unless_resting(*each)
        for batch in self._held.released() if self._held is not None else ():
            self._handle("router", batch)

    def throttle(self, driver: Steering, cells: Mapping[int, Cell]) -> None:
        """At a bound, or behind a schema that is not known yet, new tasks wait on the broker; what drains the cell is
        never paused."""
        held = {number for _, number in self._held.tps} if self._held is not None else set()
        for number, cell in cells.items():
            if number not in self._full and (cell.is_full or number in held):
                self._full.add(number)
                log.warning("reading of new tasks pauses", partition=number, inflight=len(cell), held=number in held)
            elif number in self._full and number not in held and cell.fill < RESUME_BELOW:
                self._full.discard(number)
        self.regulate(driver, cells)

    def regulate(self, driver: Steering, partitions: Iterable[int]) -> None:
        """Reads what may be read: neither new tasks of a partition that is full, nor a topic that is paused."""
        wanted = {TopicPartition(self._submitted, number) for number in self._full}
        wanted |= {TopicPartition(topic, number) for topic in self.resting for number in partitions}
        if wanted == self._paused:
            return
        if pause := wanted - self._paused:
            driver.pause(sorted(pause))
        if resume := self._paused - wanted:
            driver.resume(sorted(resume))
        self._paused = wanted

    def drop(self, driver: Steering, partitions: Iterable[int]) -> None:
        """Forget what is kept of partitions that go."""
        gone = set(partitions)
        if self._held is not None:
            self._held.drop([(self._submitted, number) for number in gone])
        self._aside.drop(gone)
        self._full -= gone
        if lost := {tp for tp in self._paused if tp.partition in gone}:
            driver.resume(sorted(lost))
            self._paused -= lost

    def _take_unless_resting(self, processor: str, batch: Batch) -> None:
        taken = self._aside.admit(processor, batch, self.resting)
        if taken is None:
            return
        admitted = self._held.admit(taken) if self._held is not None and processor == "router" else taken
        if admitted is not None:
            self._handle(processor, admitted)
