"""When tasks are due, and which scenarios there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtest import scenario
from loadtest.fleet import fleet
from loadtest.schedule import Schedule, Stage
from schemas.errors import ConfigurationError
from schemas.topology import load_topology

NAMES = (
    *(
        "burst",
        "drain",
        "latency-20k",
        "lifecycle-200k",
        "ramp",
        "remembering",
        "skew",
        "slow-agent",
        "smoke",
        "split-vote",
    ),
    *("store-down", "wide"),
)


def test_a_task_is_due_when_its_time_has_come_and_not_before() -> None:
    schedule = Schedule([Stage(2, 10), Stage(1, 100), Stage(0.5, 2)])
    assert (schedule.seconds, schedule.tasks) == (3.5, 20 + 100 + 1)
    offsets_us = schedule.offsets_us(np.arange(schedule.tasks))
    assert [schedule.offset_us(number) for number in range(schedule.tasks)] == offsets_us.tolist()
    times_s = offsets_us / 1e6
    assert (np.diff(times_s) > 0).all()
    for number, at in enumerate(times_s.tolist()):
        assert schedule.due(at - 1e-3) <= number
        assert schedule.due(at + 1e-4) >= number
    assert schedule.due(-1) == 0
    assert schedule.due(99) == schedule.tasks
    assert [schedule.stage_of(number) for number in (0, 19, 20, 119, 120)] == [0, 0, 1, 1, 2]


def test_a_hundredth_of_the_run_is_too_late() -> None:
    assert Schedule([Stage(90, 1)]).behind_max_s() == pytest.approx(0.9)
    assert Schedule([Stage(10, 1)]).behind_max_s() == 0.5


@pytest.mark.parametrize("stages", [[], [Stage(0, 1)], [Stage(1, 0)], [Stage(1, 1), Stage(-1, 1)]])
def test_a_schedule_that_cannot_be_is_refused(stages: list[Stage]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Schedule(stages)


def test_the_committed_scenarios_are_those_that_the_pages_name() -> None:
    assert tuple(scenario.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_scenario_can_be_run_on_the_shipped_topology(name: str, repository: Path) -> None:
    found = scenario.load(name)
    served = fleet(load_topology(repository / "topology.yaml"), found)
    assert found.schedule().tasks > 0
    assert len(served.agents) == (found.agents.count or 12)
    assert {agent.kind for agent in served.agents.values()} == {"batch"} | (
        {"python"} if found.agents.remember else set()
    )
    assert sum(agent.remembers for agent in served.agents.values()) == round(found.agents.remember * len(served.agents))
    assert {(each.metric, each.expression) for each in found.judged()} >= {
        (metric, "count==0") for metric in scenario.ALWAYS
    }
    changed = found.changed(50, 8, 2)
    measured = sum(stage.seconds for stage in changed.measured_stages())
    assert found.ramp is not None or measured == pytest.approx(8)


def test_a_slow_agent_is_the_first_of_its_route(repository: Path) -> None:
    served = fleet(load_topology(repository / "topology.yaml"), scenario.load("slow-agent"))
    slow = [name for name, agent in served.agents.items() if agent.options["slow_ms"]]
    assert slow == ["revenue_agent"]
    assert any(route.agents[0] == "revenue_agent" for route in served.routes.values())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rate: 5", "duration_s"),
        ("about: x\nrate: 5\nduration_s: 5\nthresholds: {speed: ['rate>1']}", "no metric speed"),
        ("about: x\nrate: 0\nduration_s: 5", "rate"),
        ("about: x\nrate: 5\nduration_s: 5\nmix: {single: 0.5}", "add up to 1"),
        ("about: x\nrate: 5\nduration_s: 5\nstages: [[1, 1]]", "add up to duration_s"),
        ("about: x\nrate: 5\nduration_s: 5\nramp: {start: 1}\ndrain: true", "exclude each other"),
        ("about: x\nrate: 5\nduration_s: 5\nspeed: 1", "speed"),
        ("[1, 2]", "mapping"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r".") as raised:
        scenario.load(str(path))
    assert why in str(raised.value)


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="lifecycle-200k"):
        scenario.load("nothing")


def test_a_file_of_ones_own_has_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("about: mine\nrate: 5\nduration_s: 5\nstages: [[2, 1], [3, 2]]\nthresholds: {tasks: ['rate>4']}\n")
    found = scenario.load(str(path))
    assert [(stage.seconds, stage.rate) for stage in found.measured_stages()] == [(2, 5), (3, 10)]
    assert "tasks" in {each.metric for each in found.judged()}
