"""How tasks begin, by kind: who is asked first, or how a task ends at once.

All of it but the times is the same in every turn, as long as the same agents may be asked, and is made once. A turn of
thousands of tasks has hundreds of kinds where phrases tell the intent, for each sum of phrases is as sure as no other.
I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.core.availability import Blocked
from streams.core.cohort import CONSENSUS, ENDINGS, PAIR, First, Firsts, ending
from streams.core.factor import factor
from streams.core.hearing import NOBODY
from streams.core.intake import Kind
from streams.core.policy import Policy
from streams.core.routing import FALLBACK, AtOnce, by_rule, plan, unasked
from streams.core.task import WORK, Plan, Slip

OPENINGS_MAX = 10_000
"""Kinds that are remembered. Tasks may state any confidence: then all are made anew."""

_KIND_SHIFT = 32
_LEFT_MS = (1 << _KIND_SHIFT) - 1


class Opening(NamedTuple):
    """How tasks of one kind begin, whenever that is. `plan` has no deadline yet; None where the task ends `at_once`.

    `lasts_ms`: what its tasks may take that do not say. `heads`: the fields of its slips, by seat, up to `timeout_ms`,
    the first of three that are times; `timeouts_ms`: those of the agents that are asked. The rest as in `First`.
    """

    plan: Plan | None
    lasts_ms: int
    at_once: AtOnce | None = None
    heads: tuple[tuple[object, ...], ...] = ()
    timeouts_ms: tuple[int, ...] = (0,)
    voices: int = 0
    seats: tuple[int, int] = (NOBODY, NOBODY)
    ending: int = 0

    @property
    def is_unsure(self) -> bool:
        if self.plan is None:
            return self.at_once is not None and self.at_once.is_unsure
        return self.plan.band == FALLBACK


class Openings:
    """Those of one policy, for whoever sees the same agents blocked as the last one who asked."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._codes = {name: code for code, name in enumerate(policy.agents)}
        self._blocked: Blocked | None = None
        self._known: dict[Kind, Opening] = {}

    def of(self, kinds: Sequence[Kind], blocked: Blocked) -> list[Opening]:
        """One for each kind."""
        if blocked != self._blocked or len(self._known) + len(kinds) > OPENINGS_MAX:
            self._blocked, self._known = blocked, {}
        known = self._known
        for kind in kinds:
            if kind not in known:
                known[kind] = self._opening(kind, blocked)
        return [known[kind] for kind in kinds]

    def _opening(self, kind: Kind, blocked: Blocked) -> Opening:
        policy, route = self._policy, self._policy.routes[kind.intent]
        lasts_ms = route.deadline_ms or kind.default_ms
        ruled = by_rule(route, kind.tier)
        chosen = None if ruled else plan(policy, blocked, route, kind.confidence, kind.tier, 0)
        if chosen is None:
            return Opening(None, lasts_ms, ruled or unasked(policy, route, kind.confidence, kind.tier))
        seats = [*(self._codes[agent] for agent in chosen.first), NOBODY]
        how = ending(route, chosen.band, chosen.first[0], chosen.reasons[0])
        return Opening(
            plan=chosen,
            lasts_ms=lasts_ms,
            heads=tuple(self._head(chosen, seat) for seat in range(len(chosen.first))),
            timeouts_ms=tuple(policy.agent(agent).timeout_ms for agent in chosen.first),
            voices=self._voices(chosen),
            seats=(seats[0], seats[1]),
            ending=ENDINGS.index(CONSENSUS if chosen.panel else how),
        )

    def _voices(self, chosen: Plan) -> int:
        """Where two are asked and two must agree, nothing is decided before both have answered (rule P)."""
        if not chosen.panel:
            return 1
        weight = sum(self._policy.agent(agent).weight for agent in chosen.panel)
        is_pair = len(chosen.panel) == PAIR == self._policy.topology.consensus.quorum
        return PAIR if is_pair and weight > 0.0 else 0

    def _head(self, chosen: Plan, seat: int) -> tuple[object, ...]:
        slip = Slip(
            agent_id=chosen.first[seat],
            attempt=seat + 1,
            seat=seat,
            stage=WORK,
            intent=chosen.route.intent,
            confidence=chosen.confidence,
            band=chosen.band,
            panel=chosen.panel,
            chain=chosen.chain,
            reason=chosen.reasons[seat],
            route_version=self._policy.version,
            value_tier=chosen.tier,
            attempts=seat + 1,
            cost_microusd=0,
            tokens=0,
            probe_epoch=0,
            timeout_ms=0,
            deadline_default_ms=0,
            routed_at=0,
        )
        return slip[: Slip._fields.index("timeout_ms")]


class Departures:
    """What one turn decides about tasks of each kind, in cells that see the same agents blocked; none sends a probe.

    By kind: `openings`; `goes`, whether its tasks are sent to agents at all; `is_unsure`, whether it is noted that one
    was too unsure of them; `unstated_ms`, the deadline of those that state none; `longest_ms`, the longest timeout of
    the agents that are asked.
    """

    def __init__(self, openings: Sequence[Opening], now_ms: int) -> None:
        self.openings, self._now_ms = openings, now_ms
        self.goes = np.array([each.plan is not None for each in openings], np.bool_)
        self.is_unsure = np.array([each.is_unsure for each in openings], np.bool_)
        self.unstated_ms = np.array([now_ms + each.lasts_ms for each in openings], np.int64)
        self.longest_ms = np.array([max(each.timeouts_ms) for each in openings], np.int64)

    def firsts(
        self, kind: npt.NDArray[np.int64], deadline_ms: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], Firsts]:
        """The first dispatches of tasks: a code for each, and what the codes mean. A timeout ends with the deadline."""
        left_ms = np.clip(deadline_ms - self._now_ms, 1, self.longest_ms[kind])
        codes, distinct = factor(kind << _KIND_SHIFT | left_ms)
        return codes, Firsts.of(tuple(map(self._first, distinct.tolist())))

    def _first(self, number: int) -> First:
        kind, left_ms = number >> _KIND_SHIFT, number & _LEFT_MS
        opening = self.openings[kind]
        assert opening.plan is not None, "the task goes"
        default_ms, routed_at = int(self.unstated_ms[kind]), self._now_ms * 1000
        slips = [
            Slip._make((*head, min(timeout_ms, left_ms), default_ms, routed_at))
            for head, timeout_ms in zip(opening.heads, opening.timeouts_ms, strict=True)
        ]
        return First(Plan(*opening.plan[:-1], default_ms), tuple(slips), opening.voices, opening.seats, opening.ending)
