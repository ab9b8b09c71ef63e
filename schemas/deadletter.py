"""What a record on the dead topic says of itself: where it came from and why it could not be taken.

Its key and value are the original bytes, untouched; everything else travels in headers, so that it can be redriven by
producing key and value to the topic of its origin again. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable
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

DETAIL_CHARS_MAX = 500
# A broker takes records of about a MiB, headers included. A batch that was compressed may hold larger ones: those are
# left at their origin, and the dead letter says so.
VALUE_BYTES_MAX = 900_000
KEY_BYTES_MAX = 32_768


class Origin(NamedTuple):
    """Where the record stood; `appended_ms` is the broker's append time, -1 where there was none."""

    topic: str
    partition: int
    offset: int
    appended_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What the headers say. `origin` is None where they do not name one: somebody else wrote the record."""

    origin: Origin | None
    reason: str = ""
    detail: str = ""
    component: str = ""
    attempt: int = 1


class Burial(NamedTuple):
    """What is put on the dead topic."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, bytes | None]]


def burial(
    value: bytes | None, key: bytes | None, origin: Origin, reason: str, detail: str, component: str, attempt: int = 1
) -> Burial:
    """The dead letter of a record; a value or key that is too large for a record with headers is left out."""
    parts = (("value", value, VALUE_BYTES_MAX), ("key", key, KEY_BYTES_MAX))
    left_out = [
        f"{name} of {len(part or b'')} bytes left at its origin" for name, part, most in parts if _is_over(part, most)
    ]
    told = "; ".join((detail[: DETAIL_CHARS_MAX // 2], *left_out)) if left_out else detail
    return Burial(
        None if _is_over(value, VALUE_BYTES_MAX) else value,
        None if _is_over(key, KEY_BYTES_MAX) else key,
        headers(origin, reason, told, component, attempt),
    )


def _is_over(part: bytes | None, bytes_max: int) -> bool:
    return part is not None and len(part) > bytes_max


def headers(
    origin: Origin, reason: str, detail: str, component: str, attempt: int = 1
) -> list[tuple[str, bytes | None]]:
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
    texts = {name: (value or b"").decode("utf-8", "replace") for name, value in given}
    place = [_number(texts.get(name)) for name in (PARTITION, OFFSET)]
    origin = None
    if texts.get(TOPIC) and None not in place:
        partition, offset = (number for number in place if number is not None)
        appended_ms = _number(texts.get(APPENDED_MS))
        origin = Origin(texts[TOPIC], partition, offset, -1 if appended_ms is None else appended_ms)
    attempt = _number(texts.get(ATTEMPT))
    return DeadLetter(
        origin,
        texts.get(REASON, ""),
        texts.get(DETAIL, ""),
        texts.get(COMPONENT, ""),
        1 if attempt is None else attempt,
    )


def _number(text: str | None) -> int | None:
    """A whole number that fits 64 bits, else None."""
    if text is None or not text.removeprefix("-").isdecimal() or len(text) > len(str(-(2**63))):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
