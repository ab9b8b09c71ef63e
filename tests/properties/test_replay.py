"""Replay: under the topology that was recorded it is the record, and under another only what that changes changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from console.cli.recorded import Ended
from console.cli.replay import Compared, summary
from loadtest.judge import Facts
from streams.core.policy import Policy
from streams.core.replay import Call, Recorded, Replayed, Told, replay
from tests.support import scenes
from tests.support.lives import life
from tests.support.scenes import T0_MS

SEEDS = st.integers(0, 10**6)
LOOK_MS = 100
"""How often somebody looks at the clock in these lives, where nothing else happens."""


def recorded(facts: Facts, row: int = 0) -> Recorded:
    told: dict[Call, Told] = {}
    for dispatch in facts.dispatches:
        slip = dispatch["slip"]
        call = Call(slip["agent_id"], slip["stage"])
        mine = [event for event in facts.events if event["slip"]["attempt"] == slip["attempt"]]
        known = Told(None)
        if mine:
            task = {**mine[0]["task"], "submitted_at": 0, "deadline_ms": 0, "labels": []}
            after_ms = (mine[0]["finished_at"] - slip["routed_at"]) // 1000
            known = Told({name: value for name, value in mine[0].items() if name != "slip"} | {"task": task}, after_ms)
        told.setdefault(call, known)
    return Recorded(row, T0_MS, told)


def ended(facts: Facts) -> Ended:
    (result,) = facts.results
    calls = tuple(Call(each["slip"]["agent_id"], each["slip"]["stage"]) for each in facts.dispatches)
    own = {name: result[name] for name in ("intent", "status", "reason", "cost_microusd", "tokens")}
    task = facts.submissions[0]
    return Ended(
        (task["tenant"], task["task_id"]), calls, took_ms=result["decided_at"] // 1000 - T0_MS, route_version="v", **own
    )


def again(changes: dict[str, Any], lives: Sequence[Facts]) -> list[Compared]:
    policy = Policy.compile(scenes.topology(**changes))
    submissions = scenes.submissions([each.submissions[0] for each in lives])
    found: list[Replayed] = list(replay(policy, submissions, [recorded(each, row) for row, each in enumerate(lives)]))
    return [Compared(ended(each), after) for each, after in zip(lives, found, strict=True)]


def told_apart(facts: Facts) -> bool:
    """Whether no agent's time was over in the same look at the clock as the task's: the deadline goes first there, and
    nobody knows afterwards how long the look took."""
    (result,) = facts.results
    grace_ms = scenes.topology().limits.timeout_grace_ms
    overdue = [each["slip"]["routed_at_ms"] + each["slip"]["timeout_ms"] + grace_ms for each in facts.dispatches]
    return result["reason"] != "DEADLINE" or not any(0 <= result["decided_at_ms"] - at < LOOK_MS for at in overdue)


def test_a_life_whose_agent_and_deadline_end_in_one_look_is_known_for_it() -> None:
    assert not told_apart(life(scenes.topology(), 198))
    assert sum(not told_apart(life(scenes.topology(), seed)) for seed in range(400)) < 10


@given(st.lists(SEEDS, min_size=1, max_size=8, unique=True))
def test_under_the_recorded_topology_it_is_the_record(seeds: list[int]) -> None:
    lives = [life(scenes.topology(), seed, f"t{seed}") for seed in seeds]
    assume(all(map(told_apart, lives)))
    for each in again({}, lives):
        assert not each.changed, each
        assert each.after.result is not None
        assert (each.after.result.cost_microusd, each.after.result.tokens) == (
            each.before.cost_microusd,
            each.before.tokens,
        )
    told = summary(scenes.topology(), again({}, lives))
    assert (told["changed"], told["unknown"], told["tasks"]) == (0, 0, len(seeds))
    assert told["cost_before_microusd"] == told["cost_after_microusd"]


@given(SEEDS)
def test_a_changed_route_changes_its_tasks_and_no_others(seed: int) -> None:
    routes = {**scenes.ROUTES, "money": {**scenes.ROUTES["money"], "agents": ["beta", "alpha", "gamma"]}}
    facts = life(scenes.topology(), seed)
    assume(told_apart(facts))
    (each,) = again({"routes": routes}, [facts])
    if facts.results[0]["intent"] != "money":
        assert not each.changed
    elif each.before.calls and each.before.calls[0].agent_id == "alpha":
        assert each.after.calls[0].agent_id == "beta"
        assert each.changed
        assert (each.after.result is None) == (each.after.unknown is not None)


def test_what_was_never_asked_is_unknown_and_has_no_cost() -> None:
    seed = next(number for number in range(1000) if _is_single(life(scenes.topology(), number)))
    routes = {**scenes.ROUTES, "money": {**scenes.ROUTES["money"], "agents": ["gamma", "alpha"]}}
    compared = again({"routes": routes}, [life(scenes.topology(), seed)])
    row = compared[0].row()
    assert (row["changed"], row["unknown_agent"], row["route_after"]) == (True, "gamma", ["gamma"])
    assert (row["status_after"], row["cost_after_microusd"], row["after_ms"]) == (None, None, None)
    told = summary(scenes.topology(routes=routes), compared)
    assert told["unknown_agents"] == {"gamma": 1}
    assert (told["cost_before_microusd"], told["cost_after_microusd"]) == (0, 0), "costs are those of known tasks"


def test_who_was_out_of_service_then_is_so_again() -> None:
    seed = next(number for number in range(1000) if _is_single(life(scenes.topology(), number)))
    facts = life(scenes.topology(), seed)
    one = replace(recorded(facts), blocked=frozenset({"alpha"}))
    (found,) = replay(Policy.compile(scenes.topology()), scenes.submissions(facts.submissions), [one])
    assert (found.calls, found.unknown) == ((Call("beta", "WORK"),), Call("beta", "WORK"))


def _is_single(facts: Facts) -> bool:
    """Asked of money's first agent alone, and answered."""
    agents = [each["slip"]["agent_id"] for each in facts.dispatches]
    return agents == ["alpha"] and facts.results[0]["intent"] == "money"
