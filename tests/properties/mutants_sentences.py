"""Broken builds of what is counted and looked up in texts instead of searched with one readable pattern.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agents.memory import sentences
from tests.properties import test_sentences as laws
from tests.properties.mutant import Mutant

_NEVER = re.compile(r"(?!)")


def _no_address(sentence: str, at: int) -> None:
    del sentence, at


_of_a_word = sentences._kinds.__wrapped__


def _of_one_word_alone(word: str) -> int:
    return _of_a_word(word) & ~sentences._BEGINS


def _double_quotes_alone(sentence: str) -> bool:
    return '"' in sentence and sentences._QUOTED.search(sentence) is not None


def _whatever_their_length(text: str) -> frozenset[str]:
    return frozenset(sentences._small_words(text))


SENTENCES: Mapping[str, Mutant] = {
    "an address is no figure": Mutant(
        "agents.memory.sentences._address", _no_address, (laws.test_figures_are_counted_as_one_pattern_would,)
    ),
    "amounts and shares are no figures": Mutant(
        "agents.memory.sentences._SIGNS", _NEVER, (laws.test_figures_are_counted_as_one_pattern_would,)
    ),
    "an abbreviation ends a sentence": Mutant(
        "agents.memory.sentences._ABBREVIATION", _NEVER, (laws.test_sentences_are_cut_as_one_after_the_other_would_be,)
    ),
    "a closing quote begins the next sentence": Mutant(
        "agents.memory.sentences._ENDS_IN_LINE",
        re.compile(r"[.!?]\s+"),
        (laws.test_sentences_are_cut_as_one_after_the_other_would_be,),
    ),
    "two signs cost as much as two words": Mutant(
        "agents.memory.tokens._RUNS",
        (b"aaaaa", b"aaaa", b"aaa", b"aa", b"000", b"00"),
        (laws.test_tokens_are_estimated_as_the_pattern_cuts_them,),
    ),
    "a key costs no more than a word": Mutant(
        "agents.memory.tokens._LONG_WORDS", _NEVER, (laws.test_tokens_are_estimated_as_the_pattern_cuts_them,)
    ),
    "the pattern of small letters lacks a cue": Mutant(
        "tests.properties.test_sentences._PLAIN_CUES",
        re.compile(sentences._CUES.pattern.replace("decid\\w+|", "")),
        (laws.test_small_letters_alone_say_the_same_of_plain_text,),
    ),
    "single quotes are none": Mutant(
        "tests.properties.test_sentences._is_quoting",
        _double_quotes_alone,
        (laws.test_small_letters_alone_say_the_same_of_plain_text,),
    ),
    "a cue of several words is none": Mutant(
        "agents.memory.sentences._kinds",
        _of_one_word_alone,
        (laws.test_words_of_plain_text_are_looked_up_as_patterns_find_them,),
    ),
    "words of a letter tell sentences apart": Mutant(
        "tests.properties.test_sentences.words",
        _whatever_their_length,
        (laws.test_words_of_plain_text_are_looked_up_as_patterns_find_them,),
    ),
    "a name behind a line's end is none": Mutant(
        "tests.properties.test_sentences._NAME",
        re.compile(r"[A-ZÀ-ÖØ-ÞА-Я](?<=[\w,;:] .)[\w-]+"),
        (laws.test_names_are_found_wherever_the_pattern_begins,),
    ),
}
