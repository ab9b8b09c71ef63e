"""`pointsman schemas push`: the task's schemas in the producers' own registry, shown or registered.

I/O: HTTP, stdout, stderr.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, UsageError
from console.cli.output import Format, Output, Row
from schemas.codec import plan
from schemas.codes import ErrorCode
from schemas.definitions import UnsupportedSchemaError, expand
from schemas.records import AVRO, record
from schemas.registry import Entry, FileRegistry
from streams.transport.foreign_ids import RECORD, parsed, refuse_ambiguous, subjects_of
from streams.transport.registry_client import IncompatibleSchemaError, RegistryClient

COLUMNS = ("subject", "version", "id", "state", "why")
OF_THE_FILE = ("registered", "missing", "added", "refused")


def push_schemas(deployment: Deployment, subject: str | None, *, dry_run: bool, form: Format, out: Output) -> ExitCode:
    """Registers every version of the task that the subject lacks, the oldest first, and prints what stands there.

    INVALID where the registry refuses one, or holds one that cannot be read as a task. Raises UsageError where no
    registry is set, UnreachableError, and ConfigurationError as the worker would at start.
    """
    settings = deployment.settings
    if not settings.schema_registry:
        text = "No schema registry is named. Set POINTSMAN_SCHEMA_REGISTRY=http://HOST:PORT."
        raise UsageError(text, code=ErrorCode.NO_REGISTRY_NAMED)
    client, file = RegistryClient.of(settings), FileRegistry.load()
    try:
        entries = file.versions(record(RECORD).subject)
        refuse_ambiguous(client, entries)
        where = subject or subjects_of(deployment.topology.topics())[0]
        rows = [*_rows(client, where, entries, dry_run=dry_run)]
    finally:
        client.close()
    out.records(rows, COLUMNS, form)
    counts = [f"{sum(row['state'] == state for row in rows)} {state}" for state in OF_THE_FILE]
    out.note(f"{settings.schema_registry}: {', '.join(each for each in counts if not each.startswith('0 '))}")
    return ExitCode.INVALID if any(row["state"] in ("refused", "unreadable") for row in rows) else ExitCode.OK


def _rows(client: RegistryClient, subject: str, entries: Sequence[Entry], *, dry_run: bool) -> Iterator[Row]:
    there = [found for each in client.versions(subject) if (found := client.version(subject, each)) is not None]
    ours = [expand(entry.definition) for entry in entries]
    for schema_id, text in there:
        if parsed(text) not in ours:
            why = _unreadable(text)
            yield _row(subject, None, schema_id, "unreadable" if why else "readable", why)
    for entry, definition in zip(entries, ours, strict=True):
        same = [schema_id for schema_id, text in there if parsed(text) == definition]
        for schema_id in same:
            yield _row(subject, entry.version, schema_id, "registered")
        if not same:
            yield _row(subject, entry.version, None, "missing") if dry_run else _added(client, subject, entry)


def _added(client: RegistryClient, subject: str, entry: Entry) -> Row:
    # Today's with its docs: for people, and as a producer that took the file will ask for it.
    document = json.loads((AVRO / f"{RECORD}.avsc").read_text("utf-8"))
    text = json.dumps(document) if parsed(json.dumps(document)) == expand(entry.definition) else entry.text
    try:
        return _row(subject, entry.version, client.register(subject, text), "added")
    except IncompatibleSchemaError as error:
        return _row(subject, entry.version, None, "refused", str(error))


def _unreadable(text: str) -> str | None:
    try:
        plan(text, record(RECORD))
    except UnsupportedSchemaError as error:
        return str(error)
    return None


def _row(subject: str, version: int | None, schema_id: int | None, state: str, why: str | None = None) -> Row:
    return {"subject": subject, "version": version, "id": schema_id, "state": state, "why": why}
