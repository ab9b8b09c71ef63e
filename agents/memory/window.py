"""The window that an agent is shown: instructions, facts, a summary, and the last interactions, within its caps.

What people said comes first, then facts; both may take what is between the soft cap and the hard one. What is left of
the soft cap is shared by the last interactions, the newest first, and the summary of those before. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

from agents.memory.extractive import LINE, summarise
from agents.memory.lines import fact_line, instruction_line, interaction_lines, sizes, sizes_of, tokens
from agents.memory.model import (
    HEADINGS,
    NO_DIRECTIVES,
    RECENT,
    SUMMARISED,
    Caps,
    Directives,
    Fact,
    Interaction,
    Line,
    Omitted,
    State,
    Summary,
    SummaryLine,
    Window,
)
from agents.memory.tokens import Counter, estimate

SUMMARY_SHARE = 0.4
"""Of what instructions and facts leave of the soft cap: kept for the summary, as far as it needs it."""

ROOM_SHARE = 0.25
"""Of the soft cap: what instructions and facts leave to the conversation, as far as the hard cap allows."""

RECENCY = 0.3
"""What a line of the newest interaction weighs more than one of the oldest, in a summary that has to be shortened."""

DENSITY = 0.7
"""How far a line's weight counts by the token: 0 would rank it alone, 1 its weight for each token."""

WEIGHT_MIN = 0.05
"""Below it, weights say nothing: the shorter line goes first."""

CUT = " … [cut: {} characters left out]"
CUT_TOKENS = 16

DEFAULT_CAPS = Caps()

T = TypeVar("T")


def window(
    state: State, caps: Caps = DEFAULT_CAPS, directives: Directives = NO_DIRECTIVES, count: Counter = estimate
) -> Window:
    """The same state, caps, directives and counter give the same window.

    `state` must be folded without what `directives` revokes. `count` may be a real tokenizer's.
    """
    hard = caps.hard - HEADINGS
    instructions = _fitting(directives.instructions[::-1], hard, lambda each: instruction_line(each, count))[::-1]
    spent = sum(line.tokens for _, line in instructions)
    wanted = facts_of(state, directives)
    facts = _fitting(wanted, hard - spent, lambda each: fact_line(each, count))
    facts.sort(key=lambda pair: (pair[0].at, pair[0].ordinal, pair[0].id))
    spent += sum(line.tokens for _, line in facts)
    room = max(caps.soft - HEADINGS - spent, min(hard - spent, int(caps.soft * ROOM_SHARE)), 0)
    recent = [each for each in state.recent if each.ordinal > state.count - RECENT]
    reserved = min(int(room * SUMMARY_SHARE), _need(state, count))
    shown, cut = _verbatim(recent[max(len(recent) - caps.recent, 0) :], room - reserved, count)
    verbatim = [line for each in shown for line in interaction_lines(each, count)]
    rest = recent[: len(recent) - len(shown)]
    summary = _summary(state, rest, room - sum(line.tokens for line in verbatim), count)
    lines = (
        *(line for _, line in instructions),
        *(line for _, line in facts),
        *_summary_lines(summary, count),
        *verbatim,
    )
    left_out = (len(directives.instructions) - len(instructions), len(wanted) - len(facts), len(rest))
    return Window(
        state.key,
        caps,
        state.count,
        tuple(each for each, _ in instructions),
        tuple(each for each, _ in facts),
        summary,
        tuple(shown),
        lines,
        Omitted(*left_out, *cut),
    )


def facts_of(state: State, directives: Directives) -> list[Fact]:
    """All that are pinned, in the order in which they are given up, the last one first: what a person pinned, the
    newest first, then what answers did."""
    found: dict[str, Fact] = {}
    for fact in (*directives.pinned[::-1], *state.facts[::-1]):
        if fact.id not in directives.unpinned and fact.origin not in directives.revoked:
            found.setdefault(fact.id, fact)
    return list(found.values())


def _fitting(items: Iterable[T], tokens_max: int, line_of: Callable[[T], Line]) -> list[tuple[T, Line]]:
    """Those that fit; one that is too large does not keep smaller ones out."""
    found = []
    for item in items:
        line = line_of(item)
        if line.tokens <= tokens_max:
            tokens_max -= line.tokens
            found.append((item, line))
    return found


class _Cut(NamedTuple):
    """What was left out of interactions that are shown."""

    tool_calls: int
    characters: int


def _verbatim(recent: Sequence[Interaction], room: int, count: Counter) -> tuple[list[Interaction], _Cut]:
    """As many of the newest as fit with what was asked and answered; then calls of tools, the newest first."""
    shown: list[Interaction] = []
    characters = 0
    for each in reversed(recent):
        need = sum(sizes_of(each, count)[:2])
        if need > room:
            if shown:
                break
            each, characters = _shortened(each, room, count)  # noqa: PLW2901  the newest is shown in any case
            need = sum(sizes_of(each, count)[:2])
            if need > room:
                break
        room -= need
        shown.append(each)
    left_out = 0
    for at, each in enumerate(shown):
        calls = []
        _, _, *costs = sizes_of(each, count)
        for call, size in reversed(list(zip(each.tool_calls, costs, strict=True))):
            if size <= room:
                room -= size
                calls.append((call, size))
        if len(calls) < len(each.tool_calls):
            left_out += len(each.tool_calls) - len(calls)
            kept = tuple(call for call, _ in reversed(calls))
            of_texts = each.sizes[:2] + tuple(size for _, size in reversed(calls)) if each.sizes else ()
            shown[at] = replace(each, tool_calls=kept, sizes=of_texts)
    return shown[::-1], _Cut(left_out, characters)


