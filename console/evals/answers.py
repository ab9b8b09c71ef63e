"""Whether an answer stands in a text, told by its words: no model, no distance, no stems.

Text is compared as a row of words: case, accents' forms and punctuation go, numbers stay whole, a time of day has one
form. An answer stands where its words stand side by side; the last may have a plural's s. But "two" stands in most
texts, whatever was asked. So an answer counts where its passage does: the words around it in the sentence that the data
name as its source. I/O: none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from agents.memory.sentences import sentences

AROUND = 2
"""Words on each side of an answer that make its passage, as far as its sentence has them."""

QUOTED = 4
"""Words side by side, in a source and in a sentence, that make the one quote the other; a shorter sentence is quoted
whole."""

_TIME = re.compile(
    r"\b(\d{1,2})(?::(\d{2}))?\s*(?:([ap])\.?\s?m\b\.?|in the (morning|afternoon|evening))", re.IGNORECASE
)
_WORD = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)*|\d+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


class Question(NamedTuple):
    """`answers` are those that count as right, any of them; `source` quotes where the answer is said."""

    id: str
    text: str
    answers: tuple[str, ...]
    source: str


class Passage(NamedTuple):
    """An answer with the words around it, and the number of the text it stands in, from 0."""

    words: str
    at: int
    quoted: bool


def words(text: str) -> str:
    """The form that texts are compared in: words with a blank between them and at both ends."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    return f" {' '.join(_WORD.findall(_THOUSANDS.sub('', _TIME.sub(_minute, text))))} "


def _minute(found: re.Match[str]) -> str:
    hour, minute, half, part = found.groups()
    late = half == "p" or part in ("afternoon", "evening")
    return f" {int(hour) % 12 + 12 * late:02}:{minute or '00'} "


def holds(part: str, whole: str) -> bool:
    """Whether the words of one stand side by side in the other; the last may have a plural's s."""
    part = part.rstrip()
    return bool(part) and (f"{part} " in whole or f"{part}s " in whole)


def stands(question: Question, text: str) -> bool:
    """Whether any of the answers is anywhere in the text: the lenient measure."""
    return any(holds(words(answer), text) for answer in question.answers)


def passages(question: Question, texts: Sequence[str]) -> list[Passage]:
    """Where the answer is said: in sentences that the question's source quotes, or where it is in none of these, in the
    other sentences of the same texts. None: it cannot be told from its words."""
    source = words(question.source)
    found: list[Passage] = []
    for at, text in enumerate(texts):
        said = [words(sentence) for sentence in sentences(text)]
        quoted = [_quotes(source, each) for each in said]
        if any(quoted):
            found += [
                Passage(passage, at, is_quoted)
                for row, is_quoted in zip(said, quoted, strict=True)
                for answer in map(words, question.answers)
                for passage in _around(answer.strip(), row)
            ]
    return [each for each in found if each.quoted] or found


def _quotes(source: str, sentence: str) -> bool:
    row = sentence.split()
    length = min(QUOTED, len(row))
    runs = (row[at : at + length] for at in range(len(row) - length + 1))
    return bool(row) and any(f" {' '.join(run)} " in source for run in runs)


def _around(answer: str, sentence: str) -> Iterator[str]:
    """Each place of the answer in a sentence, with AROUND words on both sides."""
    for found in re.finditer(rf"(?<= ){re.escape(answer)}s?(?= )", sentence) if answer else ():
        before, after = sentence[: found.start()].split(), sentence[found.end() :].split()
        yield f" {' '.join((*before[-AROUND:], found.group(), *after[:AROUND]))} "


def is_kept(found: Sequence[Passage], text: str) -> bool:
    """Whether one of the passages is in the text: the strict measure."""
    return any(passage.words in text for passage in found)
