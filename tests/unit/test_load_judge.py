"""The judge finds a story for every life that keeps the rules, and none for one that does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from loadtest.judge import Breakers, Facts, wrong
from loadtest.oracle import Oracle
from tests.support import scenes
from tests.support.lives import keep, life, outcome, submission
from tests.support.scenes import T0_MS

TOPOLOGY = scenes.topology()
SEEDS = range(150)


def test_what_the_rules_lead_to_is_right() -> None:
    kinds: Counter[str] = Counter()
    for seed in SEEDS:
        facts = life(TOPOLOGY, seed)
        assert wrong(TOPOLOGY, facts) is None, seed
        kinds.update(f"{each['status']} {each['reason']}" for each in facts.results)
        kinds.update(each["kind"] for each in facts.notes)
    # The dice showed what there is.
    assert {"COMPLETED ANSWERED", "COMPLETED CONSENSUS", "DEGRADED LOW_CONFIDENCE", "ESCALATED NO_CONSENSUS"} <= {
        *kinds
    }
    assert {"CASCADED", "CONFLICT", "LATE_VOTE", "ESCALATED"} <= {*kinds}


def test_the_order_in_which_the_logs_were_read_does_not_matter() -> None:
    dice = Random(1)
    for seed in SEEDS[:60]:
        facts = life(TOPOLOGY, seed)
        events = list(facts.events)
        dice.shuffle(events)
        assert wrong(TOPOLOGY, replace(facts, events=events)) is None, seed


def test_copies_of_records_say_nothing_new() -> None:
    for seed in SEEDS[:40]:
        facts = life(TOPOLOGY, seed)
        twice = Facts(
            facts.submissions,
            *([*each, *deepcopy(each)] for each in (facts.dispatches, facts.events, facts.notes, facts.results)),
        )
        assert wrong(TOPOLOGY, twice) is None, seed


def change(record: Any, name: str, value: object) -> None:
    record[name] = value


TAMPERED: dict[str, Callable[[Facts], Any]] = {
    "another status": lambda facts: change(facts.results[0], "status", "CANCELLED"),
    "another answer": lambda facts: change(facts.results[0], "answer", "made up"),
    "another agent's": lambda facts: change(facts.results[0], "agents", ["nobody"]),
    "more attempts": lambda facts: change(facts.results[0], "attempts", 9),
    "another cost": lambda facts: change(facts.results[0], "cost_microusd", 1_000_000),
    "another conversation": lambda facts: change(facts.results[0], "conversation_id", "d"),
    "another time": lambda facts: change(facts.results[0], "submitted_at", 5),
    "no result": lambda facts: facts.results.clear(),  # type: ignore[attr-defined]
    "a note too many": lambda facts: facts.notes.append(  # type: ignore[attr-defined]
        {"event_id": "x", "kind": "CASCADED", "reason": "FAILED", "agent_id": "alpha", "at": T0_MS * 1000}
    ),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_tampered_with_is_wrong(how: str) -> None:
    for seed in SEEDS[:25]:
        facts = deepcopy(life(TOPOLOGY, seed))
        TAMPERED[how](facts)
        assert wrong(TOPOLOGY, facts) is not None, seed


@pytest.mark.parametrize(
    ("name", "value"),
    [("agent_id", "beta"), ("seat", 7), ("reason", "TIEBREAK"), ("chain", ["delta", "delta"]), ("timeout_ms", 1)],
)
def test_a_dispatch_that_was_tampered_with_is_wrong(name: str, value: object) -> None:
    found = 0
    for seed in SEEDS[:25]:
        facts = deepcopy(life(TOPOLOGY, seed))
        for each in facts.dispatches[:1]:
            if each["slip"][name] != value:
                each["slip"][name] = value
                found += 1
                assert wrong(TOPOLOGY, facts) is not None, seed
    assert found > 5


def test_an_agent_may_be_passed_over_only_once_its_breaker_was_said_to_be_open() -> None:
    task = submission("t", text="revenue of May", confidence=0.95)
    oracle = Oracle(TOPOLOGY)
    oracle.set_breaker("alpha", {"state": "OPEN", "epoch": 1})
    [dispatch] = oracle.submit(task, T0_MS)
    assert dispatch.agent_id == "beta"  # type: ignore[union-attr]
    parts: dict[str, list[Any]] = {name: [] for name in ("dispatches", "events", "notes", "results")}
    keep(parts, task, dispatch, T0_MS)
    answer = {**outcome(Random(1), task, parts["dispatches"][0]), "kind": "COMPLETED", "answer": "yes"}
    parts["events"].append({**answer, "confidence": 0.9, "citations": [], "error_class": None})
    [result] = oracle.outcome(parts["events"][0], T0_MS + 40)
    keep(parts, task, result, T0_MS + 40)
    facts = Facts([task], **parts)
    assert wrong(TOPOLOGY, facts, Breakers({"alpha": T0_MS - 500})) is None
    assert wrong(TOPOLOGY, facts, Breakers({"alpha": T0_MS + 60_000})) is not None
    assert wrong(TOPOLOGY, facts) is not None
    assert wrong(TOPOLOGY, facts, Breakers({"beta": T0_MS - 500})) is not None


def test_facts_without_a_submission_have_no_story() -> None:
    assert wrong(TOPOLOGY, Facts([], [], [], [], [])) == "there is no submission"
