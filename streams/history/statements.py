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
_NO_DATA_FOLLOWS = frozenset({b"SELECT", b"WITH", b"INFILE", b"WATCH"})
# What would end the process that the engine lives in.
_DEADLY = frozenset({b"SHUTDOWN", b"KILL", b"SUSPEND"})


@dataclass(frozen=True, slots=True)
class InsertHead:
    """An insert whose rows follow as data in `format` from byte `data_at` on; `head` stops before FORMAT or VALUES."""

    head: str
    format: str
    data_at: int


def insert_head(sql: bytes) -> InsertHead | None:
    """The head of an insert that carries its rows as data; None for every other statement."""
    words = _significant(sql)
    if next(words, (b"", b"", 0))[1] != b"INSERT":
        return None
    depth = 0
    for kind, word, start in words:
        depth += (word == b"(") - (word == b")")
        if kind != b"word" or depth:
            continue  # a column may have any name
        if word in _NO_DATA_FOLLOWS:
            return None
        if word == b"VALUES":
            return InsertHead(sql[:start].decode(), "Values", start + len(word))
        if word == b"FORMAT":
            _, _, name_at = next(words, (b"", b"", len(sql)))
            name = _name(sql, name_at)
            data = _DATA_STARTS.match(sql, name_at + len(name))
            return InsertHead(sql[:start].decode(), name.decode(), data.end() if data else len(sql))
    return None


def answer_format(sql: bytes) -> str | None:
    """The format that a trailing FORMAT clause names, or None."""
    found = _format_clause(sql)
    return None if found is None else sql[slice(*found[1])].decode()


def without_format(sql: bytes) -> bytes:
    """The statement without a trailing FORMAT clause."""
    found = _format_clause(sql)
    return sql if found is None else sql[: found[0]] + sql[found[1][1] :]


def _format_clause(sql: bytes) -> tuple[int, tuple[int, int]] | None:
    """Where a trailing FORMAT clause starts, and from where to where its name stands."""
    tokens = list(_significant(sql))
    for index in range(len(tokens) - 2, -1, -1):
        (kind, word, start), (next_kind, _, name_at) = tokens[index], tokens[index + 1]
        if kind == next_kind == b"word" and word == b"FORMAT":
            after = tokens[index + 2][1] if index + 2 < len(tokens) else b";"
            return (start, (name_at, name_at + len(_name(sql, name_at)))) if after in (b";", b"SETTINGS") else None
    return None


def is_query(sql: bytes) -> bool:
    """Whether the statement is a SELECT, which DESCRIBE can tell the columns of."""
    return next(_significant(sql), (b"", b"", 0))[1] in (b"SELECT", b"WITH")


def refused(sql: bytes) -> str | None:
    """Why a statement must not reach an embedded engine (it would touch files, end the process, or be two), or None."""
    before, ended = b"", False
    for _, word, _ in _significant(sql):
        if ended:
            return "Multi-statements are not allowed"
        if (before, word) in ((b"INTO", b"OUTFILE"), (b"FROM", b"INFILE")):
            return f"{before.decode()} {word.decode()} is not allowed over HTTP"
        if before == b"SYSTEM" and word in _DEADLY:
            return f"SYSTEM {word.decode()} is not allowed: the engine is part of the store"
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
