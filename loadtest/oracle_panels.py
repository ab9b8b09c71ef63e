"""Rule P: panels, from the seats to the verdict.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loadtest.oracle_actions import Dispatch, Vote
from loadtest.oracle_desk import Desk, Task
from loadtest.oracle_sums import log_odds, tally, vote_key


class Panels(Desk):
    """Who sits in a panel, who takes a seat that became free, and what becomes of the votes."""

    def _seat_panel(self, task: Task, size: int, now_ms: int) -> bool:
        """R6: asks a panel; False, and nothing done, when too few may vote."""
        quorum = self.topology.consensus.quorum
        voters = [agent for agent in task.route.agents if not self._writes(agent)]
        if task.route.panel is not None:
            voters = list(task.route.panel)
        seated = [agent for agent in voters if self._available(agent)][:size]
        resting = [agent for agent in voters if not self._available(agent) and agent not in self._paused]
        forced = resting[: max(0, quorum - len(seated))]
        if len(seated) + len(forced) < quorum:
            return False
        task.band = "PANEL"
        task.panel = (*seated, *forced)
        task.chain = self._plan_without(task, task.panel)
        task.seats = len(task.panel)
        for seat, agent in enumerate(task.panel):
            if agent in forced:
                self._dispatch(task, agent, seat, "BREAKER_FLOOR", now_ms, whatever_its_breaker=True)
            else:
                self._dispatch(task, agent, seat, "PANEL", now_ms)
        return True

    def _voted(self, task: Task, dispatch: Dispatch, event: Mapping[str, Any], confidence: float, now_ms: int) -> None:
        """A good answer: it replaces what its seat voted before."""
        task.votes[dispatch.seat] = Vote(
            dispatch.seat,
            dispatch.agent_id,
            vote_key(event),
            confidence,
            log_odds(self.topology.agents[dispatch.agent_id].accuracy),
            event["answer"],
            event.get("payload"),
        )
        self._decide(task, now_ms)

    def _seat_failed(self, task: Task, dispatch: Dispatch, fail: str, now_ms: int) -> None:
        if dispatch.stage == "REGROUND":
            self._no_consensus(task, now_ms)
            return
        if fail == "WRONG_INPUT":
            task.wrong_input = True
        else:
            substitute = self._substitute(task, now_ms)
            if substitute is not None:
                self._note(task, "CASCADED", fail, dispatch.agent_id)
                self._dispatch(task, substitute, dispatch.seat, "CASCADE", now_ms)
        self._decide(task, now_ms)

    def _substitute(self, task: Task, now_ms: int) -> str | None:
        """Who may take a seat that became free, or a new one."""
        for agent in task.chain:
            invited = agent in (task.route.agents if task.route.panel is None else task.route.panel)
            if invited and not self._writes(agent) and self._may_be_asked(task, agent, now_ms):
                return agent
        return None

    def _decide(self, task: Task, now_ms: int) -> None:
        votes = self._votes(task)
        open_weights = [log_odds(self.topology.agents[dispatch.agent_id].accuracy) for dispatch in task.open.values()]
        consensus = self.topology.consensus
        count = tally(votes, open_weights, consensus.quorum, consensus.accept_share)
        if count.accepted:
            best = max(count.leading, key=lambda vote: vote.confidence)  # the lowest seat of equals
            self._finish(
                task,
                "COMPLETED",
                "REGROUNDED" if task.regrounded else "CONSENSUS",
                now_ms,
                answer=best.answer,
                payload=best.payload,
                confidence=sum(vote.confidence for vote in count.leading) / len(count.leading),
                agents=tuple(vote.agent_id for vote in count.leading),
                votes=votes,
                dissent=tuple(vote.agent_id for vote in votes if vote not in count.leading),
            )
        elif task.open:
            return
        elif len(votes) > 1:
            self._settle_conflict(task, now_ms)
        elif len(votes) == 1:
            self._no_quorum(task, votes[0], now_ms)
        elif task.wrong_input:
            self._note(task, "REFUSED", "WRONG_INPUT")
            self._finish(task, "REJECTED", "WRONG_INPUT", now_ms)
        else:
            self._exhausted(task, now_ms)

    def _settle_conflict(self, task: Task, now_ms: int) -> None:
        """Two or more votes, no consensus, nobody left to wait for: a third voice, a re-run, a human."""
        if not task.in_conflict:
            task.in_conflict = True
            self._note(task, "CONFLICT", "NO_CONSENSUS")
        substitute = None if task.tie_broken else self._substitute(task, now_ms)
        if substitute is not None:
            task.tie_broken = True
            task.seats += 1
            self._dispatch(task, substitute, task.seats - 1, "TIEBREAK", now_ms)
        elif not task.regrounded and now_ms < task.deadline_ms:
            task.regrounded = True
            heaviest = max(self._votes(task), key=lambda vote: vote.weight)  # the lowest seat of equals
            self._note(task, "REGROUNDED", "REGROUND", heaviest.agent_id)
            self._dispatch(
                task, heaviest.agent_id, heaviest.seat, "REGROUND", now_ms, stage="REGROUND", whatever_its_breaker=True
            )
        else:
            self._no_consensus(task, now_ms)

    def _no_consensus(self, task: Task, now_ms: int) -> None:
        votes, consensus = self._votes(task), self.topology.consensus
        leading = tally(votes, (), consensus.quorum, consensus.accept_share).leading
        dissent = tuple(vote.agent_id for vote in votes if vote not in leading)
        self._note(task, "ESCALATED", "NO_CONSENSUS")
        self._finish(task, "ESCALATED", "NO_CONSENSUS", now_ms, votes=votes, dissent=dissent)

    def _no_quorum(self, task: Task, vote: Vote, now_ms: int) -> None:
        if task.tier == "HIGH":
            self._note(task, "ESCALATED", "NO_QUORUM")
            self._finish(task, "ESCALATED", "NO_QUORUM", now_ms, votes=(vote,))
            return
        self._finish(
            task,
            "DEGRADED",
            "NO_QUORUM",
            now_ms,
            answer=vote.answer,
            payload=vote.payload,
            confidence=vote.confidence,
            agents=(vote.agent_id,),
            votes=(vote,),
        )

    @staticmethod
    def _votes(task: Task) -> tuple[Vote, ...]:
        return tuple(task.votes[seat] for seat in sorted(task.votes))
