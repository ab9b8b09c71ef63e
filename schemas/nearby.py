"""Where the `pointsman dev` of this folder answers: what it left in its data directory while it serves.

I/O: two small files.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

# Where `dev` keeps its data unless it is told otherwise; another directory is another's affair.
DIRECTORY = Path(".pointsman")
# Held by `dev` and all that it started, until the last of them is gone, however it ended.
LOCK = "lock"
FILE = "serving.json"
NAMES = frozenset({"broker", "clickhouse"})


def serving(directory: Path = DIRECTORY) -> dict[str, str]:
    """Settings by name, as `console.local.nearby` left them; empty where nobody serves there now."""
    try:
        told = json.loads((directory / FILE).read_text())
        if not isinstance(told, dict) or not is_held(directory / LOCK):
            return {}
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in told.items() if name in NAMES and isinstance(value, str)}


def is_held(lock: Path) -> bool:
    """Whether somebody has the lock now. Raises OSError where there is none."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
