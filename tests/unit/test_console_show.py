"""A task's life as a tree, from rows as the history gives them."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from console.cli.show import tree_of

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def row(ms: int, kind: str, **more: Any) -> dict[str, Any]:
    blank = {"status": "", "agent_id": "", "attempt": 0, "stage": "", "intent": "", "reason": "", "detail": ""}
    fact = {"at": START + timedelta(milliseconds=ms), "tenant": "acme", "task_id": "t-1", "kind": kind}
    return {**blank, "confidence": None, **fact, **more}


def shown(rows: list[dict[str, Any]]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=1000).print(tree_of(rows))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_what_an_agent_did_hangs_under_its_dispatch() -> None:
    first = {"agent_id": "alpha", "attempt": 1, "stage": "WORK"}
    second = {"agent_id": "beta", "attempt": 2, "stage": "WORK"}
    lines = shown(
        [
            row(0, "SUBMITTED", detail="[bold]how many?[/bold]"),
            row(1, "DISPATCHED", **first, reason="ROUTED", intent="counting", confidence=0.9, detail="SINGLE"),
            row(2, "DISPATCHED", **second, reason="CASCADE", intent="counting", confidence=0.9, detail="SINGLE"),
            row(3, "FAILED", **first, reason="INTERNAL", confidence=0.9, detail="broke"),
            row(4, "CASCADED", agent_id="alpha", reason="FAILED"),
            row(5, "COMPLETED", **second, confidence=0.8, detail="42\x1b[31m"),
            row(6, "RESULT", status="COMPLETED", agent_id="beta", reason="ANSWERED", confidence=0.8, detail="42"),
        ]
    )
    assert lines[0] == "task t-1  tenant acme  COMPLETED (ANSWERED) after 6.0 ms"
    assert "SUBMITTED  [bold]how many?[/bold]" in lines[1]
    assert lines[2].startswith("├──")
    assert "DISPATCHED  ROUTED  alpha  counting 0.9  band SINGLE" in lines[2]
    assert lines[3].startswith("│   └──")
    assert "FAILED  INTERNAL  broke" in lines[3]
    assert "DISPATCHED  CASCADE  beta" in lines[4]
    assert "attempt 2" in lines[4]
    assert "COMPLETED  confidence 0.8  42\\x1b[31m" in lines[5]
    assert lines[6].startswith("├──")
    assert "CASCADED  FAILED  alpha" in lines[6]
    assert lines[7].startswith("└──")
    assert "RESULT  COMPLETED  ANSWERED  beta  confidence 0.8  42" in lines[7]


def test_a_task_without_result_says_so() -> None:
    assert shown([row(0, "SUBMITTED", detail="x")])[0] == "task t-1  tenant acme  no result yet"


def test_an_outcome_whose_dispatch_the_history_lacks_is_shown_all_the_same() -> None:
    lines = shown([row(0, "SUBMITTED"), row(1, "COMPLETED", agent_id="alpha", attempt=1, stage="WORK", detail="42")])
    assert "COMPLETED" in lines[2]
    assert "42" in lines[2]
