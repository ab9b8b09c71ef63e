"""The oracle's arithmetic: phrases in a text, one outcome judged, votes counted; one value at a time.

I/O: none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schemas.reasons import FailReason

if TYPE_CHECKING:
    from loadtest.oracle_actions import Vote
    from schemas.topology import Agent, Topology

_TO_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, Hiragana and Katakana, Han. Words cannot be told apart
# there by looking at the neighbours.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff]")


def _is_letter_of_a_word(char: str) -> bool:
    return (char.isalnum() or char == "_") and not _UNSPACED.match(char)


@lru_cache(maxsize=4096)
def _folded(text: str) -> str:
    return text.translate(_TO_ASCII_LOWER)


def phrase_occurs(phrase: str, text: str) -> bool:
    """True where `phrase` stands in `text` as whole words; only A to Z are compared without case."""
    phrase, text = _folded(phrase), _folded(text)
    start = text.find(phrase)
    while start >= 0:
        before = text[start - 1 : start]
        after = text[start + len(phrase) : start + len(phrase) + 1]
        runs_over_left = _is_letter_of_a_word(phrase[0]) and before != "" and _is_letter_of_a_word(before)
        runs_over_right = _is_letter_of_a_word(phrase[-1]) and after != "" and _is_letter_of_a_word(after)
        if not runs_over_left and not runs_over_right:
            return True
        start = text.find(phrase, start + 1)
    return False


def intent_of(topology: Topology, text: str) -> tuple[str, float]:
    """Name of the route whose phrases speak loudest in `text`, and how sure that is; else the default route and 0."""
    scores: dict[str, float] = {}
    for name, route in topology.routes.items():
        doubt = 1.0
        for phrase in route.phrases:  # distinct within a topology
            if phrase_occurs(phrase.phrase, text):
                doubt *= 1.0 - phrase.confidence
        scores[name] = 1.0 - doubt
    name = max(scores, key=lambda route: scores[route])  # the first of equals
    best = scores.pop(name)
    if best <= 0.0:
        return topology.default_route, 0.0
    second = max(scores.values(), default=0.0)
    return name, best * best / (best + second)


@dataclass(frozen=True)
class Judgement:
    """`fail` is None for a good answer, whose `confidence` is the agent's, stated or taken for granted."""

    fail: str | None
    confidence: float = 0.0


_FAIL_OF_ERROR_CLASS = {
    "TIMEOUT": FailReason.TIMED_OUT,
    "OVERLOADED": FailReason.OVERLOADED,
    "QUOTA": FailReason.OVERLOADED,
    "PAUSED": FailReason.PAUSED,
    "WRONG_INPUT": FailReason.WRONG_INPUT,
    "UNKNOWN_OUTCOME": FailReason.UNKNOWN_OUTCOME,
}


def judge(event: Mapping[str, Any], agent: Agent, stage: str, confidence_min: float) -> Judgement:
    """R7: is this outcome (COMPLETED, FAILED or REFUSED) an answer, and if not, why not."""
    if event["kind"] == "REFUSED":
        return Judgement(FailReason.REFUSED)
    if event["kind"] == "FAILED":
        return Judgement(_FAIL_OF_ERROR_CLASS.get(event.get("error_class") or "", FailReason.FAILED))
    stated = event.get("confidence")
    confidence = agent.confidence_when_unstated if stated is None else stated
    fail = None
    if not 0.0 <= confidence <= 1.0:  # NaN is not between any two numbers
        fail = FailReason.INVALID_CONFIDENCE
    elif confidence < confidence_min:
        fail = FailReason.LOW_CONFIDENCE
    elif (agent.grounded or stage == "REGROUND") and not event.get("citations"):
        fail = FailReason.UNGROUNDED
    elif event.get("answer") is None:
        fail = FailReason.FAILED
    return Judgement(fail, confidence)


_COUNTS_AGAINST = (
    FailReason.FAILED,
    FailReason.TIMED_OUT,
    FailReason.UNKNOWN_OUTCOME,
    FailReason.INVALID_CONFIDENCE,
)


def verdict_on_health(fail: str | None) -> str:
    """R7: what an outcome says to the agent's breaker."""
    if fail is None:
        return "success"
    return "failure" if fail in _COUNTS_AGAINST else "neutral"


def vote_key(event: Mapping[str, Any]) -> str:
    """What is compared in a panel: the stated key as it is, else the answer without case and spare whitespace."""
    stated: str | None = event.get("vote_key")
    if stated is not None:
        return stated
    answer: str = event["answer"]
    return " ".join(answer.casefold().split())


def log_odds(accuracy: float) -> float:
    """Weight of a voter who is right with probability `accuracy`: the optimal rule of Nitzan and Paroush (1982)."""
    return math.log(accuracy / (1.0 - accuracy))


@dataclass(frozen=True)
class Tally:
    """The leading group of a panel, in seat order, and whether it carries the day."""

    leading: tuple[Vote, ...]
    share: float
    accepted: bool


def tally(votes: Sequence[Vote], open_weights: Iterable[float], quorum: int, accept_share: float) -> Tally:
    """Count `votes`, given in seat order; agents who may still answer weigh against the leaders."""
    groups: dict[str, list[Vote]] = {}
    for vote in votes:
        groups.setdefault(vote.key, []).append(vote)
    if not groups:
        return Tally((), 0.0, accepted=False)
    # Groups stand in the order of their lowest seats, and max takes the first of equals: so ties are decided.
    leading = max(groups.values(), key=_weight)
    everyone = _weight(votes) + sum(open_weights)
    share = _weight(leading) / everyone
    return Tally(tuple(leading), share, accepted=len(leading) >= quorum and share >= accept_share)


def _weight(votes: Iterable[Vote]) -> float:
    return sum(vote.weight for vote in votes)
