"""The shape of ClickHouse SQL: where statements end, where an insert's data begins, and which format an answer has.

This is a scan over tokens, not a parser: it skips quotes and comments and leaves all meaning to the engine. I/O: none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    rb"""(?P<skip> --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/ | \s+ )
       | (?P<quoted> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.)*" | `(?:[^`\\]|\\.)*` | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
       | (?P<word> [A-Za-z_]\w* )
       | (?P<other> . )""",
    re.DOTALL | re.VERBOSE,
)
# One newline ends an insert's head; blanks before it are not data.
_DATA_STARTS = re.compile(rb"[ \t\f]*(?:;[ \t\f]*)?\r?\n?")
_ENDS_A_HEAD = frozenset({b"VALUES", b"SELECT", b"WITH", b"INFILE", b"WATCH"})


@dataclass(frozen=True, slots=True)
class InsertHead:
    """An `INSERT INTO ... FORMAT name` whose rows follow as data from byte `data_at` on; `head` stops before FORMAT."""

    head: str
    format: str
    data_at: int


def insert_head(sql: bytes) -> InsertHead | None:
    """The head of an insert that carries its rows as data; None for every other statement."""
    words = _significant(sql)
    if next(words, (b"", b"", 0))[1] != b"INSERT":
        return None
    for kind, word, start in words:
        if kind == b"word" and word in _ENDS_A_HEAD:
            return None
        if kind == b"word" and word == b"FORMAT":
            _, _, name_at = next(words, (b"", b"", len(sql)))
            name = _name(sql, name_at)
            data = _DATA_STARTS.match(sql, name_at + len(name))
            return InsertHead(sql[:start].decode(), name.decode(), data.end() if data else len(sql))
    return None


def answer_format(sql: bytes) -> str | None:
    """The format that a trailing FORMAT clause names, or None."""
    tokens = list(_significant(sql))
    for index in range(len(tokens) - 2, -1, -1):
        (kind, word, _), (next_kind, _, name_at) = tokens[index], tokens[index + 1]
        if kind == next_kind == b"word" and word == b"FORMAT":
            after = tokens[index + 2][1] if index + 2 < len(tokens) else b";"
            return _name(sql, name_at).decode() if after in (b";", b"SETTINGS") else None
    return None


def refused(sql: bytes) -> str | None:
    """Why a statement must not reach an embedded engine (it would touch the server's files or run twice), or None."""
    before, ended = b"", False
    for kind, word, _ in _significant(sql):
        if ended:
            return "Multi-statements are not allowed"
        if word == b"VALUES" and kind == b"word":
            return None  # rows follow; they are data
        if (before, word) in ((b"INTO", b"OUTFILE"), (b"FROM", b"INFILE")):
            return f"{before.decode()} {word.decode()} is not allowed over HTTP"
        before, ended = word, word == b";"
    return None


def split(script: str) -> list[str]:
    """The statements of a script, without the semicolons between them and without statements that say nothing."""
    text, start, statements, empty = script.encode(), 0, [], True
    for match in _TOKEN.finditer(text):
        if match.group() == b";":
            if not empty:
                statements.append(text[start : match.start()].decode().strip())
            start, empty = match.end(), True
        elif match.lastgroup != "skip":
            empty = False
    if not empty:
        statements.append(text[start:].decode().strip())
    return statements


def _significant(sql: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(kind, text, start) of the tokens that mean something; words in capitals."""
    for match in _TOKEN.finditer(sql):
        if match["word"] is not None:
            yield b"word", match["word"].upper(), match.start()
        elif match["quoted"] is not None:
            yield b"quoted", match["quoted"], match.start()
        elif match["skip"] is None:
            yield b"other", match.group(), match.start()


def _name(sql: bytes, start: int) -> bytes:
    match = re.compile(rb"\w*").match(sql, start)
    return match.group() if match else b""
