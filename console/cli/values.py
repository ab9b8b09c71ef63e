"""How one value is written: on one line for a person, in JSON's own types for a program.

I/O: none.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

# What a terminal obeys instead of showing it, or shows as nothing: control characters, marks that turn the reading
# direction of their neighbours, blanks without width, tags, halves of characters. Answers and labels come from
# strangers. Joiners stay, for emoji and several scripts are written with them; so do tab and line feed.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
UTF_8 = "utf-8"
# From here on a number loses its decimals rather than the end of its whole part.
WHOLE_FROM, EXPONENT_FROM = 1000, 1e15


def printable(text: str, encoding: str = UTF_8) -> str:
    """`text` with everything spelt out that would be obeyed, or that `encoding` lacks; tab and line feed stay."""
    return encodable(_HIDDEN.sub(_spelt, text), encoding)


def encodable(text: str, encoding: str) -> str:
    """`text` with what `encoding` cannot carry spelt out."""
    return text.encode(encoding, "backslashreplace").decode(encoding, "replace")


def _spelt(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x80 else found[0].encode("ascii", "backslashreplace").decode("ascii")  # noqa: PLR2004  what ASCII has


def cell(value: object) -> str:
    """One value as a person reads it, on one line. Numbers are rounded: JSON has them whole."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return _rounded(value)
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, bytes):
        return repr(value)[2:-1]
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={cell(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(inner) for inner in value) or "-"
    return printable(str(value)).replace("\n", "\\n").replace("\t", " ")


def _rounded(value: float) -> str:
    if WHOLE_FROM <= abs(value) < EXPONENT_FROM:
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:.4g}"


def jsonable(value: object) -> object:
    """`value` in JSON's own types: RFC 3339 UTC times, base64 bytes, null for what JSON has no number for.

    Integers stay numbers however large; decimals and whatever else JSON has no type for become text.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        # Always six digits, so that times sort as text.
        return aware.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


def dumps(value: object, *, indent: int | None = None, encoding: str = UTF_8) -> str:
    """`value` as JSON that `encoding` carries, exact in each: what it lacks is escaped as JSON does it."""
    is_wide = encoding.lower().replace("_", "-").startswith("utf")
    text = json.dumps(jsonable(value), ensure_ascii=not is_wide, allow_nan=False, indent=indent)
    return _HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], text)
