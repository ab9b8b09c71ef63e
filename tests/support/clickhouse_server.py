"""A ClickHouse of somebody else's: the embedded engine behind a door with a user and a password, in its own process.

I/O: processes, a loopback socket.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import PATIENCE

USER, PASSWORD = "keeper", "not-a-secret"
SCRIPT = """
import sys
from pathlib import Path
from streams.history.door import Door
from streams.history.engine import Engine

folder, user, password = sys.argv[1:]
door = Door(Engine(Path(folder)), 0, user, password)
print(door.url, flush=True)
sys.stdin.read()
door.close()
"""


@contextmanager
def clickhouse_server(folder: Path) -> Iterator[str]:
    """Its URL; USER may ask with PASSWORD."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), USER, PASSWORD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE * 20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
