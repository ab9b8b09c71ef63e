"""What programs say on stderr, in the host's log, and no more of it than a log can bear.

It is not looked into: whether it carries texts of tasks is the program's own affair. I/O: the log.
"""

from __future__ import annotations

import asyncio
import time

from streams.transport.telemetry import get_logger

log = get_logger("pointsman.agent")

LINE_BYTES_MAX = 500
LINES_MAX, WINDOW_S = 50, 10.0  # of one program
CHUNK_BYTES = 65_536


class Quota:
    """Lets LINES_MAX lines pass in each WINDOW_S; counts the others."""

    def __init__(self) -> None:
        self._ends_at, self._passed, self._left_out = 0.0, 0, 0

    def take(self, now_s: float) -> tuple[bool, int]:
        """Whether a line may pass, and how many were left out in the window before, where a new one begins."""
        left_out = 0
        if now_s >= self._ends_at:
            left_out, self._left_out = self._left_out, 0
            self._ends_at, self._passed = now_s + WINDOW_S, 0
        passes = self._passed < LINES_MAX
        self._passed += passes
        self._left_out += not passes
        return passes, left_out

    def rest(self) -> int:
        """Left out and not told yet."""
        left_out, self._left_out = self._left_out, 0
        return left_out


async def log_lines(stderr: asyncio.StreamReader, agent_id: str) -> None:
    """Until it ends."""
    quota, rest = Quota(), b""
    while chunk := await stderr.read(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[: LINE_BYTES_MAX + 1]  # of a line without end only its beginning is kept
        for line in lines:
            _say(quota, agent_id, line)
    if rest:
        _say(quota, agent_id, rest)
    _own_up(agent_id, quota.rest())


def _say(quota: Quota, agent_id: str, line: bytes) -> None:
    passes, left_out = quota.take(time.monotonic())
    _own_up(agent_id, left_out)
    if passes and line.strip():
        cut = {"cut": True} if len(line) > LINE_BYTES_MAX else {}
        log.info("said by an agent", agent=agent_id, line=line[:LINE_BYTES_MAX].decode(errors="replace"), **cut)


def _own_up(agent_id: str, left_out: int) -> None:
    if left_out:
        log.info("an agent says too much", agent=agent_id, lines_left_out=left_out)
