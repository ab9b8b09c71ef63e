"""What a host reads back of its agents' logs, however many of their records come at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from agents.inbox import Inbox
from agents.outcome import STARTED
from agents.readback import ReadBack
from agents.recognition import Logged
from console.bench_rebuild import alone
from schemas.codec import Codec
from schemas.epochs import CLAIMED
from schemas.registry import FileRegistry
from streams.core.task import Slip
from streams.transport.batch import Batch, TopicPartition
from tests.support.scenes import T0_MS, event, events

TOPOLOGY = alone("one", partitions=2)
CODEC = Codec(FileRegistry.load(), TOPOLOGY.limits.record_bytes_max)
LOGS = [TopicPartition(TOPOLOGY.topics().events("one"), number) for number in (0, 1)]

SLIP = Slip("one", 1, 0, "WORK", "all", 1.0, "SINGLE", (), (), "", "1", "LOW", 1, 0, 0, 0, 1000, T0_MS, T0_MS * 1000)


def said(task: str, kind: str, answer: str | None = None, epoch: int = 1, version: str = "v1") -> dict[str, Any]:
    return event(
        SLIP,
        {"task_id": task},
        kind,
        answer=answer,
        epoch=epoch,
        agent_version=version,
        finished_at=T0_MS * 1000,
    )


def claim(epoch: int, version: str) -> dict[str, Any]:
    return event(SLIP._replace(reason=CLAIMED), {"task_id": ""}, "NOTE", epoch=epoch, agent_version=version)


WRITTEN = [
    (0, claim(1, "v1")),
    (1, claim(1, "v1")),
    (0, said("a", STARTED)),
    (0, said("b", STARTED)),
    (1, said("b", "COMPLETED", "of the other log")),
    (0, said("a", "COMPLETED", "first")),
    (0, said("a", "COMPLETED", "second")),
    (0, said("a", STARTED)),
    (0, claim(2, "v2")),
    (0, said("b", "COMPLETED", "of who was expelled", epoch=1, version="v0")),
    (0, said("c", "REFUSED", "none", epoch=2, version="v2")),
    (0, said("d", "COMPLETED", "of who was expelled", epoch=1, version="v0")),
]


class Log:
    """A consumer of what was written, so many records at once."""

    def __init__(self, rows: int) -> None:
        values = CODEC.encode(events([record for _, record in WRITTEN]).batch, "AgentEvent")
        numbers = np.array([number for number, _ in WRITTEN], np.int32)
        n, (topic, _) = len(values), LOGS[0]
        offsets = np.arange(n, dtype=np.int64)
        ends = {(topic, number): n for number in (0, 1)}
        whole = Batch(topic, list(values), [None] * n, [topic] * n, numbers, offsets, offsets, None, ends)
        self._batches = [whole.take(np.arange(at, min(at + rows, n))) for at in range(0, n, rows)]

    def read_to_end(self, _starts: Any, _ends: Any) -> Iterator[Batch]:
        return iter(self._batches)

    def watermarks(self, tps: Any) -> dict[TopicPartition, tuple[int, int]]:
        return {tp: (0, len(WRITTEN)) for tp in tps}

    def offsets_for_times(self, times: Any) -> dict[TopicPartition, int]:
        return dict.fromkeys(times, 0)


def logged_by_task(inbox: Inbox) -> dict[str, Logged]:
    return {key.rsplit(b":", 1)[1].decode(): logged for key, logged in inbox.known._logged.items()}


@pytest.mark.parametrize("rows", [1, 2, 5, len(WRITTEN)])
def test_the_first_outcome_of_each_attempt_is_read_back_and_nothing_of_who_was_expelled(rows: int) -> None:
    log: Any = Log(rows)
    told: list[Any] = []

    def claimed(newest: Any, versions: Any) -> dict[TopicPartition, int]:
        told.append((dict(newest), dict(versions)))
        return dict.fromkeys(LOGS, 3)

    inboxes = [TopicPartition(TOPOLOGY.topics().inbox("one"), tp.partition) for tp in LOGS]
    first, other = ReadBack(TOPOLOGY, CODEC, log).read(dict.fromkeys(inboxes, (0, "")), claimed).inboxes
    assert told == [({LOGS[0]: 2, LOGS[1]: 1}, {LOGS[0]: "v2", LOGS[1]: "v1"})]
    at = T0_MS * 1000
    assert logged_by_task(first) == {
        "a": Logged("COMPLETED", "first", at),
        "b": Logged(STARTED),
        "c": Logged("REFUSED", "none", at),
    }
    assert {task: logged.answer for task, logged in logged_by_task(other).items()} == {"b": "of the other log"}
    assert (first.epoch, first.epochs.newest) == (3, 2)
