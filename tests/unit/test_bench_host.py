"""The bench of a host ends with an error where the host does not do its work."""

from __future__ import annotations

from typing import Any

import pytest

from agents.ends import Ends
from agents.event_log import EventLog
from agents.service import Service
from console import bench_host
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.timeout(PATIENCE * 4)

POLL = ["--poll", "10", "--dispatches", "10"]


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


def test_it_measures_a_poll(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_host.main(POLL) == 0
    assert "cpu_us" in capsys.readouterr().out


@pytest.mark.parametrize(("of", "name"), [(Ends, "end_rows"), (EventLog, "_hand_over")])
def test_a_fault_ends_it(
    of: type, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(of, name, broken)
    assert bench_host.main(POLL) == 1
    assert "the host failed at a poll of 10: ZeroDivisionError('a fault of ours')" in capsys.readouterr().err


def test_what_never_comes_ends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_host, "POLL_S_MAX", 0.2)
    monkeypatch.setattr(Service, "take", lambda *_: None)
    assert bench_host.main(POLL) == 1
    assert "0 of 10 outcomes came in 0.2 s" in capsys.readouterr().err
