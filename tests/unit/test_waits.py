"""P11, in the code: every call of a client of Kafka that may wait says how long at most."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# How many positional arguments come before the time limit, of calls of librdkafka's clients.
LIMIT_AT = {
    "consume": 1,
    "flush": 0,
    "list_topics": 1,
    "offsets_for_times": 1,
    "get_watermark_offsets": 1,
    "init_transactions": 0,
    "send_offsets_to_transaction": 2,
    "commit_transaction": 0,
    "abort_transaction": 0,
}
OWN = frozenset({"timeout", "cached"})
"""Keywords that bound a wait, or say that there is none."""

MODULES = sorted((ROOT / "streams" / "transport").glob("*.py"))


def unbounded(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        # Methods of ours have the same names as those that they wrap; only clients are asked.
        is_client = ast.unparse(node.func.value).endswith(("consumer", "_producer", "client", "_client"))
        if is_client and name in LIMIT_AT:
            limited = len(node.args) > LIMIT_AT[name] or OWN & {keyword.arg for keyword in node.keywords}
            if not limited:
                yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_call_of_a_client_waits_for_ever(path: Path) -> None:
    assert list(unbounded(path.read_text())) == []


def test_one_that_would_is_found() -> None:
    assert list(unbounded("self._producer.flush()\nself._producer.flush(1)\nconsumer.consume(5)")) == [
        "line 1: flush",
        "line 3: consume",
    ]
