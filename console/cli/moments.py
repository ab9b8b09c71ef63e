"""Times and lengths of time as people write them in flags.

I/O: none.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from console.cli.failures import UsageError
from schemas.codes import ErrorCode

_AGO = re.compile(r"(\d+)\s*(ms|s|min|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def moment_ms(text: str | None, flag: str, now_ms: int) -> int | None:
    """A time: `2h` ago, or RFC 3339; without a zone it is that of this machine. Raises UsageError."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return now_ms - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        return int(datetime.fromisoformat(text.strip()).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        text = f"{flag} {text}: must be a time such as 2026-03-01T12:00:00Z, or how long ago, such as 30m, 2h or 1d"
        raise UsageError(text, code=ErrorCode.FLAG_VALUE) from None


def length_ms(text: str, flag: str) -> int:
    """A length of time, such as `30s`. Raises UsageError."""
    found = _AGO.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{flag} {text}: must be a length of time, such as 30s, 10m or 2h", code=ErrorCode.FLAG_VALUE)
    return int(found[1]) * _UNIT_MS[found[2]]
