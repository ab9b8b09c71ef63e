"""The embedded ClickHouse behind its door, and the history's tables in it, empty: for tests of what is asked of them.

I/O: a socket on loopback, and what the engine does in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.migrations import migrate
from streams.history.queries import connect


@contextmanager
def opened() -> Iterator[Door]:
    """An engine of its own, without a folder, on a free port."""
    with closing(Engine(None)) as engine, closing(Door(engine, 0)) as door:
        yield door


@contextmanager
def migrated(door: Door, *, merging: bool = True) -> Iterator[Any]:
    """A client of tables that hold nothing. Without merging nothing folds but what reads."""
    with closing(connect(door.url)) as client:
        client.command("DROP DATABASE IF EXISTS pointsman")
        migrate(client)
        if not merging:
            client.command("SYSTEM STOP MERGES")
        yield client
        if not merging:
            client.command("SYSTEM START MERGES")
