"""What lies unread with a host is not overdue: how far hosts have read, and what a cell makes of it."""

from __future__ import annotations

from schemas.dispatch_wait import wait_ms
from streams.core.cell import Cell
from streams.core.hosts import AHEAD_MS, Hosts
from streams.core.intake import Heard, Intake
from streams.core.policy import Policy
from tests.support import scenes
from tests.support.scenes import T0_MS

VERDICT_MS = 2_300
TASK = {"task_id": "t", "text": "", "intent": "money", "confidence": 0.95, "deadline_ms": T0_MS + 60_000}


def hosts() -> Hosts:
    return Hosts({"a": VERDICT_MS, "b": VERDICT_MS})


def test_what_was_routed_after_all_that_was_answered_is_unread() -> None:
    seen = hosts()
    assert not seen.has_begun("a", T0_MS), "nothing was heard of it"
    seen.heard("a", 1, T0_MS, T0_MS + 100)
    assert seen.has_begun("a", T0_MS)
    assert not seen.has_begun("a", T0_MS + 1)
    assert not seen.has_begun("b", T0_MS), "each agent has an inbox of its own"


def test_a_dispatch_is_over_when_its_host_has_had_the_time_for_a_verdict() -> None:
    seen = hosts()
    seen.heard("a", 1, T0_MS, T0_MS + 5_000)
    seen.heard("a", 1, T0_MS + 4_000, T0_MS + 6_000)
    seen.pass_to(T0_MS + 5_000 + VERDICT_MS - 1)
    assert not seen.is_over("a", T0_MS)
    seen.pass_to(T0_MS + 5_000 + VERDICT_MS)
    assert seen.is_over("a", T0_MS)
    assert not seen.is_over("a", T0_MS + 1)
    seen.pass_to(T0_MS + 6_000 + VERDICT_MS)
    assert seen.is_over("a", T0_MS + 4_000)


def test_what_a_host_left_unanswered_is_unread_again_once_another_has_claimed_the_inbox() -> None:
    seen = hosts()
    seen.heard("a", 1, T0_MS, T0_MS)
    seen.pass_to(T0_MS + VERDICT_MS)
    assert seen.is_over("a", T0_MS)
    seen.heard("a", 2, 0, T0_MS + VERDICT_MS)
    assert not seen.is_over("a", T0_MS)
    assert not seen.has_begun("a", T0_MS)


def test_a_time_that_a_clock_told_before_it_was_set_back_is_forgotten() -> None:
    seen = hosts()
    seen.heard("a", 1, T0_MS + 3_600_000, T0_MS + 3_600_000)
    seen.pass_to(T0_MS + 3_600_000 - AHEAD_MS - 1)
    assert not seen.has_begun("a", T0_MS)


def test_half_of_a_task_s_time_is_left_for_another_agent() -> None:
    assert wait_ms(15_000, T0_MS, T0_MS + 60_000) == 15_000
    assert wait_ms(15_000, T0_MS, T0_MS + 5_000) == 2_500
    assert wait_ms(15_000, T0_MS, T0_MS - 1) == 0


class Stalled:
    """One task whose agent's host says nothing; `seen` is what is known of hosts."""

    def __init__(self) -> None:
        self.policy = Policy.compile(scenes.topology())
        self.cell, self.seen = Cell(self.policy, 0), Hosts({})
        sent = self.cell.submit(Intake.read(self.policy, scenes.submissions([TASK]), T0_MS), T0_MS)
        self.slip = sent.one_by_one().dispatches[0].slip
        self.overdue_ms = T0_MS + self.slip.timeout_ms + self.policy.topology.limits.timeout_grace_ms

    def failures(self) -> int:
        return sum(counts.failures for counts in self.cell.drain_health().values())


def test_an_attempt_that_lies_unread_is_not_handed_on_before_its_wait_is_over_and_blames_nobody() -> None:
    scene = Stalled()
    waits_ms = scene.policy.topology.limits.dispatch_wait_ms
    for at_ms in range(scene.overdue_ms, scene.overdue_ms + waits_ms, 1_000):
        assert not scene.cell.tick(at_ms, hosts=scene.seen)
    handed_on = scene.cell.tick(scene.overdue_ms + waits_ms, hosts=scene.seen).one_by_one()
    assert [(note.kind, note.reason) for note in handed_on.notes] == [("CASCADED", "TIMED_OUT")]
    assert scene.failures() == 0


def test_an_attempt_that_a_host_has_passed_over_is_overdue_as_ever() -> None:
    scene = Stalled()
    scene.seen.heard(scene.slip.agent_id, 1, T0_MS + 1, T0_MS + 2)
    scene.seen.pass_to(scene.overdue_ms)
    handed_on = scene.cell.tick(scene.overdue_ms, hosts=scene.seen).one_by_one()
    assert [(note.kind, note.reason) for note in handed_on.notes] == [("CASCADED", "TIMED_OUT")]
    assert scene.failures() == 1


def test_the_deadline_waits_for_no_host() -> None:
    scene = Stalled()
    ended = scene.cell.tick(T0_MS + 60_000, hosts=scene.seen).one_by_one()
    assert [result.status for result in ended.results] == ["EXPIRED"]


def test_a_late_answer_of_a_host_that_was_behind_counts() -> None:
    scene = Stalled()
    assert not scene.cell.tick(scene.overdue_ms + 5_000, hosts=scene.seen)
    event = scenes.event(scene.slip, TASK, kind="COMPLETED", answer="yes", citations=["page 2"])
    ended = scene.cell.collect(Heard.read(scenes.events([event])), scene.overdue_ms + 6_000).one_by_one()
    assert [result.status for result in ended.results] == ["COMPLETED"]
