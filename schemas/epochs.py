"""Whose word counts in an agent's log: records bear their writer's epoch, and a claim makes void what is older.

A log is one partition of one agent's events. Whoever takes its inbox over first appends a *claim*: a NOTE about no
task, with an epoch above all others in the log. From its offset on, what bears a lower epoch is a zombie's, and void:
for workers, for hosts that read the log back, and for the history. Epoch 0 is that of hosts of a version that made no
claims; it is never void, so that a deployment can be rolled. Source of the idea: fencing tokens; the log itself is the
lock's storage. I/O: none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

CLAIMED = "CLAIMED"
"""The slip's reason in a claim."""

KEPT = 8
"""Claims remembered of one log. Whoever is older is unknown, and what it wrote before the first of them is valid: a log
would have to change hands so often while one task is in flight, and the zombie to outlive it all."""

Log = tuple[str, int]
"""Topic and partition."""

Since = list[tuple[int, int]]
"""Offset and epoch of each claim; both rise."""

_GENERATIONS = 1 << 32

EPOCH_MAX = 1 << 62
"""No claim goes beyond it: 2^30 groups would have to be forgotten. Whatever bears a higher one was written by nobody of
ours; it is void, and no claim has to outbid it."""


def next_epoch(generation: int, newest: int) -> int:
    """The epoch of whom the group's `generation` makes the owner of a log whose newest epoch is `newest`.

    It rises with the generation. A group that is deleted, or forgotten after days of silence, counts from one again:
    then the upper half rises. Before that is believed (the result is above `newest` only because of it; see
    `is_behind`), the broker must have said, after `newest` was read, that the generation is still the group's.
    """
    raised, _ = halves(newest)
    epoch = joined(raised, generation)
    return epoch if epoch > newest else joined(raised + 1, generation)


def spill_epoch(generation: int, newest: int) -> int:
    """The epoch in which the owner of a partition writes its spilled tasks; the newest claim of them is `newest`.

    The generation is newer than that claim, but for a worker that was started again in its slot: it is the same
    then, and the upper half rises. A lower one is a zombie's, and stays below.
    """
    raised, _ = halves(newest)
    epoch = joined(raised, generation)
    return joined(raised + 1, generation) if epoch == newest else epoch


def halves(epoch: int) -> tuple[int, int]:
    """How often an epoch has been raised above its generation, and the generation."""
    return divmod(epoch, _GENERATIONS)


def joined(raised: int, generation: int) -> int:
    """The epoch of these halves."""
    return raised * _GENERATIONS + generation


def is_behind(generation: int, newest: int) -> bool:
    """Whether the log knows a generation as new as this: it is a zombie's, or its group was forgotten."""
    return generation <= halves(newest)[1]


class LogEpochs:
    """Since where which epoch is in force in one log, as far as it was read."""

    __slots__ = ("_epochs", "_offsets")

    def __init__(self, since: Iterable[Sequence[int]] = ()) -> None:
        kept = list(since)[-KEPT:]
        self._offsets = [offset for offset, _ in kept]
        self._epochs = [epoch for _, epoch in kept]

    @property
    def newest(self) -> int:
        """The epoch in force at the end; 0 where nobody has claimed the log."""
        return self._epochs[-1] if self._epochs else 0

    @property
    def since(self) -> Since:
        return list(zip(self._offsets, self._epochs, strict=True))

    def claimed(self, end: int, epoch: int) -> LogEpochs:
        """As of an owner who has read the log to its end, and writes no claim in it."""
        return LogEpochs([*(each for each in self.since if each[0] < end - 1), (end - 1, epoch)])

    def note(self, offset: int, epoch: int) -> None:
        """A record in its turn: one with a higher epoch than all before it is in force from here on."""
        if self.newest < epoch <= EPOCH_MAX and (not self._offsets or offset > self._offsets[-1]):
            self._offsets = [*self._offsets[1 - KEPT :], offset]
            self._epochs = [*self._epochs[1 - KEPT :], epoch]

    @property
    def oldest(self) -> int:
        """The first epoch that is known of; 0 where none is."""
        return self._epochs[0] if self._epochs else 0

    def in_force(self, offset: int) -> int:
        """The epoch of the last claim before this offset; 0 where none is known."""
        at = bisect_left(self._offsets, offset)
        return self._epochs[at - 1] if at else 0

    def is_void(self, offset: int, epoch: int) -> bool:
        """Whether a record of that epoch stands behind the claim of a newer one, or of one that nobody can have."""
        if epoch > EPOCH_MAX:
            return True
        at = bisect_left(self._offsets, offset)
        return at > 0 and 0 < epoch < self._epochs[at - 1]


class Epochs:
    """The epochs in force in many logs. Each log must be read in the order of its offsets; what is read again changes
    nothing, and is judged as before."""

    def __init__(self, logs: Mapping[Log, LogEpochs] | None = None) -> None:
        self._logs = dict(logs or {})
        self._common: int | None = None  # the newest epoch, where it is the same in all logs
        self._settle()

    def of(self, log: Log) -> LogEpochs:
        found = self._logs.get(log)
        if found is None:
            found = self._logs[log] = LogEpochs()
            self._common = None
        return found

    def since(self, log: Log) -> Since:
        """The claims of one log, to be kept with its position."""
        found = self._logs.get(log)
        return [] if found is None else found.since

    def update(self, logs: Mapping[Log, LogEpochs]) -> None:
        """Logs that are read from now on."""
        self._logs.update(logs)
        self._settle()

    def items(self, partition: int) -> dict[Log, LogEpochs]:
        return {log: each for log, each in self._logs.items() if log[1] == partition}

    def drop(self, partitions: Iterable[int]) -> None:
        gone = set(partitions)
        self._logs = {log: each for log, each in self._logs.items() if log[1] not in gone}
        self._settle()

    def void(
        self,
        topics: Sequence[str],
        partitions: npt.NDArray[np.int32],
        offsets: npt.NDArray[np.int64],
        epochs: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.intp] | None:
        """Rows that count for nothing, None where there are none; takes note of claims. All columns are as long.

        As long as no inbox changes hands all rows bear one epoch, and this is one comparison.
        """
        if self._common is not None and bool((epochs == self._common).all()):
            logs = set(zip(topics, partitions.tolist(), strict=True))
            if logs <= self._logs.keys():  # one that is read for the first time has to be taken note of
                return None
        found = []
        rows = zip(topics, partitions.tolist(), offsets.tolist(), epochs.tolist(), strict=True)
        for row, (topic, partition, offset, epoch) in enumerate(rows):
            log = self.of((topic, partition))
            if epoch == log.newest:
                continue
            log.note(offset, epoch)
            if log.is_void(offset, epoch):
                found.append(row)
        self._settle()
        return np.array(found, np.intp) if found else None

    def _settle(self) -> None:
        newest = {log.newest for log in self._logs.values()}
        self._common = newest.pop() if len(newest) == 1 else None