def _shortened(interaction: Interaction, room: int, count: Counter) -> tuple[Interaction, int]:
    """What was asked and answered, cut at their ends so that both fit; how many characters were left out."""
    asked, answered = sizes_of(interaction, count)[:2]
    half = room // 2
    of_asked = min(asked, max(half, room - answered))
    short_asked, n = _cut(interaction.asked, of_asked, count)
    left = room - (asked if not n else of_asked)
    short_answer, m = _cut(interaction.answer, left, count) if interaction.answer is not None else (None, 0)
    short = replace(interaction, asked=short_asked, answer=short_answer, sizes=())
    return replace(short, sizes=sizes(short, count) if count is estimate else ()), n + m


def _cut(text: str, tokens_max: int, count: Counter) -> tuple[str, int]:
    """The beginning of a text that is too long, with a mark that says so; how much was left out."""
    size = tokens(text, count)
    if size <= tokens_max:
        return text, 0
    keep = len(text)
    while keep and size > tokens_max:
        keep = int(keep * max(tokens_max - CUT_TOKENS, 0) / size * 0.95)
        size = tokens(text[:keep], count) + CUT_TOKENS
    return text[:keep] + CUT.format(len(text) - keep), len(text) - keep


def _standing(state: State, after: int, before: int) -> Iterator[tuple[Summary, tuple[SummaryLine, ...]]]:
    """What stands for the ordinals between these two: a model's lines, of chunks that lie there wholly and where they
    are shown by now, else those that were extracted."""
    models = {each.first: each for each in state.models}
    for chunk in state.chunks:
        model = models.get(chunk.first)
        is_whole = after < chunk.first and chunk.last < before  # all are, but the one that leaves
        if is_whole and model is not None and model.since <= state.count:
            yield model, model.lines
        elif is_whole:
            yield chunk, chunk.lines
        else:
            yield chunk, tuple(line for line in chunk.lines if after < line.ordinal < before)


def _need(state: State, count: Counter) -> int:
    """Tokens of all that stands for the interactions before the recent ones."""
    standing = _standing(state, state.count - RECENT - SUMMARISED, state.count - RECENT + 1)
    return sum(_size(line, count) for _, lines in standing for line in lines)


def _summary(state: State, rest: Sequence[Interaction], room: int, count: Counter) -> Summary | None:
    """What stands for all before those that are shown; `rest` are recent ones that are not."""
    after = state.count - RECENT - SUMMARISED
    before = rest[-1].ordinal + 1 if rest else state.count - RECENT + 1
    used = list(_standing(state, after, before))
    sealed = state.chunks[-1].last if state.chunks else 0
    open_ones = [each for each in rest if each.ordinal > sealed]
    if open_ones:
        extra = summarise(open_ones, open_ones[0].ordinal, open_ones[-1].ordinal)
        used.append((extra, extra.lines))
    members = [member for each, _ in used for member in each.members if after < member[0] < before]
    if not members:
        return None
    kinds = {(each.kind, each.version) for each, _ in used}
    kept = _heaviest([line for _, lines in used for line in lines], room, after, count)
    return Summary(
        "model" if any(kind == "model" for kind, _ in kinds) else "extractive",
        "+".join(sorted({version for _, version in kinds})),
        members[0][0],
        members[-1][0],
        tuple(members),
        tuple(kept),
    )


def _heaviest(lines: Sequence[SummaryLine], room: int, after: int, count: Counter) -> list[SummaryLine]:
    """In their order, those that weigh most for what they cost, the same words once: where they were said last."""
    newest = {line.text: line for line in lines}
    sizes = {text: _size(line, count) for text, line in newest.items()}
    if sum(sizes.values()) <= room:
        return [line for line in lines if newest[line.text] is line]
    ranked = []
    for place, line in enumerate(newest.values()):
        size = sizes[line.text]
        weight = max(line.weight, WEIGHT_MIN) + RECENCY * (line.ordinal - after) / SUMMARISED
        ranked.append((-weight / float(max(size, 1) ** DENSITY), place, size, line))
    ranked.sort()
    kept = set()
    for _, _, size, line in ranked:
        if size <= room:
            room -= size
            kept.add(line.text)
    return [line for line in lines if line.text in kept and newest[line.text] is line]


def _size(line: SummaryLine, count: Counter) -> int:
    return line.tokens if count is estimate else count(line.text) + LINE


def _summary_lines(summary: Summary | None, count: Counter) -> list[Line]:
    if summary is None:
        return []
    return [
        Line("summary", "summary", line.text, _size(line, count), line.origins, line.source) for line in summary.lines
    ]
