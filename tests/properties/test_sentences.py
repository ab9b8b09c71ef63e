"""Sentences and what is worth keeping in them: as patterns say that anybody can read, but in linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.memory.sentences import (
    _ABBREVIATION,
    _CUES,
    _HEDGE,
    _NAME,
    _PLAIN_CUES,
    _PLAIN_HEDGE,
    _PLAIN_SPELT,
    _QUOTED,
    _SPELT,
    _WORD,
    SENTENCE_CHARS_MAX,
    SENTENCES_MAX,
    _found,
    _is_quoting,
    _said,
    figures,
    sentences,
    weight,
    words,
)
from agents.memory.tokens import _BEYOND, _PIECES, _RARE, estimate

FIGURE = re.compile(r"\b\d[\d.,:/-]*\d\b|[$€£¥]\s?\d|\d\s?%|\b[A-Z]{1,4}-?\d{2,}\b|\S+@\S+\.\w+|#\w+")
NAME = re.compile(r"(?<=[\w,;:]\s)[A-ZÀ-ÖØ-ÞА-Я][\w-]+")
KEYS = re.compile(r"(?=[A-Za-z]*[0-9])[A-Za-z0-9]{12,}")
ENDS = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|(?<=[\u3002\uff01\uff1f\u0964\u061f])|\s*\n+\s*")

TEXTS = st.text(st.sampled_from("aZ1\uff12@.,#$% -\"'\n\t。é"), max_size=60)
PROSE = st.lists(
    st.sampled_from(
        ["Dr.", "approx.", "xapprox.", "e.g.", "A.", "B", "it is.", 'it is."', "so!')", "。", "\n", " ", "w" * 300]
    )
)
FIGURES = st.lists(
    st.sampled_from(["a@b.c", "1@1.a", "@1.1", "$ 1", "1 %", "#a", "AB12", "1.2", "x", ".", "é"]), max_size=5
)
NAMES = st.tuples(
    st.sampled_from(["a", "é", ",", "-"]), st.sampled_from(" \n\t\xa0"), st.sampled_from(["Ab", "Яa", "A", "A-"])
)
LONG = 300_000
"""Letters: the square of so many steps takes a quarter of an hour."""


@given(
    st.one_of(
        TEXTS,
        st.text(st.sampled_from("AB12.-_ :é%"), max_size=30),
        FIGURES.map(" ".join),
        FIGURES.map("".join),
    ),
    st.integers(0, 5),
)
@example(".1@1", 1)
@example("A-123 ABCD12 1.2. x1 A-1", 5)
def test_figures_are_counted_as_one_pattern_would(text: str, most: int) -> None:
    assert figures(text, most) == min(len(FIGURE.findall(text)), most)


def naive(text: str) -> list[str]:
    found, held = [], ""
    for part in ENDS.split(text):
        held = f"{held} {part}".strip()
        if held and not _ABBREVIATION.search(held):
            found.append(held)
            held = ""
    cut: list[str] = []
    for sentence in (*found, held):
        rest = " ".join(sentence.split())
        while len(rest) > SENTENCE_CHARS_MAX:
            at = rest.rfind(" ", SENTENCE_CHARS_MAX // 2, SENTENCE_CHARS_MAX)
            at = at if at > 0 else SENTENCE_CHARS_MAX
            cut.append(rest[:at])
            rest = rest[at:].strip()
        cut += [rest] if rest else []
    return cut if len(cut) <= SENTENCES_MAX else cut[: SENTENCES_MAX // 2] + cut[-SENTENCES_MAX // 2 :]


@given(st.one_of(TEXTS, PROSE.map(" ".join), PROSE.map("".join)))
def test_sentences_are_cut_as_one_after_the_other_would_be(text: str) -> None:
    assert list(sentences(text)) == naive(text)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", ["a", "@", "a@", "@.", "a@b.", "@a.b-", "1-", "1.", "#", "A1", " ", "A. ", ". ", "'", "\t "]
)
def test_no_text_costs_more_than_its_length(unit: str) -> None:
    text = unit * (LONG // len(unit)) + "x"
    assert figures(text, 3) <= 3
    assert len(list(sentences(text))) <= SENTENCES_MAX
    assert weight(text, 0, 1) > -2


ASCII = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=80),
    st.lists(
        st.sampled_from(
            [
                *("Won't", "NAME is", "I Am", "maybe", "Twenty", "half", "aaaaaa", "'x y'", '"no"', "12345", "a1" * 8),
                *("decided", "Decid", "preferences", "must", "name", "can", "not", "hoping", "wonders", "_my", "twice"),
            ]
        )
    ).flatmap(lambda said: st.sampled_from([" ", "-", ", ", "'", "_"]).map(lambda between: between.join(said))),
)


@given(st.one_of(ASCII, TEXTS, st.text(max_size=40)))
@example("aaaaa bbbbbb 0000 !!! {}a0!")
@example("two  blanks")
def test_tokens_are_estimated_as_the_pattern_cuts_them(text: str) -> None:
    keys = sum(len(key) // 3 for key in KEYS.findall(text))
    rare = len(_RARE.findall(text)) + 2 * len(_BEYOND.findall(text))
    assert estimate(text) == len(_PIECES.findall(text)) + keys + rare


@given(ASCII)
def test_small_letters_alone_say_the_same_of_plain_text(text: str) -> None:
    for plain, general in ((_PLAIN_CUES, _CUES), (_PLAIN_SPELT, _SPELT), (_PLAIN_HEDGE, _HEDGE)):
        assert plain.findall(text.lower()) == [found.lower() for found in general.findall(text)]
    assert _is_quoting(text) == (_QUOTED.search(text) is not None)


@given(ASCII)
def test_words_of_plain_text_are_looked_up_as_patterns_find_them(text: str) -> None:
    assert _said(text) == _found(text, _CUES, _SPELT, _HEDGE)
    assert words(text) == frozenset(_WORD.findall(text.lower()))


@given(st.one_of(ASCII, TEXTS, st.text(st.sampled_from("AÀЯa ,;:\n-_"), max_size=30), NAMES.map("".join)))
def test_names_are_found_wherever_the_pattern_begins(text: str) -> None:
    assert _NAME.findall(text) == NAME.findall(text)
