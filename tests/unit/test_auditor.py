"""The auditor finds each breach, and only breaches."""

from __future__ import annotations

from loadtest.auditor import Report, TaskAudit, audit_tasks
from loadtest.invariants import Dispatched, Ended, Outcome, Submission, compare, out_of_order


def asked(task_id: str, offset: int, conversation: str | None = None, partition: int = 0) -> Submission:
    return Submission("acme", task_id, conversation, partition, offset)


def sent(task_id: str, agent: str, offset: int, attempt: int = 1, stage: str = "WORK", seats: int = 0) -> Dispatched:
    return Dispatched("acme", task_id, agent, attempt, stage, seats, 0, offset)


def heard(task_id: str, agent: str, attempt: int = 1, stage: str = "WORK") -> Outcome:
    return Outcome("acme", task_id, agent, attempt, stage)


def ended(*task_ids: str) -> list[Ended]:
    return [Ended("acme", task_id) for task_id in task_ids]


def test_a_sound_run_has_no_breach() -> None:
    audit = audit_tasks(
        [asked("a", 0), asked("b", 1), asked("a", 2)],
        [sent("a", "alpha", 0), sent("b", "alpha", 1), sent("b", "beta", 0, attempt=2)],
        [heard("a", "alpha"), heard("b", "alpha"), heard("b", "beta", attempt=2)],
        ended("a", "b"),
    )
    assert audit.breaches == {}
    assert (audit.submitted, audit.accepted, audit.results, audit.dispatches, audit.outcomes) == (3, 2, 2, 3, 3)


def test_a_task_without_result_is_lost_and_one_with_two_is_duplicated() -> None:
    audit = audit_tasks([asked("a", 0), asked("b", 1)], [], [], ended("b", "b"))
    assert audit.breaches == {"lost": (("acme", "a"),), "duplicated": (("acme", "b"),)}
    assert audit.results == 2


def test_the_same_id_of_two_tenants_is_two_tasks() -> None:
    audit = audit_tasks([asked("a", 0), Submission("other", "a", None, 0, 1)], [], [], ended("a"))
    assert audit.lost == (("other", "a"),)


def test_results_and_outcomes_that_nobody_asked_for() -> None:
    audit = audit_tasks(
        [asked("a", 0)], [sent("a", "alpha", 0)], [heard("a", "alpha", attempt=2), heard("a", "beta")], ended("a", "x")
    )
    assert audit.breaches == {"unasked": (("acme", "x"), ("acme", "a"))}


def test_nobody_is_asked_twice_but_for_the_re_run() -> None:
    dispatches = [
        sent("a", "alpha", 0, seats=2),
        sent("a", "alpha", 1, attempt=3, stage="REGROUND", seats=2),
        sent("b", "alpha", 2),
        sent("b", "alpha", 3, attempt=2),
    ]
    audit = audit_tasks([asked("a", 0), asked("b", 1)], dispatches, [], ended("a", "b"))
    assert audit.breaches == {"asked_twice": (("acme", "b"),)}


def test_a_dispatch_written_twice_is_a_second_call() -> None:
    audit = audit_tasks([asked("a", 0)], [sent("a", "alpha", 0), sent("a", "alpha", 1)], [], ended("a"))
    assert audit.breaches == {"asked_twice": (("acme", "a"),)}


def test_order_within_a_conversation_per_agent() -> None:
    submissions = [asked("a", 0, "c"), asked("b", 1, "c"), asked("x", 2, "other"), asked("y", 3)]
    kept = [
        sent("x", "alpha", 0),
        sent("a", "alpha", 1),
        sent("b", "beta", 0),
        sent("b", "alpha", 2),
        sent("y", "alpha", 3),
    ]
    assert audit_tasks(submissions, kept, [], ended("a", "b", "x", "y")).out_of_order == ()
    broken = [sent("b", "alpha", 0), sent("a", "alpha", 1)]
    assert audit_tasks(submissions, broken, [], ended("a", "b", "x", "y")).out_of_order == (("acme", "a"),)


def test_every_seat_of_a_panel_keeps_order_and_a_cascade_need_not() -> None:
    submissions = [asked("a", 0, "c"), asked("b", 1, "c")]
    seat = [sent("b", "beta", 0, attempt=2, seats=2), sent("a", "beta", 1, attempt=2, seats=2)]
    assert audit_tasks(submissions, seat, [], ended("a", "b")).out_of_order == (("acme", "a"),)
    cascade = [sent("b", "beta", 0), sent("a", "beta", 1, attempt=2)]
    assert audit_tasks(submissions, cascade, [], ended("a", "b")).out_of_order == ()


def test_a_panel_of_which_an_expelled_worker_wrote_a_seat_is_made_whole_before_an_earlier_task_is_asked_for() -> None:
    submissions = [Submission("acme", "a", "c", 0, 0), Submission("acme", "b", "c", 0, 1)]
    seat = Dispatched("acme", "b", "beta", 2, "WORK", 2, 0, 0, routed_at=1)
    made_whole = Dispatched("acme", "b", "alpha", 1, "WORK", 2, 0, 0, routed_at=5)
    later = Dispatched("acme", "a", "alpha", 1, "WORK", 0, 0, 1, routed_at=6)
    assert out_of_order(submissions, [made_whole, later], [seat]) == ()
    assert out_of_order(submissions, [made_whole, later]) == (("acme", "a"),)
    again = seat._replace(routed_at=5)
    assert out_of_order(submissions, [made_whole, again, later], [seat]) == (("acme", "a"),), "nobody had found it"
    assert out_of_order(submissions, [made_whole, later], [seat._replace(seats=0)]) == (("acme", "a"),), "no panel"


def test_a_repeated_submission_keeps_its_first_place() -> None:
    submissions = [asked("a", 0, "c"), asked("b", 1, "c"), asked("a", 2, "c")]
    assert audit_tasks(submissions, [sent("a", "alpha", 0), sent("b", "alpha", 1)], [], ended("a", "b")).breaches == {}


def test_completeness() -> None:
    assert compare("results", ["a", "b", "b"], ["b", "a"]).complete
    part = compare("results", ["a", "b"], ["b", "b", "x"])
    assert not part.complete
    assert (part.expected, part.missing, part.surplus, part.repeated) == (2, ("a",), ("x",), ("b",))


def test_a_report_says_it_in_one_line_and_names_what_is_wrong() -> None:
    audit = audit_tasks([asked("a", 0)], [], [], ended("a"))
    report = Report(audit, 2, (compare("results", ["a"], ["a"]),))
    assert report.sound
    assert report.summary == "1 accepted, 1 results, 0 lost, 0 duplicated, 2 dead-lettered, history complete"
    assert report.findings() == []


def test_a_report_of_a_broken_run() -> None:
    audit = audit_tasks([asked(task, place) for place, task in enumerate("abcd")], [], [], [])
    report = Report(audit, 0, (compare("results", ["a", "b"], ["b", "b", "x"]),))
    assert not report.sound
    assert report.summary == "4 accepted, 0 results, 4 lost, 0 duplicated, 0 dead-lettered, history INCOMPLETE"
    assert report.findings() == [
        "4 lost: ('acme', 'a'), ('acme', 'b'), ('acme', 'c'), ...",
        "results: 1 missing of 2: a",
        "results: 1 surplus of 2: x",
        "results: 1 repeated of 2: b",
    ]


def test_an_incomplete_history_is_not_sound_though_all_tasks_are() -> None:
    sound = TaskAudit(0, 0, 0, 0, 0, (), (), (), (), ())
    assert not Report(sound, 0, (compare("tasks", ["a"], []),)).sound
