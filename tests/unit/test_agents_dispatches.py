"""When a host takes an attempt for overdue: from when it read it, within what worker and host agree on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agents.dispatches import Dispatched, attempts
from agents.inbox import Inbox
from schemas.dispatch_wait import wait_ms
from schemas.tenants import TenantDefaults
from streams.core.cell import Cell
from streams.core.intake import Intake
from streams.core.policy import Policy
from tests.support import scenes
from tests.support.scenes import T0_MS

TIMEOUT_MS, DEADLINE_MS, WAIT_MS = 2_000, T0_MS + 60_000, 15_000
Read = Callable[[int], Dispatched]


@pytest.fixture
def read() -> Read:
    """A dispatch that was routed at T0 and has 60 s, read so much later."""
    task = {"task_id": "t", "text": "", "intent": "money", "confidence": 0.95, "deadline_ms": DEADLINE_MS}
    policy = Policy.compile(scenes.topology())
    sent = Cell(policy, 0).submit(Intake.read(policy, scenes.submissions([task]), T0_MS), T0_MS).one_by_one()
    facts = scenes.dispatch_facts([(sent.dispatches[0], task)], [T0_MS])

    def at(after_ms: int) -> Dispatched:
        return Dispatched.of(1, facts.batch, [b"t"], T0_MS + after_ms, WAIT_MS)

    return at


def test_an_attempt_has_its_timeout_from_when_it_is_read(read: Read) -> None:
    for after_ms in (0, 300, 6_000, WAIT_MS):
        assert read(after_ms).expires_ms().tolist() == [T0_MS + after_ms + TIMEOUT_MS]


def test_it_waits_no_longer_than_the_worker_does(read: Read) -> None:
    at_most_ms = T0_MS + wait_ms(WAIT_MS, T0_MS, DEADLINE_MS) + TIMEOUT_MS
    assert read(WAIT_MS + 1_000).expires_ms().tolist() == [at_most_ms]
    late = next(attempts(read(50_000), [Inbox("alpha", "inbox", 0)], [0], TenantDefaults(scenes.topology())))
    assert late.expires_ms == at_most_ms
    assert late.was_read_late, "the host is to blame, and no agent"


def test_a_clock_of_a_worker_that_is_ahead_gives_no_less_time(read: Read) -> None:
    assert read(-5_000).expires_ms().tolist() == [T0_MS + TIMEOUT_MS]
