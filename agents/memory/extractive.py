"""The summary that needs no model: sentences of the interactions themselves, chosen by weight and against repetition.

The same interactions give the same summary, byte for byte, and each of its lines names the interaction it was taken
from; so it can be made again, compared, and rid of an interaction that was revoked. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from agents.memory.model import CHUNK, Interaction, Source, Summary, SummaryLine, ToolCall
from agents.memory.sentences import SENTENCE_CHARS_MAX, overlap, sentences, weight, words
from agents.memory.tokens import estimate

VERSION = "extractive-2"
CHUNK_TOKENS_MAX = 1_600
"""Of one chunk's summary, CHUNK interactions: five of them fill a window, so that a conversation of medium length is
not shortened where there is room. The window takes the weightiest lines of all."""

LINE = 2
"""Tokens of what stands around a line."""

REPETITION = 0.7
"""How much of its weight a line loses that says what another says."""

SAME = 0.85
"""Overlap from which on two lines say the same: the lighter is left out."""

# Who says it: what people state is known from nowhere else, what a tool said can be asked again.
ASKED, ANSWERED, TOOL, FAILED = 1.0, 0.85, 0.6, 0.5


class Summariser(Protocol):
    """Makes the summary of one chunk of interactions, in rising order. What it raises leaves the extractive one."""

    def __call__(self, interactions: Sequence[Interaction]) -> Summary: ...


class _Candidate(NamedTuple):
    line: SummaryLine
    words: frozenset[str]
    place: int


def summarise(interactions: Sequence[Interaction], first: int = 0, last: int = 0) -> Summary:
    """Of one chunk; `first` and `last` are its ordinals, where they are not those of the interactions because some
    were revoked."""
    members = tuple((each.ordinal, each.id) for each in interactions)
    lines = tuple(each.line for each in _chosen(_candidates(interactions, members), CHUNK_TOKENS_MAX))
    ordinals = [ordinal for ordinal, _ in members] or [0]
    return Summary("extractive", VERSION, first or ordinals[0], last or ordinals[-1], members, lines)


def bounds(ordinal: int) -> tuple[int, int]:
    """First and last ordinal of the chunk that an interaction belongs to."""
    first = (ordinal - 1) // CHUNK * CHUNK + 1
    return first, first + CHUNK - 1


def _candidates(interactions: Sequence[Interaction], members: Sequence[tuple[int, str]]) -> list[_Candidate]:
    found: list[_Candidate] = []
    for interaction, (ordinal, id_) in zip(interactions, members, strict=True):
        origins = (id_,)
        for label, text, share, source in _texts(interaction):
            # A call and its result stand in one line, whatever the signs in it.
            said = [text] if label == "tool" and source is None else sentences(text)
            for position, sentence in enumerate(said):
                weighs = round(share * weight(sentence, position, len(said)), 3)
                written = f"{label}: {sentence}"
                tokens = estimate(written) + LINE
                line = SummaryLine(written, origins, ordinal, weighs, tokens, source)
                found.append(_Candidate(line, words(sentence), len(found)))
    return found


def _texts(interaction: Interaction) -> Iterator[tuple[str, str, float, Source | None]]:
    """Who said what in it, and how much that counts."""
    source = interaction.source
    if interaction.asked:
        yield "asked" if source is None else f"from {source.agent_id}", interaction.asked, ASKED, source
    for call in interaction.tool_calls:
        yield "tool", _tool_text(call), TOOL, None
    if interaction.answer:
        yield "answered", interaction.answer, ANSWERED, None
    elif interaction.status != "COMPLETED":
        why = f": {interaction.error}" if interaction.error else ""
        yield "answered", f"({interaction.status.lower()}{why})", FAILED, None


def _tool_text(call: ToolCall) -> str:
    """A call and the beginning of its result, as one sentence: they are kept together, or not at all."""
    result = "no result" if call.result is None else call.result
    half = SENTENCE_CHARS_MAX // 2 - len(call.name) - 8
    return f"{call.name} {_short(call.arguments, half)} -> {_short(result, half)}"


def _short(text: str, chars: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= chars else f"{text[: max(chars - 1, 0)]}…"


def _chosen(candidates: list[_Candidate], tokens_max: int) -> list[_Candidate]:
    """In the order in which they were said. Equal weights go to the earlier one."""
    repeats = [0.0] * len(candidates)
    compared = [0] * len(candidates)
    chosen: list[_Candidate] = []
    heap = [(-each.line.weight, each.place) for each in candidates]
    heapify(heap)
    while heap:
        worth, place = heappop(heap)
        best = candidates[place]
        if best.line.tokens > tokens_max:
            continue
        # What a line is worth only falls as others are chosen: only the first one's has to be told anew.
        said = (overlap(best.words, other.words) for other in chosen[compared[place] :])
        repeats[place], compared[place] = max(repeats[place], *said, 0.0), len(chosen)
        if repeats[place] >= SAME:
            continue
        now = _worth(best, repeats[place])
        if now < -worth:
            heappush(heap, (-now, place))
            continue
        tokens_max -= best.line.tokens
        chosen.append(best)
    return sorted(chosen, key=lambda each: each.place)


def _worth(candidate: _Candidate, repeats: float) -> float:
    return candidate.line.weight - REPETITION * abs(candidate.line.weight) * repeats
