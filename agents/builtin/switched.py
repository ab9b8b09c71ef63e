"""Agents whose behaviour is switched while they run: what `pointsman chaos run` asks, and makes slow, wrong or silent.

The switch is a JSON file, read again when it changes: by agent, shares of its tasks from 0 to 1 that fail, hang, are
answered wrongly or with little confidence, and `slow_ms`, waited before each answer. Which tasks are among a share is
decided by their ids, so it is always the same ones. I/O: reads the switch; `book` appends to its journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from agents.builtin.faults import ON_ORDER, Failure, as_rows, share
from agents.contract import AgentFailed, Answer, Context, Task
from schemas.reasons import ErrorClass

LOOK_S = 0.05
HANG_S = 600.0
SURE, UNSURE = 0.92, 0.4
SOURCE = ("the request",)


class Behaviour(NamedTuple):
    """What an agent does to its tasks; by default it answers each."""

    slow_ms: float = 0.0
    fail: float = 0.0
    hang: float = 0.0
    wrong: float = 0.0
    unsure: float = 0.0

    def of(self, agent: str, task_id: str) -> str:
        """`hang`, `fail`, `wrong`, `unsure`, or `answer`."""
        drawn = share(f"{agent}/{task_id}")
        for name in ("hang", "fail", "wrong", "unsure"):
            drawn -= getattr(self, name)
            if drawn < 0:
                return name
        return "answer"


class Switch:
    """The file that says how agents behave. What it does not name behaves well; so does all where it cannot be read."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._looked_at, self._stamp = -LOOK_S, 0
        self._said: Mapping[str, Behaviour] = {}

    def of(self, agent: str) -> Behaviour:
        now = self._clock()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look()
        return self._said.get(agent, Behaviour())

    def _look(self) -> None:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            said: dict[str, dict[str, Any]] = json.loads(self._path.read_text("utf-8"))
            self._said = {name: Behaviour(**fields) for name, fields in said.items()}
        except (OSError, ValueError, TypeError):
            return
        self._stamp = stamp


def write_switch(path: Path, behaviours: Mapping[str, Behaviour]) -> None:
    """Never seen half written."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps({name: behaviour._asdict() for name, behaviour in behaviours.items()}))
    draft.replace(path)


@cache
def _switch(path: str) -> Switch:
    """One for each path of a process."""
    return Switch(Path(path))


def said_by(agent: str, behaviour: Behaviour, task_id: str, text: str) -> Answer | Failure:
    """What it says of a task, but for waiting and hanging."""
    match behaviour.of(agent, task_id):
        case "fail":
            return Failure(ErrorClass.INTERNAL, ON_ORDER)
        case "wrong":
            return Answer(f"{agent} made this up", SURE, vote_key=f"made up by {agent}", citations=SOURCE)
        case "unsure":
            return Answer(text, UNSURE, vote_key=text, citations=SOURCE)
        case _:
            return Answer(text, SURE, vote_key=text, citations=SOURCE)


async def reply(task: Task, context: Context, *, switch: str, name: str) -> Answer:  # noqa: ARG001  as all are called
    """The text of the task, as the switch says for the agent `name`."""
    behaviour = _switch(switch).of(name)
    if behaviour.slow_ms:
        await asyncio.sleep(behaviour.slow_ms / 1000)
    if behaviour.of(name, task.task_id) == "hang":
        await asyncio.sleep(HANG_S)
    said = said_by(name, behaviour, task.task_id, task.text)
    if isinstance(said, Failure):
        raise AgentFailed(said.error, said.error_class)
    return said


def reply_batch(rows: pa.RecordBatch, *, switch: str, name: str) -> pa.RecordBatch:
    """The texts of the tasks, likewise. A batch hangs when one of its tasks would."""
    behaviour = _switch(switch).of(name)
    tasks = list(zip(rows.column("task_id").to_pylist(), rows.column("text").to_pylist(), strict=True))
    hangs = any(behaviour.of(name, task_id) == "hang" for task_id, _ in tasks) if behaviour.hang else False
    time.sleep(HANG_S if hangs else behaviour.slow_ms / 1000)
    if behaviour == Behaviour():
        texts, n = rows.column("text"), rows.num_rows
        columns = [texts, pa.repeat(SURE, n), texts, pa.repeat(pa.scalar(list(SOURCE)), n)]
        return pa.RecordBatch.from_arrays(columns, names=["answer", "confidence", "vote_key", "citations"])
    return as_rows([said_by(name, behaviour, *task) for task in tasks])


async def book(task: Task, context: Context, *, switch: str, name: str, journal: str) -> Answer:
    """What an agent does that writes: each time that it runs, a line in its journal, which is the world here."""
    line = f"{json.dumps([name, task.tenant, task.task_id])}\n".encode()
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    return await reply(task, context, switch=switch, name=name)
