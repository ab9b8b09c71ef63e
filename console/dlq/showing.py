"""`pointsman dlq show`: all that one dead letter says, what its reason means, and whether it could go back.

I/O: Kafka, stdout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.output import Format, Output, Row, dumps
from console.dlq.bodies import Body, Broken, schema_id_of
from console.dlq.opened import opened
from console.dlq.rows import row_of, text_of, time_of
from console.dlq.selection import id_of, no_letter
from console.explained.table import table
from schemas.deadletter import carried_headers
from schemas.redrive import Redriven, Refusal, Rules
from streams.transport.dead_topic import Letter

HEX_BYTES_SHOWN = 256
BYTES_A_LINE = 16
TEXT_CHARS_SHOWN = 2_000
JSON_STARTS = (b"{", b"[", b'"')


def show_letter(deployment: Deployment, text: str, *, form: Format, out: Output) -> ExitCode:
    """Prints the letter `partition:offset`. Raises UsageError, NotFoundError, UnreachableError."""
    partition, offset = id_of(text)
    limits, topics = deployment.topology.limits, deployment.topology.topics()
    with opened(deployment) as dead:
        letter = dead.topic.letter(partition, offset)
        if letter is None:
            raise no_letter(text, dead.topic.name)
        redrives = dead.topic.markers({partition: offset}).of(letter)
        [body] = dead.bodies.read([letter])
        broken = dead.bodies.broken(letter) if body.fields is None else None
    refusal = Rules.of(topics, limits.redrives_max).refusal(letter.said, is_redriven=bool(redrives))
    if refusal is None and body.fault is not None:
        refusal = Refusal.STILL_INVALID, f"it would be put away again: {body.fault.reason}, {body.fault.detail}"
    row = _row(letter, body, broken, redrives, refusal)
    if form is not Format.TABLE:
        out.json(row) if form is Format.JSON else out.json_line(row)
        return ExitCode.OK
    out.table(("", f"dead letter {letter.id}"), list(_told(row, letter, body, broken)))
    for line in _value_lines(letter, body, broken):
        out.line(line)
    return ExitCode.OK


def _row(
    letter: Letter, body: Body, broken: Broken | None, redrives: Sequence[Redriven], refusal: tuple[Refusal, str] | None
) -> Row:
    explained = table().get(letter.said.reason)
    return {
        **row_of(letter, body, redrives),
        "means": explained.means if explained else None,
        "do": (explained.do or None) if explained else None,
        "headers": [
            {"name": name, "value": None if value is None else text_of(value)} for name, value in letter.headers
        ],
        "key_bytes": letter.key,
        "value_bytes": letter.value,
        "record": body.record,
        "schema_id": schema_id_of(letter.value),
        "decoded": body.fields if body.fields is not None else (broken.fields if broken else None),
        "stopped_in": broken.stopped_in if broken else None,
        "stopped_at": broken.stopped_at if broken and broken.stopped_in else None,
        "refusal": str(refusal[0]) if refusal else None,
        "refusal_why": refusal[1] if refusal else None,
        "went_back": [
            {"at": time_of(each.at_ms), "to_offset": each.to_offset, "changed": each.changed or None}
            for each in redrives
        ],
    }


def _told(row: Row, letter: Letter, body: Body, broken: Broken | None) -> Any:
    """What a person reads first, a line each."""
    if letter.said.origin:
        yield "came from", f"{row['origin_topic']}, partition {row['origin_partition']}, offset {row['origin_offset']}"
        yield "appended there", row["origin_at"]
    else:
        yield "came from", "not said: somebody else wrote it to the dead topic"
    yield "put away", row["at"]
    yield "by", f"{row['component'] or 'unknown'}, time number {row['attempt']}"
    yield "reason", f"{row['reason'] or 'not said'}: {row['detail'] or 'no details'}"
    for name, label in (("means", "which means"), ("do", "what to do")):
        if row[name]:
            yield label, row[name]
    if row["task_id"] is not None:
        yield "task", f"{row['task_id']} of tenant {row['tenant']}"
    yield "key", "none" if letter.key is None else row["key"]
    for name, value in carried_headers(letter.headers):
        yield f"header {name}", None if value is None else text_of(value)
    for each in _list(row["went_back"]):
        changed = f", with another {each['changed']}" if each["changed"] else ""
        yield "redriven", f"{each['at']}, to offset {each['to_offset']} there{changed}"
    if row["refusal"]:
        yield "redrive", f"no, {row['refusal']}: {row['refusal_why']}"
    else:
        yield "redrive", f"`pointsman dlq redrive {letter.id}`: it would be taken today"
    yield "value", _kind(letter, body, broken)


def _list(value: object) -> list[Mapping[str, Any]]:
    return value if isinstance(value, list) else []


def _kind(letter: Letter, body: Body, broken: Broken | None) -> str:
    if letter.value is None:
        return "none"
    size, schema_id = f"{len(letter.value)} bytes", schema_id_of(letter.value)
    framed = f", framed with schema id {schema_id}" if schema_id is not None else ""
    if body.fields is not None:
        return f"{size}{framed}, a {body.record}:"
    if broken is not None and broken.stopped_in is not None:
        return f"{size}{framed}, a {body.record} up to byte {broken.stopped_at}, where {broken.stopped_in} breaks:"
    return f"{size}{framed}, which cannot be read as a {body.record or 'record'}:"


def _value_lines(letter: Letter, body: Body, broken: Broken | None) -> Any:
    fields = body.fields if body.fields is not None else (broken.fields if broken else None)
    if fields:
        yield from dumps(fields, indent=2).splitlines()
    if body.fields is None and letter.value:
        yield from _as_text(letter.value) or dump(letter.value, broken.stopped_at if broken else 0)


def _as_text(value: bytes) -> list[str]:
    """What looks like JSON, as text."""
    if not value.lstrip().startswith(JSON_STARTS):
        return []
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return []
    try:
        return dumps(json.loads(text), indent=2).splitlines()
    except (ValueError, RecursionError):
        return [text[:TEXT_CHARS_SHOWN]]


def dump(value: bytes, around: int = 0) -> Any:
    """Bytes in hex and as ASCII, those around a place where there are many."""
    start = max(0, min(around - HEX_BYTES_SHOWN // 2, len(value) - HEX_BYTES_SHOWN)) // BYTES_A_LINE * BYTES_A_LINE
    end = min(start + HEX_BYTES_SHOWN, len(value))
    if start:
        yield f"... {start} bytes"
    for at in range(start, end, BYTES_A_LINE):
        line = value[at : min(at + BYTES_A_LINE, end)]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in line)  # noqa: PLR2004  printable ASCII
        yield f"{at:08x}  {line.hex(' '):<{BYTES_A_LINE * 3 - 1}}  {text}"
    if end < len(value):
        yield f"... {len(value) - end} bytes"
