"""Positions that nobody tells: because no broker answers, or because a transaction over them never ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streams.transport import faust_tenure
from streams.transport.batch import TopicPartition
from streams.transport.clients import HangingTransactionError, NotYetError
from streams.transport.faust_tenure import Driver

TP = TopicPartition("tasks", 0)


class Asking(Driver):
    """A driver whose reader answers at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def _request(self, request: Callable[[Any], Any]) -> Any:
        return request(None)

    def mark_up(self) -> None:
        pass


def silent(*_: object) -> Any:
    raise NotYetError("the broker did not answer")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_tenure, "STABLE_TIMEOUT_S", 0.01)
    monkeypatch.setattr(faust_tenure, "committed", silent)


async def test_where_only_positions_are_not_told_a_transaction_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_tenure, "watermarks", lambda _, tps: dict.fromkeys(tps, (0, 7)))
    with pytest.raises(HangingTransactionError, match="__consumer_offsets"):
        await Asking().committed([TP])


async def test_where_nothing_is_told_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_tenure, "watermarks", silent)
    with pytest.raises(NotYetError):
        await Asking().committed([TP])
