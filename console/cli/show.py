"""`pointsman task show`: one task's whole life as a tree.

I/O: ClickHouse, the clock, stdout.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.text import Text
from rich.tree import Tree

from console.cli.failures import NotFoundError, UsageError
from console.cli.history import opened
from console.cli.output import Format, Output, cell
from schemas.codes import ErrorCode
from schemas.settings import Settings
from streams.history.lives import CAUSE, CHILD, REDRIVEN, RESULT, SUBMITTED, VOTE, life

TEXT_CHARS_MAX = 300
POLL_S = 0.25
SECONDS_FROM_S, HOURS_FROM_S = 10, 600
DISPATCHED, CASCADED = "DISPATCHED", "CASCADED"
# Their confidence is that of the intent, echoed.
NOT_ANSWERS = frozenset({"STARTED", "FAILED", "REFUSED"})
OUTCOMES = frozenset({"COMPLETED", "FAILED", "REFUSED"})
AGENT_KINDS = OUTCOMES | {"STARTED", "NOTE"}
OTHERS = frozenset({CAUSE, CHILD})  # rows of other tasks

BLANK_IS_NULL = ("status", "agent_id", "attempt", "stage", "intent", "reason", "detail", "agent_version")

Row = Mapping[str, Any]
Seat = tuple[str, int, str]  # agent, attempt, stage


def show_task(
    settings: Settings, task_id: str, *, tenant: str | None, wait_s: float, form: Format, out: Output
) -> None:
    """Prints it, after at most `wait_s` seconds for its first fact: the store is a moment behind the results.

    Raises NotFoundError, UsageError when several tenants have a task of this id, UnreachableError, QueryError.
    """
    deadline = time.monotonic() + wait_s
    with opened(settings) as history:
        while not (rows := history.timeline(task_id, tenant)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        several = len({row["tenant"] for row in rows}) > 1
        whole = life(history, rows) if rows and not several else rows
    if not rows:
        whose = f" of tenant {tenant}" if tenant else ""
        raise NotFoundError(
            f"The history has no task {task_id!r}{whose}. What was submitted a moment ago arrives within seconds; "
            "`pointsman results` shows the latest ids.",
            code=ErrorCode.NO_TASK,
        )
    tenants = sorted({row["tenant"] for row in rows})
    if len(tenants) > 1:
        text = f"Tenants {', '.join(tenants)} each have a task {task_id!r}: choose one with --tenant."
        raise UsageError(text, code=ErrorCode.SEVERAL_TENANTS)
    if form is Format.TABLE:
        out.tree(tree_of(whole))
    else:
        out.records(map(told, whole), (), form)


def told(row: Row) -> Row:
    """A row for programs: what does not apply is null, and not the empty text or the 0 that the view has for it."""
    blank = [name for name in BLANK_IS_NULL if not row.get(name)]
    return {**row, **dict.fromkeys(blank)}


def tree_of(rows: Sequence[Row]) -> Tree:
    """The life told by `streams.history.lives:life`, or by `task_timeline` alone: each agent's doings hang under its
    dispatch, votes under the result."""
    start = next((row["at"] for row in rows if row["kind"] == SUBMITTED), rows[0]["at"])
    tree = Tree(_headline(rows, start))
    asked: dict[Seat, Tree] = {}
    result = tree
    for row in rows:
        seat = (row["agent_id"], row["attempt"], row["stage"])
        line = _line(row, start)
        if row["kind"] == DISPATCHED:
            asked[seat] = tree.add(line)
        elif row["kind"] in AGENT_KINDS and seat in asked:
            asked[seat].add(line)
        elif row["kind"] == RESULT:
            result = tree.add(line)
        else:
            (result if row["kind"] == VOTE else tree).add(line)
    return tree


def _headline(rows: Sequence[Row], start: datetime) -> Text:
    """What whoever was woken asks first: did it end, how, after how long, at which price."""
    own = [row for row in rows if row["kind"] not in OTHERS]
    first = own[0]
    result = next((row for row in reversed(own) if row["kind"] == RESULT), None)
    text = Text.assemble("task ", (cell(first["task_id"]), "bold"), f"  tenant {cell(first['tenant'])}  ")
    if result is None:
        text.append("no result yet", style="bold")
        waiting = _waiting(own)
        return text.append(f"  {waiting}") if waiting else text
    text.append(f"{result['status']} ({result['reason']}) after {_length(result['at'] - start)}", style="bold")
    attempts = f"{result['attempt']} attempt{'' if result['attempt'] == 1 else 's'}" if result["attempt"] else ""
    return text.append("".join(f"  {each}" for each in (attempts, *_price(result)) if each))


def _waiting(rows: Sequence[Row]) -> str:
    """Whom an open task waits for."""
    ended = {(row["agent_id"], row["attempt"]) for row in rows if row["kind"] in OUTCOMES or row["kind"] == "CASCADED"}
    open_ = [
        row["agent_id"] for row in rows if row["kind"] == DISPATCHED and (row["agent_id"], row["attempt"]) not in ended
    ]
    return f"waiting for {', '.join(open_)}" if open_ else ""


def _line(row: Row, start: datetime) -> Text:
    after = _length(row["at"] - start, sign=True)
    return Text.assemble((f"{after:>12}  ", "dim"), (row["kind"], "bold"), "  ", "  ".join(_facts(row)))


def _length(span: timedelta, *, sign: bool = False) -> str:
    """Milliseconds while they can be read at a glance, then seconds, then hours."""
    seconds = span.total_seconds()
    mark = ("-" if seconds < 0 else "+") if sign else "-" if seconds < 0 else ""
    size = abs(seconds)
    if size < SECONDS_FROM_S:
        return f"{mark}{size * 1000:.1f} ms"
    if size < HOURS_FROM_S:
        return f"{mark}{size:.1f} s"
    minutes, rest = divmod(int(size), 60)
    return f"{mark}{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _facts(row: Row) -> list[str]:
    """What a person wants to know of this row, most important first."""
    kind, detail = row["kind"], _short(row["detail"] or "")
    if kind == SUBMITTED:
        stated = [f"intent {row['intent']}"] if row["intent"] else []
        return [detail, *stated, f"at {cell(row['at'])}"]
    facts = [row["task_id"]] if kind in OTHERS else []
    facts += [row["status"]] if row["status"] else []
    facts += [row["reason"]] if row["reason"] and row["reason"] != kind else []
    facts += [_agent(row)] if row["agent_id"] and (kind not in AGENT_KINDS or row.get("agent_version")) else []
    if kind == DISPATCHED:
        facts += [f"{row['intent']} {cell(row['confidence'])}", f"band {detail}"]
        facts += [f"seat {row['seat']}"] if detail == "PANEL" else []
        facts += [f"attempt {row['attempt']}"] if row["attempt"] > 1 else []
        facts += [row["stage"]] if row["stage"] != "WORK" else []
        return facts
    facts += [f"attempt {row['attempt']}"] if row["attempt"] and kind in (CASCADED, REDRIVEN) else []
    if row["confidence"] is not None and kind not in NOT_ANSWERS:
        facts.append(f"confidence {cell(row['confidence'])}")
    facts += [f"vote {_short(row['vote_key'])}"] if row.get("vote_key") else []
    return [*facts, *_price(row), *([detail] if detail else [])]


def _agent(row: Row) -> str:
    """Who, and which version of it, where that is known."""
    version = row.get("agent_version")
    return f"{row['agent_id']} {cell(version)}" if version else str(row["agent_id"])


def _price(row: Row) -> list[str]:
    tokens, cost = row.get("tokens") or 0, row.get("cost_microusd") or 0
    return [*([f"{tokens} tokens"] if tokens else []), *([f"${cost / 1e6:.6f}".rstrip("0")] if cost else [])]


def _short(detail: str) -> str:
    text = cell(detail)
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 3] + "..."
