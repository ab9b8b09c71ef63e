"""What a window keeps of real dialogues: answers to later questions, whole calls of tools, pinned facts, its caps.

Nothing is drawn and nothing is timed: the same data give the same report. I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from agents.memory import render
from agents.memory.fold import fold, refold
from agents.memory.lines import interaction_lines
from agents.memory.model import HEADINGS, RECENT, Caps, Interaction, State, ToolCall, Window
from agents.memory.tokens import estimate
from agents.memory.window import window
from console.evals.answers import Passage, is_kept, passages, stands, words
from console.evals.data import Conversation

CAPS = (1_000, 2_000, 4_000, 8_000)
HARD = 2
"""Times the soft cap: as the defaults are."""

CUT = "…"
ARROW = " -> "


class Kept(NamedTuple):
    """Answers that are in each of four texts: all that was said, the window, the last RECENT interactions as far as
    they fit into the cap, and as many of the newest as fit, whatever their number."""

    everything: int
    window: int
    last_10: int
    newest: int


@dataclass(frozen=True)
class Recall:
    """One conversation at one cap. `passages` counts answers with the words around them, `anywhere` those that are in
    the text at all; `of_everything` is the estimated size of all that was said, as the others in tokens."""

    domain: str
    cap: int
    interactions: int
    questions: int
    of_everything: int
    of_window: int
    of_newest: int
    passages: Kept
    anywhere: Kept
    facts_pinned: int
    facts_kept: int


@dataclass(frozen=True)
class Tools:
    """Runs with calls of tools at one cap, looked at after each of their interactions. `orphans` are calls without
    their result and results without their call; `over_cap` are windows that are larger than the soft cap and what is
    pinned; `compression` is the size of everything to that of the window, over all last windows, `greatest` the
    greatest of one run."""

    cap: int
    runs: int
    windows: int
    calls_shown: int
    calls_left_out: int
    orphans: int
    over_cap: int
    facts_pinned: int
    facts_kept: int
    of_everything: int
    of_window: int
    greatest: float

    @property
    def compression(self) -> float:
        return round(self.of_everything / self.of_window, 2) if self.of_window else 0.0


def recall(conversation: Conversation, caps: Sequence[int] = CAPS) -> list[Recall]:
    """One for each cap."""
    said, texts, questions = conversation.interactions, conversation.texts, conversation.questions
    where = [passages(question, texts) for question in questions]
    state, pinned = refold(said[0].key, said), _pinned(conversation, where)
    wanted = {fact.text for fact in pinned.facts}
    everything = words("\n".join(texts))
    found = []
    for cap in caps:
        shown, fit = window(state, Caps(cap, HARD * cap)), _fitting(said, cap)
        of_newest = [words("\n".join(each.asked for each in some)) for some in (fit[-RECENT:], fit)]
        compared = (everything, words(render.text(shown)), *of_newest)
        found.append(
            Recall(
                conversation.domain,
                cap,
                len(said),
                len(questions),
                size(said),
                shown.tokens,
                size(fit),
                Kept(*(sum(is_kept(each, text) for each in where) for text in compared)),
                Kept(*(sum(stands(question, text) for question in questions) for text in compared)),
                len(wanted),
                len(wanted & _facts_of(window(pinned, Caps(cap, HARD * cap)))),
            )
        )
    return found


def _fitting(said: Sequence[Interaction], cap: int) -> Sequence[Interaction]:
    """As many of the newest as a window of this cap could show whole."""
    for begin in range(len(said)):
        if size(said[begin:]) <= cap:
            return said[begin:]
    return ()


def size(said: Sequence[Interaction]) -> int:
    """Estimated tokens of these interactions, shown whole."""
    return HEADINGS + sum(line.tokens for each in said for line in interaction_lines(each, estimate))


def _pinned(conversation: Conversation, where: Sequence[Sequence[Passage]]) -> State:
    """The same conversation, in which each interaction that a question needs pins the passage with the answer."""
    facts: dict[int, list[str]] = {}
    for found in where:
        if found:
            facts.setdefault(found[0].at, []).append(found[0].words.strip())
    said = [replace(each, facts=tuple(facts.get(at, ()))) for at, each in enumerate(conversation.interactions)]
    return refold(said[0].key, said)


def _facts_of(shown: Window) -> set[str]:
    return {line.text for line in shown.lines if line.section == "fact"}


def tools(runs: Sequence[Sequence[Interaction]], cap: int) -> Tools:
    """Of runs that are not empty."""
    caps = Caps(cap, HARD * cap)
    found: Counter[str] = Counter()
    of_everything = of_window = 0
    greatest = 1.0
    for run in runs:
        state = State(run[0].key)
        for upto, each in enumerate(run, 1):
            state = fold(state, each)
            found.update(_looked_at(run[:upto], window(state, caps)))
        whole, shown = size(run), window(state, caps).tokens
        of_everything, of_window, greatest = of_everything + whole, of_window + shown, max(greatest, whole / shown)
    return Tools(cap, len(runs), **found, of_everything=of_everything, of_window=of_window, greatest=round(greatest, 2))


def _looked_at(said: Sequence[Interaction], shown: Window) -> Mapping[str, int]:
    calls = [call for each in said for call in each.tool_calls]
    lines = [line.text for line in shown.lines if line.section == "interaction" and line.role == "tool"]
    in_summary = [
        line.text.removeprefix("tool: ")
        for line in shown.lines
        if line.section == "summary" and line.text.startswith("tool: ")
    ]
    wanted = {fact for each in said for fact in each.facts}
    pinned = sum(line.tokens for line in shown.lines if line.section == "fact")
    # Counted anew, from what an agent gets.
    over = estimate(render.text(shown)) > shown.caps.soft + pinned or shown.tokens > shown.caps.hard
    return {
        "windows": 1,
        "calls_shown": len(lines) + len(in_summary),
        "calls_left_out": len(calls) - len(lines) - len(in_summary),
        "orphans": sum(not any(is_whole(text, call) for call in calls) for text in (*lines, *in_summary)),
        "over_cap": int(over),
        "facts_pinned": len(wanted),
        "facts_kept": len(wanted & _facts_of(shown)),
    }


def is_whole(text: str, call: ToolCall) -> bool:
    """Whether a line is this call with its result; either may be cut, with a mark that says so."""
    if not text.startswith(call.name):
        return False
    rest = text[len(call.name) :]
    at = rest.find(ARROW)
    while at >= 0:
        arguments, result = rest[:at].strip(), rest[at + len(ARROW) :]
        if arguments.startswith("(") and arguments.endswith(")"):
            arguments = arguments[1:-1]
        if _begins(arguments, call.arguments) and (
            result in ("no result", "(no result)") if call.result is None else _begins(result, call.result)
        ):
            return True
        at = rest.find(ARROW, at + 1)
    return False


def _begins(part: str, whole: str) -> bool:
    part, whole = " ".join(part.split()), " ".join(whole.split())
    return part == whole or (part.endswith(CUT) and whole.startswith(part.removesuffix(CUT)))


def total(rows: Sequence[Recall]) -> Recall:
    """Of all conversations at one cap."""

    def added(name: str) -> int:
        return sum(getattr(row, name) for row in rows)

    return Recall(
        "all",
        rows[0].cap,
        added("interactions"),
        added("questions"),
        added("of_everything"),
        added("of_window"),
        added("of_newest"),
        Kept(*map(sum, zip(*(row.passages for row in rows), strict=True))),
        Kept(*map(sum, zip(*(row.anywhere for row in rows), strict=True))),
        added("facts_pinned"),
        added("facts_kept"),
    )


def broken(recalls: Sequence[Recall], runs: Sequence[Tools]) -> list[str]:
    """Promises that the figures do not keep, as sentences."""
    found = [
        f"At {row.cap} tokens the window keeps {row.passages.window} answers, the last {RECENT} alone "
        f"{row.passages.last_10}."
        for row in recalls
        if row.domain == "all" and row.passages.window <= row.passages.last_10
    ]
    pinned = [(row.domain, row.cap, row.facts_kept, row.facts_pinned) for row in recalls]
    pinned += [("taubench", each.cap, each.facts_kept, each.facts_pinned) for each in runs]
    found += [
        f"At {cap} tokens {of} keeps {kept} of {all_} pinned facts." for of, cap, kept, all_ in pinned if kept < all_
    ]
    found += [
        f"At {each.cap} tokens {each.orphans} calls or results of tools stand alone." for each in runs if each.orphans
    ]
    found += [f"At {each.cap} tokens {each.over_cap} windows are too large." for each in runs if each.over_cap]
    return found


def document(recalls: Sequence[Recall], runs: Sequence[Tools]) -> dict[str, Any]:
    """The report, for programs."""
    return {
        "format": 1,
        "bfcl": [
            {**asdict(row), "passages": row.passages._asdict(), "anywhere": row.anywhere._asdict()} for row in recalls
        ],
        "taubench": [{**asdict(each), "compression": each.compression} for each in runs],
        "broken": broken(recalls, runs),
    }
