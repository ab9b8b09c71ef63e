"""When an ended process is started again."""

from __future__ import annotations

from console.local.restarts import ENDS_MAX, STEADY_S, Restarts


def test_pauses_grow_and_end() -> None:
    restarts, now = Restarts(), 1000.0
    pauses = []
    for _ in range(ENDS_MAX):
        restarts.started(now)
        now += 1.0
        pause = restarts.ended(now)
        assert pause is not None
        assert restarts.due_at == now + pause
        pauses.append(pause)
        now += pause
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    restarts.started(now)
    assert restarts.due_at is None
    assert restarts.ended(now + 1.0) is None


def test_a_process_that_served_for_long_begins_anew() -> None:
    restarts = Restarts()
    for _ in range(ENDS_MAX * 3):
        restarts.started(0.0)
        assert restarts.ended(STEADY_S) == 1.0
