"""Broken builds of a replay: whose time, whose silence, whose topology and whose breakers it goes by.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streams.core import replay as product
from streams.core.columns import Submissions
from streams.core.effects import Dispatch
from streams.core.intake import Intake
from streams.core.policy import Policy
from streams.core.replay import Recorded, Replayed
from tests.properties import test_replay as laws
from tests.properties.mutant import Mutant
from tests.support import scenes


class _AtOnce(product._Run):
    """What an agent said late was in time."""

    def _at(self, due_ms: int, event: dict[str, Any] | None) -> None:
        super()._at(due_ms if event is None else self._recorded.at_ms, event)


class _Patient(product._Run):
    """No agent's time is ever over, only the task's own."""

    def _at(self, due_ms: int, event: dict[str, Any] | None) -> None:
        if event is not None or not self._due:
            super()._at(due_ms, event)


class _Guessing(product._Run):
    """An agent that was never asked is one that stays silent."""

    def _ask(self, dispatch: Dispatch, now_ms: int) -> None:
        super()._ask(dispatch, now_ms)
        self._unknown = None


class _AllInService(product._Run):
    def __init__(self, policy: Policy, intake: Intake, submissions: Submissions, recorded: Recorded) -> None:
        super().__init__(policy, intake, submissions, replace(recorded, blocked=frozenset()))


def _as_it_was(policy: Policy, submissions: Submissions, recorded: Sequence[Recorded]) -> Iterator[Replayed]:
    del policy
    return product.replay(Policy.compile(scenes.topology()), submissions, recorded)


def _always(facts: Any) -> bool:
    del facts
    return True


REPLAYS: Mapping[str, Mutant] = {
    "a replayed agent's word is there at once": Mutant(
        "streams.core.replay._Run", _AtOnce, (laws.test_under_the_recorded_topology_it_is_the_record,)
    ),
    "no agent's time is over in a replay": Mutant(
        "streams.core.replay._Run", _Patient, (laws.test_under_the_recorded_topology_it_is_the_record,)
    ),
    "a replay goes by the topology of then": Mutant(
        "tests.properties.test_replay.replay",
        _as_it_was,
        (laws.test_a_changed_route_changes_its_tasks_and_no_others,),
    ),
    "who was never asked stays silent": Mutant(
        "streams.core.replay._Run", _Guessing, (laws.test_what_was_never_asked_is_unknown_and_has_no_cost,)
    ),
    "who was out of service then is asked": Mutant(
        "streams.core.replay._Run", _AllInService, (laws.test_who_was_out_of_service_then_is_so_again,)
    ),
    "every life can be told apart": Mutant(
        "tests.properties.test_replay.told_apart",
        _always,
        (laws.test_a_life_whose_agent_and_deadline_end_in_one_look_is_known_for_it,),
    ),
}
