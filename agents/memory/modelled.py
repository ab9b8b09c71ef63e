"""A model's summary of one chunk: what may pass for one, and the form in which the agent's log has it.

A model does not say the same twice, so what it said once is an event: folding reads it, and calls nobody. It is taken
in the place of the extractive summary of exactly the interactions that it was made of. I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from agents.memory.extractive import CHUNK_TOKENS_MAX, LINE, bounds
from agents.memory.fold import facts_of
from agents.memory.model import RECENT, Fact, Interaction, Place, Source, Summary, SummaryLine
from agents.memory.sentences import SENTENCE_CHARS_MAX, SENTENCES_MAX, sentences, weight
from agents.memory.tokens import estimate

SUMMARISED = "SUMMARISED"
"""The slip's reason in a note that holds a summary."""

FORMAT = 1
AHEAD = 2
"""Interactions after which a summary is shown at the earliest: its conversation's next call may have begun, and the log
must have it before the one behind that."""

CHARS_MAX = 40 * CHUNK_TOKENS_MAX
"""Longer texts are not looked at."""

PARTLY = "(partly from {}) "
"""Before each line of a summary that was made of another agent's words, too: nobody can tell which ones those are."""


class Unfit(StrEnum):
    """Why a model's summary is not taken; the extractive one stands in its place."""

    RAISED = "RAISED"  # the code that makes it failed
    TIMEOUT = "TIMEOUT"  # it took longer than its `timeout_ms`
    NO_TEXT = "NO_TEXT"  # what it gave is no text, or has nothing in it
    TOO_LONG = "TOO_LONG"  # it has more tokens than its `tokens_max`
    FACT_MISSING = "FACT_MISSING"  # what an answer pinned is not in it
    REVOKED = "REVOKED"  # it was made of something that was revoked meanwhile
    LOST = "LOST"  # another host has the conversation by now


def modelled(
    members: Sequence[Interaction], said: object, version: str, tokens_max: int, *, epoch: int, count: int
) -> Summary | Unfit:
    """What a model said of these interactions, of one chunk, as a summary; or why it is none.

    `count` is how many interactions its memory has by now: windows show it once all that it stands for is out of their
    verbatim part, and no call can have seen them without.
    """
    if isinstance(said, str) and len(said) > CHARS_MAX:
        return Unfit.TOO_LONG
    lines = lines_of(said, members)
    if lines is None:
        return Unfit.NO_TEXT
    if sum(line.tokens for line in lines) > min(tokens_max, CHUNK_TOKENS_MAX):
        return Unfit.TOO_LONG
    first, last = bounds(members[0].ordinal)
    places = tuple((each.ordinal, each.id) for each in members)
    summary = Summary("model", version, first, last, places, lines, epoch, max(last + RECENT, count + AHEAD))
    return Unfit.FACT_MISSING if missing(summary, members) else summary


def lines_of(said: object, members: Sequence[Interaction]) -> tuple[SummaryLine, ...] | None:
    """Each line of a text, and of long ones each sentence, is one that a window keeps or leaves out; None for what is
    no text."""
    if not isinstance(said, str) or not _is_unicode(said):
        return None
    short = [" ".join(line.split()).removeprefix("- ") for line in said.splitlines()]
    found = [text for line in short for text in _cut(line) if text]
    source = next((each.source for each in members if each.source is not None), None)
    return _lines(found, tuple(each.id for each in members), members[-1].ordinal, source) if found else None


def _cut(line: str) -> Sequence[str]:
    if len(line) <= SENTENCE_CHARS_MAX:
        return [line]
    parts = list(sentences(line))
    return parts if len(parts) < SENTENCES_MAX else [line]  # of more, some would be left out


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(
    texts: Sequence[str], origins: tuple[str, ...], ordinal: int, source: Source | None
) -> tuple[SummaryLine, ...]:
    mark, found = _mark(source), []
    for position, text in enumerate(texts):
        line = mark + text
        weighs = round(weight(text, position, len(texts)), 3)
        found.append(SummaryLine(line, origins, ordinal, weighs, estimate(line) + LINE, source))
    return tuple(found)


def _mark(source: Source | None) -> str:
    return "" if source is None else PARTLY.format(" ".join(source.agent_id.split()))


def missing(summary: Summary, members: Sequence[Interaction]) -> list[Fact]:
    """Facts that answers among these interactions pinned, and that the summary does not state word for word."""
    said = _plain(summary.text)
    return [fact for each in members for fact in facts_of(each) if _plain(fact.text) not in said]


def _plain(text: str) -> str:
    """Without what a text is wrapped in, or written in."""
    return "".join(each for each in text.casefold() if not each.isspace() and each not in "\"'()[]").rstrip(".")


def payload_of(summary: Summary) -> str:
    """As a note of the agent's log has it."""
    source = next((line.source for line in summary.lines if line.source is not None), None)
    mark = _mark(source)
    held = {
        "format": FORMAT,
        "first": summary.first,
        "last": summary.last,
        "since": summary.since,
        "members": summary.members,
        "maker": summary.version,
        "lines": [line.text.removeprefix(mark) for line in summary.lines],
        "source": source,
    }
    return json.dumps({"summary": held}, ensure_ascii=False, separators=(",", ":"))


def summary_of(payload: str | None, epoch: int, place: Place | None = None) -> Summary | None:
    """Out of a note of the agent's log. None for what is none, or has the form of another version: nobody has to know
    it, for what is not read is made up for by the extractive one."""
    try:
        held = json.loads(payload or "")["summary"]
        if held["format"] != FORMAT:
            return None
        members = tuple((int(ordinal), str(id_)) for ordinal, id_ in held["members"])
        source = None if held["source"] is None else Source(*map(str, held["source"]))
        lines = _lines(
            [" ".join(str(text).split()) for text in held["lines"]],
            tuple(id_ for _, id_ in members),
            members[-1][0],
            source,
        )
        summary = Summary(
            "model",
            str(held["maker"]),
            int(held["first"]),
            int(held["last"]),
            members,
            lines,
            epoch,
            int(held["since"]),
            place,
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return None
    return summary if _is_whole(summary) else None


def _is_whole(summary: Summary) -> bool:
    """Whether it may stand for one chunk: whatever wrote it, no window gets more than an extractive one would give."""
    ordinals = [ordinal for ordinal, _ in summary.members]
    return (
        (summary.first, summary.last) == bounds(summary.first)
        and all(one < other for one, other in pairwise([summary.first - 1, *ordinals, summary.last + 1]))
        and summary.since >= summary.last + RECENT
        and bool(summary.lines)
        and all(line.text and _is_unicode(line.text) for line in summary.lines)
        and _is_unicode(summary.version)
        and sum(line.tokens for line in summary.lines) <= CHUNK_TOKENS_MAX
    )
