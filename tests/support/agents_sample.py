"""Agents for tests of the host; what they are called with is written down."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict
from pathlib import Path

import pyarrow as pa

from agents.contract import AgentFailed, AgentOverloaded, AgentRefused, AgentWrongInput, Answer, Context, Task
from agents.memory.model import ToolCall
from schemas.settings import Settings
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer

CALLS: dict[str, list[str]] = defaultdict(list)  # by `log` option: the ids of the tasks, as their calls began
RUNNING: dict[str, list[int]] = defaultdict(list)  # by `log` option: how many ran as each call began
_now: dict[str, int] = defaultdict(int)
_lock = threading.Lock()


def _begin(log: str, task_id: str) -> None:
    with _lock:
        _now[log] += 1
        CALLS[log].append(task_id)
        RUNNING[log].append(_now[log])
        if "BENCH_CALLS" in os.environ:
            with Path(os.environ["BENCH_CALLS"]).open("a", encoding="utf-8") as file:
                file.write(f"{log} {task_id}\n")


def _end(log: str) -> None:
    with _lock:
        _now[log] -= 1


async def slow(task: Task, context: Context, log: str, wait_ms: int = 0) -> Answer:
    """Waits, then repeats the text."""
    _begin(log, task.task_id)
    try:
        await asyncio.sleep(wait_ms / 1000)
    finally:
        _end(log)
    return Answer(task.text, 0.9, payload={"earlier": [i.asked for i in context.interactions]})


async def remembering(task: Task, context: Context) -> Answer:
    """Says what it is shown; every third time there is something to remember."""
    facts = (f"{task.text} is settled.",) if task.text.endswith(("0", "3", "6", "9")) else ()
    called = (ToolCall("1", "look_up", task.text, f"found {task.text}"),)
    shown = {"hash": context.hash, "text": context.text, "facts": list(context.facts)}
    return Answer(f"Noted: {task.text}.", 0.9, payload=shown, facts=facts, tool_calls=called)


def remembering_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """As `remembering`, for rows."""
    shown = rows.column("context").to_pylist()
    return pa.RecordBatch.from_pydict({"answer": rows.column("text"), "payload": shown})


def slow_plain(task: Task, context: Context, log: str, wait_ms: int = 0) -> Answer:
    """As `slow`, in a thread."""
    _begin(log, task.task_id)
    try:
        time.sleep(wait_ms / 1000)
    finally:
        _end(log)
    return Answer(task.text, 0.9)


def witness(task: Task, context: Context, broker: str, topic: str) -> Answer:
    """Answers with how many events its log holds in partition 0 at the time of its call."""
    source = BatchConsumer(
        client_config(Settings(broker=broker), None, "consumer"), str, rows_max=1, bytes_max=1, poll_s=0.1
    )
    try:
        (held,) = (high for _, high in source.watermarks([(topic, 0)]).values())
    finally:
        source.close()
    return Answer(str(held), 0.9)


async def stubborn(task: Task, context: Context) -> Answer:
    """Does not heed its cancellation."""
    for _ in range(20):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue
    return Answer("late")


async def moody(task: Task, context: Context) -> object:  # noqa: C901, PLR0912  a table of everything that can go wrong
    """Does what its task says."""
    match task.text:
        case "fail":
            raise AgentFailed("broken", "UNREACHABLE")
        case "overloaded":
            raise AgentOverloaded("later")
        case "wrong":
            raise AgentWrongInput("no sense in it")
        case "refuse":
            raise AgentRefused("I will not")
        case "bug":
            return task.labels["missing"]
        case "exit":
            raise SystemExit(3)
        case "cancel":
            raise asyncio.CancelledError
        case "number":
            return Answer(5)  # type: ignore[arg-type]
        case "sure":
            return Answer("x", "very")  # type: ignore[arg-type]
        case "nan":
            return Answer("x", float("nan"))
        case "surrogate":
            return Answer("\ud800")
        case "nothing":
            return None
        case "huge":
            return Answer("x" * 300_000)
        case "surrogate error":
            raise ValueError("\ud800" * 600)
        case _:
            return Answer("fine", 0.8, "key", {"n": 1}, ("a", "b"), ("f",), 3, 4, 5)


def upper(rows: pa.RecordBatch, log: str = "") -> pa.RecordBatch:
    """Upper case; rows that say "fail" or "refuse" do so; one that says "crash" costs all of them."""
    texts = rows.column("text").to_pylist()
    for task_id in rows.column("task_id").to_pylist():
        CALLS[log].append(task_id)
    CALLS[f"{log} rows"].append(str(len(texts)))
    if "crash" in texts:
        raise RuntimeError("crashed")
    classes = {"fail": "QUOTA", "refuse": "REFUSED"}
    return pa.RecordBatch.from_arrays(
        [
            pa.array([None if text in classes or text == "silent" else text.upper() for text in texts]),
            pa.array([classes.get(text) for text in texts], pa.string()),
        ],
        names=["answer", "error_class"],
    )
