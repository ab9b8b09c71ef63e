"""`pointsman schemas list` and `show`: the shapes of what goes in and out, for editors and for producers.

I/O: stdout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from console.cli.failures import NotFoundError
from console.cli.output import Format, Output, Row
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from schemas.records import AVRO
from schemas.registry import FileRegistry
from schemas.topology_schema import topology_schema

TOPOLOGY = "topology"
COLUMNS = ("name", "kind", "id", "version")


def list_schemas(*, form: Format, out: Output) -> None:
    """Prints which schemas there are."""
    out.records(_rows(), COLUMNS, form)


def show_schema(name: str, *, out: Output) -> None:
    """Prints one schema, as JSON. Raises NotFoundError."""
    names = [str(row["name"]) for row in _rows()]
    if name not in names:
        raise NotFoundError(f"There is no schema {name}{suggest(name, names)}", code=ErrorCode.NO_SCHEMA)
    out.json(_schema(name))


def _rows() -> list[Row]:
    """The topology's, then the newest schema of each record, with the id that its frame carries."""
    newest = {entry.subject.rpartition(".")[2]: entry for entry in FileRegistry.load().entries}
    records = [
        {"name": path.stem, "kind": "Avro", "id": newest[path.stem].id, "version": newest[path.stem].version}
        for path in sorted(AVRO.glob("*.avsc"))
    ]
    return [{"name": TOPOLOGY, "kind": "JSON Schema", "id": None, "version": None}, *records]


def _schema(name: str) -> Mapping[str, object]:
    if name == TOPOLOGY:
        return topology_schema()
    document: Mapping[str, object] = json.loads((AVRO / f"{name}.avsc").read_text("utf-8"))
    return document
