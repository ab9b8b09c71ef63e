"""How many tokens a text is: an estimate that needs no vocabulary and errs upwards, and the form of a real count.

A tokenizer of the byte-pair kind makes one token of a common word, several of a rare one, about one of three digits,
and up to three of a character that it saw little of. So the estimate counts pieces: of a word in Latin letters one for
every five, each character of other scripts, each pair of signs, each run of blanks. Its error against two real
tokenizers: docs/context.md. I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

Counter: TypeAlias = Callable[[str], int]
"""Tokens of a text; never negative, 0 for an empty one, and the same whenever it is asked."""

MESSAGE = 4
"""Tokens that a model's chat form puts around each message."""

_PIECES = re.compile(
    r"[A-Za-z]{1,5}"
    r"|[0-9]{1,3}"
    r"|[\u0400-\u052f]{1,2}"
    r"|[^\x00-\x7f]"
    r"|[ \t]*\n+"
    r"|[ \t]{2,16}"
    r"|[!-/:-@\[-`{-~]{1,2}"
    r"|[\x00-\x08\x0b-\x1f\x7f]"
)
# Words that mix digits and letters, as keys and hashes do, are cut in small pieces: such of these as have a digit.
_LONG_WORDS = re.compile(r"[A-Za-z0-9]{12,}")
# Characters that cost more than one: of scripts that are rare, and beyond the basic plane (emoji, old scripts).
_RARE = re.compile(r"[\u0700-\u1cff\u2c00-\u2dff\ua000-\uabff\ufe00-\ufe0f\u200d]")
_BEYOND = re.compile(r"[\U00010000-\U0010ffff]")


# A line of plain text is mostly this: letters, figures, signs and single blanks. Each becomes its kind's sign, and each
# piece of a run, the longest first, becomes one sign of no kind: as the pattern cuts it, without an object for each.
_KINDS = bytes.maketrans(
    bytes(range(33, 127)),
    bytes(ord("a" if chr(each).isalpha() else "0" if chr(each).isdigit() else "!") for each in range(33, 127)),
)
_RUNS = (b"aaaaa", b"aaaa", b"aaa", b"aa", b"000", b"00", b"!!")
_PIECE = b"."


def estimate(text: str) -> int:
    """An upper bound for most texts, in time linear in their length."""
    plain = text.isascii() and text.isprintable() and "  " not in text
    found = _pieces(text) if plain else len(_PIECES.findall(text))
    found += sum([len(word) // 3 for word in _LONG_WORDS.findall(text) if not word.isalpha()])
    if text.isascii():
        return found
    return found + len(_RARE.findall(text)) + 2 * len(_BEYOND.findall(text))


def _pieces(line: str) -> int:
    """As many as the pattern finds in a line of printable ASCII without two blanks side by side."""
    kinds = line.encode().translate(_KINDS)
    for run in _RUNS:
        kinds = kinds.replace(run, _PIECE)
    return len(kinds) - kinds.count(b" ")
