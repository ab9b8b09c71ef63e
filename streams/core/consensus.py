"""How the votes of a panel become one verdict.

Votes weigh by the log-odds of their agent's accuracy: what naive Bayes gives for voters that err independently, which
simple addition of accuracies does not. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, log
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Vote(NamedTuple):
    """One agent's voice: `key` is what is compared, `weight` comes from `log_odds`, `seat` is its place."""

    agent_id: str
    key: str
    confidence: float
    weight: float
    seat: int
    answer: str | None = None
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the votes say so far; `winner` is the leading group in seat order, accepted or not."""

    accepted: bool
    votes: tuple[Vote, ...]
    winner: tuple[Vote, ...]
    share: float

    @property
    def best(self) -> Vote | None:
        """The vote whose answer is given: the leading group's surest, of equally sure ones the lowest seat's."""
        return max(self.winner, key=lambda vote: (vote.confidence, -vote.seat), default=None)

    @property
    def confidence(self) -> float | None:
        """Mean of the leading group's."""
        return fsum(vote.confidence for vote in self.winner) / len(self.winner) if self.winner else None

    @property
    def answer(self) -> str | None:
        return self.best.answer if self.best else None

    @property
    def payload(self) -> str | None:
        return self.best.payload if self.best else None

    @property
    def agents(self) -> tuple[str, ...]:
        """Whose answer it is, in seat order."""
        return tuple(vote.agent_id for vote in self.winner)

    @property
    def dissent(self) -> tuple[str, ...]:
        """Who voted otherwise, in seat order."""
        return tuple(vote.agent_id for vote in self.votes if vote not in self.winner)


def tally(votes: Iterable[Vote], open_weight: float, quorum: int, accept_share: float) -> Verdict:
    """The verdict over `votes`, given in the order of their arrival: an agent's later vote replaces its earlier one.

    Votes with one key form a group. The group of the greatest summed weight leads; of equal ones the one that holds
    the lowest seat. It is accepted when it has at least `quorum` votes and at least `accept_share` of all weight,
    `open_weight` (of agents who were asked and have not answered) included: above one half, no vote still out can
    undo it. Sums are exact, so that the order of arrival decides nothing else.
    """
    latest = {vote.agent_id: vote for vote in votes}
    seated = tuple(sorted(latest.values(), key=lambda vote: (vote.seat, vote.agent_id)))
    if not seated:
        return Verdict(accepted=False, votes=(), winner=(), share=0.0)
    groups: dict[str, list[Vote]] = {}
    for vote in seated:
        groups.setdefault(vote.key, []).append(vote)
    # Groups stand in the order of their lowest seats, and max gives the first of equals.
    winner = max(groups.values(), key=_weight)
    total = fsum((_weight(seated), open_weight))
    share = _weight(winner) / total if total > 0.0 else 0.0
    accepted = len(winner) >= quorum and share >= accept_share
    return Verdict(accepted=accepted, votes=seated, winner=tuple(winner), share=share)


def log_odds(accuracy: float) -> float:
    """Weight of an agent that is right with this probability, in nats; positive above one half.

    Raises ValueError outside of (0, 1). Source: Nitzan and Paroush (1982), the optimal weighted majority rule.
    """
    if not 0.0 < accuracy < 1.0:
        raise ValueError(f"accuracy {accuracy} is not between 0 and 1")
    return log(accuracy / (1.0 - accuracy))


def vote_key(stated: str | None, answer: str) -> str:
    """What is compared: the key that the agent states, else its answer without case and surplus whitespace."""
    return stated if stated is not None else " ".join(answer.casefold().split())


def _weight(votes: Sequence[Vote]) -> float:
    return fsum(vote.weight for vote in votes)
