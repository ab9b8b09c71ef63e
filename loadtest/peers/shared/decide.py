"""The common decision in plain Python, one task at a time: what any engineer would write who has no columns.

All Python peers share it, so that they differ in how they move records and not in how they decide. It needs nothing but
the standard library, for peers live in environments of their own. I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]

WORD = re.compile(r"\w+")
SCORE_DECIMALS = 12


@dataclass(frozen=True)
class Plan:
    """What becomes of a task of this intent, confidence and value tier: who is asked, or the answer at once.

    `slips` has one slip for each dispatch, without the two times that only the moment of the decision can fill.
    """

    intent: str
    slips: tuple[Record, ...] = ()
    escalates: bool = False
    status: str | None = None
    reason: str | None = None
    answer: str | None = None
    deadline_ms: int = 0


class Decider:
    """The routing policy, as it stands in the peers' configuration (see `loadtest.peers.piece`)."""

    def __init__(self, policy: Mapping[str, Any]) -> None:
        self._policy, self._routes, self._agents = policy, policy["routes"], policy["agents"]
        self._by_first_word: dict[str, list[tuple[str, str, float]]] = {}
        for intent, route in self._routes.items():
            for each in route["phrases"]:
                phrase = each["phrase"].lower()
                first = WORD.match(phrase)
                assert first, "phrases start with a word"
                self._by_first_word.setdefault(first[0], []).append((phrase, intent, each["confidence"]))

    def route(self, task: Mapping[str, Any]) -> tuple[str, float, str]:
        """Intent, confidence and value tier (rules R4 and R5)."""
        intent, confidence = task["intent"], task["confidence"]
        if intent is None:
            intent, found = self._intent_of(task["text"])
            confidence = found if confidence is None else confidence
        tier = task["value_tier"]
        return intent, 1.0 if confidence is None else confidence, self._policy["tier"] if tier == "UNKNOWN" else tier

    def _intent_of(self, text: str) -> tuple[str, float]:
        text = text.lower()
        found: dict[str, tuple[str, float]] = {}
        for word in WORD.finditer(text):
            for phrase, intent, confidence in self._by_first_word.get(word[0], ()):
                start, end = word.start(), word.start() + len(phrase)
                if text.startswith(phrase, start) and not WORD.match(text, end):
                    found[phrase] = (intent, confidence)
        if not found:
            return self._policy["default_route"], 0.0
        doubts: dict[str, float] = {}
        for intent, confidence in found.values():
            doubts[intent] = doubts.get(intent, 1.0) * (1.0 - confidence)
        scores = {name: round(1.0 - doubts[name], SCORE_DECIMALS) for name in self._routes if name in doubts}
        best = max(scores, key=scores.__getitem__)  # the first of equals, in the policy's order
        score = scores.pop(best)
        return best, score * (score / (score + max(scores.values(), default=0.0)))

    def plan(self, intent: str, confidence: float, tier: str) -> Plan:
        """Rule R6, with every agent available. The same arguments give the same plan: callers may keep it."""
        route, bands = self._routes[intent], self._policy["bands"]
        if tier == "LOW" and route["low_value_answer"] is not None:
            answer = route["low_value_answer"].replace("{intent}", intent)
            return Plan(intent, status="COMPLETED", reason="RULE", answer=answer)
        seats, band, reason = [route["agents"][0]], "SINGLE", "ROUTED"
        if tier == "HIGH" or bands["panel_above"] < confidence <= bands["single_above"]:
            panel = route["voters"][: self._policy["panel_sizes"]["HIGH" if tier == "HIGH" else "OTHER"]]
            if len(panel) >= self._policy["quorum"]:
                seats, band, reason = panel, "PANEL", "PANEL"
            else:
                reason = "PANEL_TOO_SMALL"
        elif confidence <= bands["panel_above"]:
            if route["fallback_agent"] is None:
                return Plan(
                    intent, escalates=True, status="DEGRADED", reason="LOW_CONFIDENCE", answer=route["fallback_answer"]
                )
            seats, band, reason = [route["fallback_agent"]], "FALLBACK", "LOW_CONFIDENCE"
        chain = [] if band == "FALLBACK" else [agent for agent in route["chain"] if agent not in seats]
        slips = tuple(
            {
                "agent_id": agent,
                "attempt": seat + 1,
                "seat": seat,
                "stage": "WORK",
                "intent": intent,
                "confidence": confidence,
                "band": band,
                "panel": seats if band == "PANEL" else [],
                "chain": chain,
                "reason": reason,
                "route_version": self._policy["version"],
                "value_tier": tier,
                "attempts": seat + 1,
                "timeout_ms": self._agents[agent]["timeout_ms"],
            }
            for seat, agent in enumerate(seats)
        )
        return Plan(intent, slips, escalates=band == "FALLBACK", deadline_ms=route["deadline_ms"])

    def decide(self, task: Mapping[str, Any], now_us: int) -> Iterator[tuple[str, str | None, Record]]:
        """(record's name, agent where it is a dispatch, record) for all that the task leads to."""
        yield from self.carry_out(self.plan(*self.route(task)), task, now_us)

    def carry_out(self, plan: Plan, task: Mapping[str, Any], now_us: int) -> Iterator[tuple[str, str | None, Record]]:
        """The records of a plan for this task."""
        for slip in plan.slips:
            yield "TaskDispatched", slip["agent_id"], {"slip": self.timed(slip, plan, now_us), "task": task}
        if plan.escalates:
            yield "OrchestratorEvent", None, self.note(plan, task, now_us)
        if plan.status is not None:
            yield "TaskResult", None, self.result(plan, task, now_us)

    @staticmethod
    def timed(slip: Record, plan: Plan, now_us: int) -> Record:
        return {**slip, "routed_at": now_us, "deadline_default_ms": now_us // 1000 + plan.deadline_ms}

    def note(self, plan: Plan, task: Mapping[str, Any], now_us: int) -> Record:
        """That a task was too unsure for its agents."""
        parts = (task["tenant"], task["task_id"], "ESCALATED", "LOW_CONFIDENCE", "", 0, "UNKNOWN")
        same = ("task_id", "tenant", "conversation_id", "root_id", "submitted_at")
        return {
            **{name: task[name] for name in same},
            "event_id": fact_id(*parts),
            "kind": "ESCALATED",
            "reason": "LOW_CONFIDENCE",
            "intent": plan.intent,
            "at": now_us,
            "route_version": self._policy["version"],
        }

    def result(self, plan: Plan, task: Mapping[str, Any], now_us: int) -> Record:
        """The end of a task that no agent is asked about."""
        same = ("task_id", "tenant", "conversation_id", "labels", "traceparent", "submitted_at")
        return {
            **{name: task[name] for name in same},
            "status": plan.status,
            "reason": plan.reason,
            "intent": plan.intent,
            "answer": plan.answer,
            "decided_at": now_us,
            "route_version": self._policy["version"],
        }


def fact_id(*parts: str | int) -> str:
    """Names a fact by its parts, so that the same fact written twice has the same id."""
    text = "".join(f"{len(part)}:{part}" for part in map(str, parts))
    return blake2b(text.encode(), digest_size=16).hexdigest()
