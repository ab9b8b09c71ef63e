"""`pointsman task show`: one task's whole life as a tree.

I/O: ClickHouse, the clock, stdout.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text
from rich.tree import Tree

from console.cli.failures import NotFoundError, UsageError
from console.cli.history import opened
from console.cli.output import Format, Output, cell
from schemas.codes import ErrorCode
from schemas.settings import Settings

TEXT_CHARS_MAX = 300
POLL_S = 0.25
SUBMITTED, DISPATCHED, RESULT = "SUBMITTED", "DISPATCHED", "RESULT"
# Their confidence is that of the intent, echoed.
NOT_ANSWERS = frozenset({"STARTED", "FAILED", "REFUSED"})
AGENT_KINDS = frozenset({"STARTED", "COMPLETED", "FAILED", "REFUSED", "NOTE"})

BLANK_IS_NULL = ("status", "agent_id", "attempt", "stage", "intent", "reason", "detail")

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
        out.tree(tree_of(rows))
    else:
        out.records(map(told, rows), (), form)


def told(row: Row) -> Row:
    """A row for programs: what does not apply is null, and not the empty text or the 0 that the view has for it."""
    blank = [name for name in BLANK_IS_NULL if not row[name]]
    return {**row, **dict.fromkeys(blank)}


def tree_of(rows: Sequence[Row]) -> Tree:
    """The life told by the rows of `task_timeline`, in their order: each agent's doings hang under its dispatch."""
    start = rows[0]["at"]
    tree = Tree(_headline(rows, start))
    asked: dict[Seat, Tree] = {}
    for row in rows:
        seat = (row["agent_id"], row["attempt"], row["stage"])
        if row["kind"] == DISPATCHED:
            asked[seat] = tree.add(_line(row, start))
        elif row["kind"] in AGENT_KINDS and seat in asked:
            asked[seat].add(_line(row, start))
        else:
            tree.add(_line(row, start))
    return tree


def _headline(rows: Sequence[Row], start: datetime) -> Text:
    first, last = rows[0], rows[-1]
    text = Text.assemble("task ", (cell(first["task_id"]), "bold"), f"  tenant {cell(first['tenant'])}  ")
    if last["kind"] == RESULT:
        after = (last["at"] - start).total_seconds() * 1000
        text.append(f"{last['status']} ({last['reason']}) after {after:.1f} ms", style="bold")
    else:
        text.append("no result yet", style="bold")
    return text


def _line(row: Row, start: datetime) -> Text:
    after = f"+{(row['at'] - start).total_seconds() * 1000:.1f} ms"
    return Text.assemble((f"{after:>12}  ", "dim"), (row["kind"], "bold"), "  ", "  ".join(_facts(row)))


def _facts(row: Row) -> list[str]:
    """What a person wants to know of this row, most important first."""
    kind, detail = row["kind"], _short(row["detail"])
    if kind == SUBMITTED:
        stated = [f"intent {row['intent']}"] if row["intent"] else []
        return [detail, *stated, f"at {cell(row['at'])}"]
    facts = [row["status"]] if row["status"] else []
    facts += [row["reason"]] if row["reason"] not in ("", kind) else []
    facts += [row["agent_id"]] if row["agent_id"] and kind not in AGENT_KINDS else []
    if kind == DISPATCHED:
        facts += [f"{row['intent']} {cell(row['confidence'])}", f"band {detail}"]
        facts += [f"attempt {row['attempt']}"] if row["attempt"] > 1 else []
        facts += [row["stage"]] if row["stage"] != "WORK" else []
        return facts
    if row["confidence"] is not None and kind not in NOT_ANSWERS:
        facts.append(f"confidence {cell(row['confidence'])}")
    return [*facts, detail] if detail else facts


def _short(detail: str) -> str:
    text = cell(detail)
    return text if len(text) <= TEXT_CHARS_MAX else text[: TEXT_CHARS_MAX - 3] + "..."
