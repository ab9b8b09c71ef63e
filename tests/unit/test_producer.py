"""What a producer drops and what it does not, whenever its broker answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import confluent_kafka as ck
import pytest

from streams.transport import producer
from streams.transport.producer import Producer


class Librdkafka:
    """Its queue: of three records one is acknowledged while the others are purged."""

    def __init__(self, on_delivery: Callable[[ck.KafkaError | None, Any], None]) -> None:
        self._queued, self._reports, self._on_delivery = 3, 0, on_delivery

    def __len__(self) -> int:
        return self._queued + self._reports

    def purge(self, in_flight: bool = True) -> None:
        del in_flight
        self._queued, self._reports = 0, min(self._queued, 2)

    def poll(self, timeout_s: float) -> int:
        del timeout_s
        served, self._reports = self._reports, 0
        for _ in range(served):
            self._on_delivery(ck.KafkaError(ck.KafkaError._PURGE_QUEUE), None)
        return served

    def flush(self, timeout_s: float) -> int:
        self.poll(timeout_s)
        return len(self)


def test_what_arrives_while_the_rest_is_withdrawn_was_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "opened", lambda _kind, config, _watch: Librdkafka(config["on_delivery"]))
    out = Producer({})
    assert out.withdraw(0.0) == 2
    assert out.withdraw(0.0) == 0
    out.poll()
