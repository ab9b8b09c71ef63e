"""The load of a chaos run: tasks on a wall-clock schedule, through a link, and which of them the broker acknowledged.

Open loop: the time at which a task was meant to be sent is in its record. Where the way to the broker is cut, the tasks
that came due are sent when it is back, under the same ids. I/O: Kafka, the clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.invariants import TaskKey
from schemas.errors import PointsmanError
from schemas.mixing import shares
from schemas.settings import Settings
from schemas.topology import Topology
from streams.client import Client
from streams.client.client import Prepared

TICK_S = 0.02
SURE, HALF_SURE, UNSURE = 0.95, 0.65, 0.3
SHARES = (0.80, 0.15, 0.05)
CONVERSATIONS = 2_000
# A third of the tasks belong to none.
LONERS = 3
DRAWS = 3  # for each task
FLUSH_S = 5.0
PAUSE_S = 0.2
NAME = "pointsman-chaos-load"
USUAL_MIX: Mapping[str, float] = {"lookup": 0.8, "advice": 0.08, "forecast": 0.06, "booking": 0.06}


class Tasks:
    """Tasks by number: the same seed gives the same. `mix`: routes by weight."""

    def __init__(
        self, topology: Topology, seed: int, mix: Mapping[str, float], deadline_s: float, prefix: str, tenant: str
    ) -> None:
        weights = {name: weight for name, weight in (mix or USUAL_MIX).items() if name in topology.routes}
        weights = weights or dict.fromkeys(topology.routes, 1.0)
        self._intents = list(weights)
        self._shares = np.cumsum(list(weights.values())) / sum(weights.values())
        self._phrases = [
            (topology.routes[name].phrases[0].phrase if topology.routes[name].phrases else name)
            for name in self._intents
        ]
        self._seed, self._deadline_s, self.prefix, self._tenant = seed, deadline_s, prefix, tenant

    def columns(self, numbers: Sequence[int], meant_us: Sequence[int]) -> dict[str, Any]:
        """Columns of TaskSubmitted; `meant_us` is when each was meant to be sent."""
        routes = _of(self._shares, self._draw(numbers, 0))
        conversations = (self._draw(numbers, 1) * CONVERSATIONS).astype(np.int64).tolist()
        confidences = _of(np.cumsum(SHARES), self._draw(numbers, 2))
        return {
            "task_id": [f"{self.prefix}{number}" for number in numbers],
            "tenant": self._tenant,
            "conversation_id": [
                None if number % LONERS == 0 else f"{self.prefix}c{conversation}"
                for number, conversation in zip(numbers, conversations, strict=True)
            ],
            "text": [f"{self._phrases[route]} number {number}" for number, route in zip(numbers, routes, strict=True)],
            "intent": [self._intents[route] for route in routes],
            "confidence": [(SURE, HALF_SURE, UNSURE)[each] for each in confidences],
            "submitted_at": list(meant_us),
            "deadline_ms": [self.deadline_ms(at) for at in meant_us],
        }

    def _draw(self, numbers: Sequence[int], which: int) -> npt.NDArray[np.float64]:
        """At least 0 and less than 1 for each task, by its number alone: a generator for each took a fifth of a core at
        4,600 tasks a second, from the deployment beside it."""
        own = np.asarray(numbers, np.uint64) * np.uint64(DRAWS) + np.uint64(which)
        return shares(own + np.uint64(self._seed % 2**32) * np.uint64(2**32) + np.uint64(1))

    def key(self, number: int) -> TaskKey:
        return self._tenant, f"{self.prefix}{number}"

    def deadline_ms(self, meant_us: int) -> int:
        """Of a task that was meant to be sent then."""
        return meant_us // 1000 + int(self._deadline_s * 1000)


def _of(shares: npt.NDArray[np.float64], drawn: npt.NDArray[np.float64]) -> list[int]:
    """Which of the shares each number falls into; `shares` are added up."""
    found: list[int] = np.minimum(np.searchsorted(shares, drawn, side="right"), len(shares) - 1).tolist()
    return found


class Load(threading.Thread):
    """Sends `rate` tasks a second, a share of them twice, until it is told that it is `enough`; then `join` it.

    `acknowledged` are the ids that the broker has confirmed, `retried` counts what had to be sent again. What went
    wrong for good is in `error`.
    """

    def __init__(self, settings: Settings, topology: Topology, tasks: Tasks, rate: float, repeats: float) -> None:
        super().__init__(name="chaos-load", daemon=True)
        self._client = Client.of(settings, topology, NAME)
        self._tasks, self._rate, self._repeats = tasks, rate, repeats
        self._enough = threading.Event()
        self._waiting: list[Prepared] = []
        self.began_us = 0
        self.sent = 0
        self.behind_s = 0.0
        self.retried = 0
        self.acknowledged: set[str] = set()
        self.error: Exception | None = None

    def run(self) -> None:
        self.began_us = time.time_ns() // 1000
        try:
            while not self._enough.is_set():
                self._send_due()
                time.sleep(TICK_S)
            while self._waiting:
                self._deliver(FLUSH_S)
        except Exception as error:  # noqa: BLE001  for whoever joins
            self.error = error
        finally:
            self._client.close()

    def deadlines_ms(self) -> dict[TaskKey, int]:
        """By task, of all that were sent."""
        return {self._tasks.key(number): self._tasks.deadline_ms(self._meant_us(number)) for number in range(self.sent)}

    def enough(self) -> None:
        """What is due by now is all."""
        self._enough.set()

    def _send_due(self) -> None:
        elapsed_s = (time.time_ns() // 1000 - self.began_us) / 1e6
        due = int(elapsed_s * self._rate) + 1
        if due > self.sent:
            numbers = range(self.sent, due)
            meant = [self._meant_us(number) for number in numbers]
            self._waiting.append(self._client.prepare_columns(self._tasks.columns(numbers, meant)))
            again = [number for number in numbers if number * self._repeats % 1 + self._repeats > 1]
            if again:
                meant_again = [meant[number - self.sent] for number in again]
                self._waiting.append(self._client.prepare_columns(self._tasks.columns(again, meant_again)))
            self.behind_s = max(self.behind_s, elapsed_s - self.sent / self._rate)
            self.sent = due
            self._deliver(FLUSH_S)

    def _meant_us(self, number: int) -> int:
        return self.began_us + int(number * 1e6 / self._rate)

    def _deliver(self, timeout_s: float) -> None:
        """What waits, until it is acknowledged; what is not, waits for the next time, and may have arrived."""
        try:
            self.acknowledged |= set(self._client.send(self._waiting, timeout_s=timeout_s))
        except PointsmanError:
            self.retried += sum(len(each.task_ids) for each in self._waiting)
            time.sleep(PAUSE_S)
        else:
            self._waiting = []
