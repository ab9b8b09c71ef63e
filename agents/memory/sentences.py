"""Cuts text into sentences that can stand alone, whatever its language, and tells which of them are worth keeping.

What a sentence weighs is told by its form, not by a model: where it stands, who says it, whether it holds numbers,
names, or words of decision, commitment, preference or correction. Position and such cue phrases are the oldest features
of extractive summaries (Edmundson 1969); the choice against repetition is maximal marginal relevance (Carbonell and
Goldstein 1998). I/O: none.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache

SENTENCE_CHARS_MAX = 280
SHORT_CHARS = 12  # shorter ones seldom stand alone, in Latin letters
SENTENCES_MAX = 64  # of one text: a long document does not crowd out the rest of its chunk

# White space is looked at once, from where it begins: a page of it without a line's end would cost its square.
_ENDS = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|(?<=[\u3002\uff01\uff1f\u0964\u061f])|(?<!\s)\s*\n+\s*")
# The same, for what most texts are: one line of ASCII. It begins with what is looked for, so it is found quickly.
_ENDS_IN_LINE = re.compile(r"[.!?][\"')\]]*\s+")
_ABBREVIATION = re.compile(r"(?:\b(?:[A-Z]|Dr|Mr|Mrs|Ms|St|No|vs|e\.g|i\.e|etc|approx))\.$")
ABBREVIATION_CHARS_MAX = 8  # with what stands before it
_NUMBER = re.compile(r"\d")
_FIGURE = re.compile(r"\b\d[\d.,:/-]*\d\b|[$€£¥]\s?\d|\d\s?%|\b[A-Z]{1,4}-?\d{2,}\b|#\w+")
# The same where none of its signs is. It begins with what it may begin with, as the next one does: so both are found
# quickly, and look at what stands before only then.
_SIGNS = re.compile(r"[$€£¥%#]")
_PLAIN_FIGURE = re.compile(r"[\dA-Z](?<=\b.)(?:(?<=\d)[\d.,:/-]*\d|(?<=[A-Z])[A-Z]{0,3}-?\d{2,})\b")
_UNSPACED, _DOMAIN = re.compile(r"\S+"), re.compile(r"\.\w+")
_NAME = re.compile(r"[A-ZÀ-ÖØ-ÞА-Я](?<=[\w,;:]\s.)[\w-]+")
_CUES = re.compile(
    r"\b(?:decid\w+|decision|agree[ds]?|must(?:n't)?|never|always|only|prefer\w*|favou?rite|remember|important|deadline|due|"
    r"will|won't|promis\w+|commit\w*|confirm\w*|cancel\w*|approv\w+|reject\w*|book(?:ed|ing)|chang(?:ed?|ing)|instead|"
    r"actually|correct(?:ed|ion)?|wrong|not|don't|doesn't|can't|allerg\w+|because|name(?:d| is|'s)|called|live[sd]?|"
    r"work(?:s|ed|ing)?|born|moved|love[sd]?|hate[sd]?|like[sd]?|plan(?:s|ned|ning)?|goal|budget|total|result|failed|"
    r"error|my|our|i'm|i've|i am|we are)\b",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"^(?:hi|hello|hey|thanks?|thank you|sure|ok(?:ay)?|great|good (?:morning|day|evening)|you're welcome|bye|"
    r"let me know|is there anything|how can i|certainly|of course|no problem|sounds good|i'd be happy)\b",
    re.IGNORECASE,
)
_SPELT = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|"
    r"(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|twice|once|half|dozen)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile("(?<!\\w)[\"'\u2018\u201c\u00ab][^\"'\u2019\u201d\u00bb]{2,60}[\"'\u2019\u201d\u00bb](?!\\w)")
# What may be or is wished for is seldom what was asked to be remembered.
_HEDGE = re.compile(r"\b(?:would|could|maybe|might|if|wonder\w*|curious|hop(?:e|ing)|guess)\b", re.IGNORECASE)
_PLAIN_CUES, _PLAIN_SPELT, _PLAIN_HEDGE = (re.compile(each.pattern) for each in (_CUES, _SPELT, _HEDGE))
# Of plain text each word is looked up, not looked for: what the patterns make of it is known from its last time. Words
# with which a cue of several begins are for the pattern.
_CUE, _FIGURED, _HEDGING, _BEGINS = 1, 2, 4, 8
_BEGINNINGS = frozenset(("mustn", "won", "don", "doesn", "can", "name", "i", "we"))
WORDS_KNOWN = 8_192
_SMALL_WORDS = bytes(ord(chr(code).lower()) if chr(code).isalnum() or chr(code) == "_" else 32 for code in range(128))
_SMALL_WORDS += bytes(range(128, 256))
QUESTION = ("?", "\uff1f", "\u061f")

_WORD = re.compile(r"[A-Za-z0-9_À-ɏ\u0370-\u1cff]{3,}|[\u2e80-\ud7af\u0e00-\u0e7f]{1,2}")


def sentences(text: str) -> list[str]:
    """In their order, none empty, none longer than SENTENCE_CHARS_MAX, at most SENTENCES_MAX: of more the first and
    the last."""
    found = list(_joined(_parts(text)))
    if len(found) > SENTENCES_MAX:
        found = found[: SENTENCES_MAX // 2] + found[-SENTENCES_MAX // 2 :]
    return found


def _parts(text: str) -> list[str]:
    if not text.isascii() or "\n" in text:
        return _ENDS.split(text)
    found, start = [], 0
    for end in _ENDS_IN_LINE.finditer(text):
        found.append(text[start : end.start() + 1])
        start = end.end()
    found.append(text[start:])
    return found


def _joined(parts: list[str]) -> Iterator[str]:
    held = ""
    for part in map(str.strip, parts):
        if not part:
            continue
        held = f"{held} {part}" if held else part
        if part[-1] != "." or not _ABBREVIATION.search(part, max(0, len(part) - ABBREVIATION_CHARS_MAX)):
            yield from _cut(held)
            held = ""
    yield from _cut(held)


def _cut(sentence: str) -> Iterator[str]:
    sentence = " ".join(sentence.split())
    start = 0
    while len(sentence) - start > SENTENCE_CHARS_MAX:
        at = sentence.rfind(" ", start + SENTENCE_CHARS_MAX // 2, start + SENTENCE_CHARS_MAX)
        at = at if at > 0 else start + SENTENCE_CHARS_MAX
        yield sentence[start:at]
        start = at + (sentence[at] == " ")
    if start < len(sentence):
        yield sentence[start:]


def weight(sentence: str, position: int, of: int) -> float:
    """How much is lost with it, about 0 to 5; `position` counts from 0 in a text of `of` sentences."""
    plain = sentence.isascii()
    cues, spelt, hedges = _said(sentence) if plain else _found(sentence, _CUES, _SPELT, _HEDGE)
    found = 0.3 + (0.4 if position == 0 else 0.15 if position == of - 1 else 0.0)
    found += figures(sentence, most=3) * 0.6
    found += 0.4 if spelt or _NUMBER.search(sentence) else 0.0
    found += min(len(_NAME.findall(sentence)), 3) * 0.5 + (0.4 if _is_quoting(sentence) else 0.0)
    found += min(cues, 3) * 0.25
    if hedges:
        found -= 0.3
    if sentence.endswith(QUESTION):
        found -= 0.6
    if _CHATTER.match(sentence):
        found -= 0.6
    if plain and len(sentence) < SHORT_CHARS:
        found -= 0.4
    return found


def _said(sentence: str) -> tuple[int, bool, bool]:
    """How many cues are in plain text, whether a number is spelt there, and whether it hedges."""
    known = [_kinds(word) for word in _small_words(sentence)]
    seen = 0
    for kinds in known:
        seen |= kinds
    if seen & _BEGINS:
        return _found(sentence.lower(), _PLAIN_CUES, _PLAIN_SPELT, _PLAIN_HEDGE)
    return known.count(_CUE), bool(seen & _FIGURED), bool(seen & _HEDGING)


def _found(
    sentence: str, cues: re.Pattern[str], spelt: re.Pattern[str], hedge: re.Pattern[str]
) -> tuple[int, bool, bool]:
    """As `_said`. Beyond ASCII a letter has several capitals, so there patterns look for each; where it has one, small
    letters are told apart with less work."""
    return len(cues.findall(sentence)), spelt.search(sentence) is not None, hedge.search(sentence) is not None


@lru_cache(WORDS_KNOWN)
def _kinds(word: str) -> int:
    """What a word in small letters is on its own: one thing at most, or the beginning of something."""
    if word in _BEGINNINGS:
        return _BEGINS
    if _PLAIN_CUES.fullmatch(word):
        return _CUE
    if _PLAIN_SPELT.fullmatch(word):
        return _FIGURED
    return _HEDGING if _PLAIN_HEDGE.fullmatch(word) else 0


def _small_words(text: str) -> list[str]:
    """Of plain text, all of them, in small letters."""
    return text.encode().translate(_SMALL_WORDS).decode().split()


def figures(sentence: str, most: int) -> int:
    """How many numbers, amounts, codes, addresses and tags it holds, `most` at most; in time linear in its length."""
    if "@" not in sentence:
        pattern = _FIGURE if _SIGNS.search(sentence) else _PLAIN_FIGURE
        return min(len(pattern.findall(sentence)), most)
    found = at = 0
    while found < most:
        figure, address = _FIGURE.search(sentence, at), _address(sentence, at)
        if figure is None and address is None:
            break
        found += 1
        if address is not None and (figure is None or address < (figure.start() + (figure[0][0] == "#"), 0)):
            at = address[1]
        else:
            assert figure is not None
            at = figure.end()
    return found


def _is_quoting(sentence: str) -> bool:
    may = not sentence.isascii() or '"' in sentence or "'" in sentence
    return may and _QUOTED.search(sentence) is not None


def _address(sentence: str, at: int) -> tuple[int, int] | None:
    """Where the first address from there on starts and ends: x@y.z, as far as it goes without a space.

    A pattern would look for each part of it from each letter, and cost the square of a long word, or its cube.
    """
    for word in _UNSPACED.finditer(sentence, at):
        domain = deque(_DOMAIN.finditer(word[0]), maxlen=1)
        if domain and word[0].rfind("@", 1, max(domain[0].start() - 1, 0)) > 0:
            return word.start(), word.start() + domain[0].end()
    return None


def words(text: str) -> frozenset[str]:
    """What tells two sentences apart; of scripts without spaces, pairs of characters."""
    if text.isascii():
        return frozenset([word for word in _small_words(text) if len(word) > 2])  # noqa: PLR2004  as the pattern says
    return frozenset(_WORD.findall(text.lower()))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of the smaller's words that both have, 0 to 1."""
    if not one or not other:
        return 0.0
    return len(one & other) / min(len(one), len(other))
