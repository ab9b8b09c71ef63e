"""Processes of the product that break one promise each, so that a check can show that it notices.

`python -m tests.support.sabotaged store|worker|host ...` runs the command with its process sabotaged: the store drops
one block and commits past it, the worker writes a result twice, the host runs an agent that writes twice.
I/O: through the command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from agents.builtin import switched
from agents.contract import Answer, Context, Task
from console.cli.main import main
from streams.history.loader import Loader, Rows
from streams.transport.turn_producer import TurnProducer

RESULTS = "tasks.results.v1"
BLOCK = 2  # the first one may be a few records of a start


def sabotage_store() -> None:
    load, calls = Loader.load, [0]

    def drops_a_block(loader: Loader, rows: Sequence[Rows]) -> None:
        tasks = any(each.table == "results_log" for each in rows)
        calls[0] += tasks
        if not tasks or calls[0] != BLOCK:
            load(loader, rows)

    Loader.load = drops_a_block  # type: ignore[method-assign,assignment]


def sabotage_worker() -> None:
    send, done = TurnProducer.send, [False]

    def sends_twice(producer: TurnProducer, topic: str, partition: int, values: Any, keys: Any = None) -> None:
        send(producer, topic, partition, values, keys)
        if topic.endswith(RESULTS) and not done[0]:
            done[0] = True
            send(producer, topic, partition, values[:1], None if keys is None else keys[:1])

    TurnProducer.send = sends_twice  # type: ignore[method-assign,assignment]


def sabotage_host() -> None:
    book = switched.book

    async def books_twice(task: Task, context: Context, *, switch: str, name: str, journal: str) -> Answer:
        await book(task, context, switch=switch, name=name, journal=journal)
        return await book(task, context, switch=switch, name=name, journal=journal)

    switched.book = books_twice


if __name__ == "__main__":
    {"store": sabotage_store, "worker": sabotage_worker, "host": sabotage_host}[sys.argv[1]]()
    sys.exit(main())
