"""What a record on the dead topic says of itself: where it came from and why it could not be taken.

Its key and value are the original bytes, untouched; everything else travels in headers, so that it can be redriven by
producing key and value to the topic of its origin again. The record's own headers stay beside ours. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

TOPIC = "pointsman.origin.topic"
PARTITION = "pointsman.origin.partition"
OFFSET = "pointsman.origin.offset"
APPENDED_MS = "pointsman.origin.appended_ms"
REASON = "pointsman.reason"
DETAIL = "pointsman.detail"
COMPONENT = "pointsman.component"
ATTEMPT = "pointsman.attempt"
LEFT_OUT = "pointsman.left_out"

OURS = "pointsman."
"""What the names of all our headers begin with: of a dead letter's headers, the others are the record's own."""

DETAIL_CHARS_MAX = 500
# A broker takes records of about a MiB, headers included. A batch that was compressed may hold larger ones: those are
# left at their origin, and the dead letter says so.
VALUE_BYTES_MAX = 900_000
KEY_BYTES_MAX = 32_768
HEADERS_BYTES_MAX = 32_768

Headers = list[tuple[str, bytes | None]]


class Origin(NamedTuple):
    """Where the record stood; `appended_ms` is the broker's append time, -1 where there was none."""

    topic: str
    partition: int
    offset: int
    appended_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What the headers say. `origin` is None where they do not name one: somebody else wrote the record.

    `attempt` counts how often the record was put away, from 1; `left_out` names what stayed at the origin.
    """

    origin: Origin | None
    reason: str = ""
    detail: str = ""
    component: str = ""
    attempt: int = 1
    left_out: frozenset[str] = frozenset()


class Burial(NamedTuple):
    """What is put on the dead topic."""

    value: bytes | None
    key: bytes | None
    headers: Headers


def burial(
    value: bytes | None,
    key: bytes | None,
    origin: Origin,
    reason: str,
    detail: str,
    component: str,
    own: Iterable[tuple[str, bytes | None]] = (),
) -> Burial:
    """The dead letter of a record; what is too large for a record with headers is left out.

    `own` are the record's headers. One that was redriven says in them how often it was put away before.
    """
    carried, attempt = carried_headers(own), attempts_of(own) + 1
    headers_size = sum(len(name) + len(told or b"") for name, told in carried)
    parts = (
        ("value", len(value or b""), VALUE_BYTES_MAX),
        ("key", len(key or b""), KEY_BYTES_MAX),
        ("headers", headers_size, HEADERS_BYTES_MAX),
    )
    over = {name: f"{name} of {size} bytes left at its origin" for name, size, most in parts if size > most}
    told = "; ".join((detail[: DETAIL_CHARS_MAX // 2], *over.values())) if over else detail
    left_out = [(LEFT_OUT, ",".join(over).encode())] if over else []
    return Burial(
        None if "value" in over else value,
        None if "key" in over else key,
        [
            *headers(origin, reason, told, component, attempt),
            *left_out,
            *([] if "headers" in over else carried),
        ],
    )


def carried_headers(own: Iterable[tuple[str, bytes | None]]) -> Headers:
    """Of a record's headers those that are not ours."""
    return [(name, value) for name, value in own if not name.startswith(OURS)]


def attempts_of(own: Iterable[tuple[str, bytes | None]]) -> int:
    """How often a record was put away before, as its headers say; 0 where they do not say."""
    counts = [_number((value or b"").decode("ascii", "replace")) for name, value in own if name == ATTEMPT]
    return max(counts[-1] or 0, 0) if counts else 0


def headers(origin: Origin, reason: str, detail: str, component: str, attempt: int = 1) -> Headers:
    """Headers of a dead letter. `reason` is a DeadReason, `detail` never quotes the record, `attempt` counts from 1."""
    texts = (
        (TOPIC, origin.topic),
        (PARTITION, str(origin.partition)),
        (OFFSET, str(origin.offset)),
        (APPENDED_MS, str(origin.appended_ms)),
        (REASON, str(reason)),
        (DETAIL, detail[:DETAIL_CHARS_MAX]),
        (COMPONENT, component),
        (ATTEMPT, str(attempt)),
    )
    return [(name, text.encode("utf-8", "replace")) for name, text in texts]


def parse(given: Iterable[tuple[str, bytes | None]]) -> DeadLetter:
    """What the headers say; never raises, for anybody can write to the topic. The last of equal names counts."""
    texts = texts_of(given)
    attempt = _number(texts.get(ATTEMPT))
    return DeadLetter(
        origin_of(texts),
        texts.get(REASON, ""),
        texts.get(DETAIL, ""),
        texts.get(COMPONENT, ""),
        1 if attempt is None else attempt,
        frozenset(filter(None, texts.get(LEFT_OUT, "").split(","))),
    )


def texts_of(given: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers by name, as text; the last of equal names counts."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in given}


def origin_of(texts: Mapping[str, str]) -> Origin | None:
    """The place that headers name; None where they name none."""
    partition, offset = (_number(texts.get(name)) for name in (PARTITION, OFFSET))
    if not texts.get(TOPIC) or partition is None or offset is None:
        return None
    appended_ms = _number(texts.get(APPENDED_MS))
    return Origin(texts[TOPIC], partition, offset, -1 if appended_ms is None else appended_ms)


def number_of(texts: Mapping[str, str], name: str) -> int | None:
    """A header that is a whole number of 64 bits, else None."""
    return _number(texts.get(name))


def _number(text: str | None) -> int | None:
    """A whole number that fits 64 bits, else None."""
    if text is None or not text.removeprefix("-").isdecimal() or len(text) > len(str(-(2**63))):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
