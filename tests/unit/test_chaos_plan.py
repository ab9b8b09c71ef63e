"""Plans of chaos: what they may say, how what is wrong with them is told, and that a seed decides everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.chaos.kinds import KINDS
from console.chaos.plan import Plan, PlanError, built_in, parse_plan, read_plan
from console.chaos.schedule import load_s, may_make_zombies, schedule
from schemas.codes import FaultCode
from tests.support.console import pointsman

PLANS = built_in()


def plan_of(text: str) -> Plan:
    return parse_plan(f"description: A test.\n{text}", "test.yaml")


def faults_of(text: str) -> list[str]:
    with pytest.raises(PlanError) as raised:
        parse_plan(text, "test.yaml")
    return [f"{fault.line} {fault.code} {fault.path}: {fault.message}" for fault in raised.value.faults]


def test_the_named_plans_are_there() -> None:
    wanted = {"smoke", "night", "readiness", "zombies", "asleep", "store-down", "steady", "rebalance-storm"}
    assert wanted <= set(PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_a_built_in_plan_is_sound_and_can_meet_what_it_expects(name: str) -> None:
    plan = parse_plan(PLANS[name], name)
    for seed in range(3):
        dues = schedule(plan, name, seed)
        assert len(dues) >= plan.expect.faults_min
        assert [due.at_s for due in dues] == sorted(due.at_s for due in dues)
        assert load_s(plan, dues) >= max(due.ends_s for due in dues) + plan.tail_s


def test_the_night_has_every_kind_of_fault_and_five_of_them_are_more_than_a_hundred() -> None:
    plan = parse_plan(PLANS["night"], "night")
    assert {step.fault for step in plan.faults} == set(KINDS)
    assert 5 * plan.expect.faults_min >= 100


def test_the_readiness_plan_has_its_three_failures_at_one_time() -> None:
    plan = parse_plan(PLANS["readiness"], "readiness")
    together = [(due.at_s, due.ends_s) for due in schedule(plan, "readiness", 1)]
    assert max(began for began, _ in together) < min(ended for _, ended in together)
    assert {"kill", "agent-wrong", "api-outage"} <= {step.fault for step in plan.faults}


def test_the_same_seed_gives_the_same_schedule_and_another_another() -> None:
    plan = parse_plan(PLANS["night"], "night")
    assert schedule(plan, "night", 3) == schedule(plan, "night", 3)
    assert schedule(plan, "night", 3) != schedule(plan, "night", 4)


def test_a_shuffled_plan_has_each_fault_once_and_spaced() -> None:
    plan = plan_of(
        "order: shuffled\nevery_s: 10\nwarm_up_s: 5\nfaults:\n  - {fault: kill, on: worker}\n  - {fault: corrupt}\n"
        "  - {fault: kill, on: store, jitter_s: 2}\n"
    )
    for seed in range(20):
        dues = schedule(plan, "p", seed)
        assert sorted(due.kind for due in dues) == ["corrupt", "kill", "kill"]
        assert all(5 + 10 * n <= due.at_s < 5 + 10 * n + 2 for n, due in enumerate(dues))
    assert len({tuple(due.on for due in schedule(plan, "p", seed)) for seed in range(20)}) > 3


def test_a_drawn_plan_fills_its_time_by_weight() -> None:
    plan = plan_of(
        "order: drawn\nevery_s: 1\nwarm_up_s: 0\nduration_s: 1000\ntail_s: 0\n"
        "faults:\n  - {fault: corrupt, weight: 9}\n  - {fault: kill, on: host}\n"
    )
    kinds = [due.kind for due in schedule(plan, "p", 1)]
    assert len(kinds) == 1001
    assert 850 < kinds.count("corrupt") < 950


def test_a_kind_of_process_becomes_one_of_them_and_agents_are_drawn() -> None:
    plan = plan_of("workers: 3\nfaults:\n  - {fault: kill, on: worker, at_s: 1}\n  - {fault: agent-fails, at_s: 2}\n")
    drawn = [schedule(plan, "p", seed) for seed in range(40)]
    assert {dues[0].on for dues in drawn} == {"worker-1", "worker-2", "worker-3"}
    assert len({dues[1].on for dues in drawn}) > 3


def test_only_who_was_away_past_a_session_may_have_become_a_zombie() -> None:
    for for_s, slots, may in ((3, False, False), (14, False, True), (14, True, False), (31, True, True)):
        plan = plan_of(f"faults:\n  - {{fault: pause, on: worker, at_s: 1, for_s: {for_s}}}\n")
        assert may_make_zombies(schedule(plan, "p", 1), slots=slots) is may
    hosts = plan_of("faults:\n  - {fault: pause, on: host, at_s: 1, for_s: 14}\n")
    assert not may_make_zombies(schedule(hosts, "p", 1), slots=False)


def test_what_is_wrong_with_a_plan_is_told_at_once_with_lines_and_nearest_words() -> None:
    shapes = faults_of("""description: ""
wrokers: 2
rate: -1
faults:
  - {fault: kil, on: worker, at_s: 1}
""")
    assert shapes[:3] == [
        f"1 {FaultCode.WRONG_FORM} description: must match \\S, but is ''",
        f"2 {FaultCode.UNKNOWN_KEY} wrokers: is not a known key; did you mean workers?",
        f"3 {FaultCode.OUT_OF_RANGE} rate: must be more than 0.0, but is -1",
    ]
    assert shapes[3].startswith(f"5 {FaultCode.NOT_A_CHOICE} faults[0].fault: must be kill, stop, ")
    assert shapes[3].endswith("but is 'kil'; did you mean kill?")


def test_what_one_key_asks_of_another_is_told_with_its_line() -> None:
    first, second, third = faults_of("""description: x
faults:
  - {fault: kill, on: wroker, at_s: 2}
  - {fault: kill, on: worker, at_s: 3, slow_ms: 5}
  - {fault: corrupt}
""")
    assert first == f"3 {FaultCode.NOT_A_CHOICE} faults[0].on: kill cannot be done to wroker; did you mean worker?"
    assert second.startswith(f"4 {FaultCode.KEY_OF_ANOTHER_KIND} faults[1].slow_ms: is no key of kill")
    assert third == f"5 {FaultCode.MISSING_KEY} faults[2].at_s: is missing, and the order is listed"


def test_a_plan_is_a_mapping_with_at_least_one_fault() -> None:
    assert faults_of("") == [f"1 {FaultCode.NO_MAPPING} : is empty"]
    (found,) = faults_of("description: x\nfaults: []\n")
    assert found.startswith(f"2 {FaultCode.EMPTY} faults: ")


def test_a_file_that_is_no_text_is_a_fault_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="is not UTF-8"):
        read_plan(path)


def test_the_command_names_the_nearest_plan_and_the_faults_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = pointsman(capsys, "chaos", "run", "nigth")
    assert (said.code, said.out) == (4, "")
    assert "did you mean night?" in said.err
    path = tmp_path / "mine.yaml"
    path.write_text("description: x\nfaults:\n  - {fault: kill, on: router, at_s: 1}\n")
    said = pointsman(capsys, "chaos", "run", str(path))
    assert said.code == 5
    assert f"{path}:3:23: faults[0].on: kill cannot be done to router" in said.err


def test_every_kind_of_fault_says_what_it_does() -> None:
    assert all(kind.means and kind.targets for kind in KINDS.values())
