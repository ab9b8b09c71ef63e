"""Which schema a schema id means: a file that only grows, behind the interface that a Confluent registry also has.

`python -m schemas.registry add` appends what `avro/*.avsc` has gained. I/O: reads registry.json; `add` rewrites it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from schemas.codes import ErrorCode
from schemas.definitions import Definition, UnsupportedSchemaError, collapse, compact, expand, parse
from schemas.errors import ConfigurationError, UnknownSchemaError
from schemas.records import NAMESPACE, RECORDS, record

REGISTRY = Path(__file__).parent / "registry.json"
NOT_REGISTERED = frozenset({"Slip"})  # half of a dispatch; never a record of its own


@dataclass(frozen=True)
class Schema:
    """A schema as registries pass it around; the fields that confluent_kafka's own class has."""

    schema_str: str
    schema_type: str = "AVRO"
    references: tuple[Any, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The body of a registration request."""
        return {"schema": self.schema_str, "schemaType": self.schema_type}


class HasSchema(Protocol):
    """What a registry answers: any object that carries the schema's text."""

    @property
    def schema_str(self) -> str | None: ...


class SchemaRegistry(Protocol):
    """The part of confluent_kafka's SchemaRegistryClient that this project needs."""

    def get_schema(self, schema_id: int, subject_name: str | None = None, /) -> HasSchema:
        """The schema of this id; raises UnknownSchemaError, or an error whose `http_status_code` is 404.

        `subject_name` is the record that is expected, for a registry in which an id alone does not say enough.
        """
        ...

    def register_schema(self, subject_name: str, schema: Any, /) -> int:
        """Id of this schema under this subject, the same one whenever it is asked again."""
        ...


@dataclass(frozen=True)
class Entry:
    """One line of the registry file. Ids and versions are never reused or changed."""

    id: int
    subject: str
    version: int
    definition: Definition

    @property
    def text(self) -> str:
        return compact(self.definition)


class FileRegistry:
    """The registry that ships with the project; the same ids on every machine."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_id = {entry.id: Schema(entry.text) for entry in self.entries}
        if len(self._by_id) != len(self.entries):
            raise ConfigurationError("the schema registry gives one id twice", code=ErrorCode.REGISTRY_FILE)

    @classmethod
    def load(cls, path: Path = REGISTRY) -> FileRegistry:
        """Raises ConfigurationError when the file is missing or is not a registry."""
        try:
            lines = json.loads(path.read_text("utf-8"))
            return cls(Entry(line["id"], line["subject"], line["version"], line["schema"]) for line in lines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = f"{path} is no schema registry: {error!r:.200}"
            raise ConfigurationError(text, code=ErrorCode.REGISTRY_FILE) from error

    def get_schema(self, schema_id: int, _subject_name: str | None = None, /) -> Schema:
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise UnknownSchemaError(schema_id) from None

    def register_schema(self, subject_name: str, schema: Any, /) -> int:
        """Id of the equal schema (docs do not count); ConfigurationError when there is none: a file is no server."""
        wanted = expand(json.loads(schema.schema_str))
        for entry in self.versions(subject_name):
            if expand(entry.definition) == wanted:
                return entry.id
        raise ConfigurationError(
            f"this schema of {subject_name} is not in the registry file; append it by: python -m schemas.registry add",
            code=ErrorCode.UNREGISTERED_SCHEMA,
        )

    def versions(self, subject: str) -> Sequence[Entry]:
        """Entries of a subject, the oldest first."""
        return [entry for entry in self.entries if entry.subject == subject]


# Records that others write, whose serializers may ask a registry of their own. All else is framed by the file alone, so
# that what the pipeline has written it can read back, whoever is away.
OPEN_SUBJECTS = frozenset({f"{NAMESPACE}.TaskSubmitted"})


class JoinedRegistry:
    """The file, and beside it the ids of another registry, for the records that others write.

    Both count from 1, so an id may stand for one schema here and for another there. The record that is expected tells
    them apart: an id is the file's where the file has that record under it, else the other registry's. `foreign` gives
    the text of that one's schema, None where it has none; raises UnsupportedSchemaError where it cannot be read.
    """

    def __init__(self, file: FileRegistry, foreign: Callable[[int], str | None]) -> None:
        self._file, self._foreign = file, foreign
        self._own = {entry.id for entry in file.entries if entry.subject in OPEN_SUBJECTS}

    def get_schema(self, schema_id: int, subject_name: str | None = None, /) -> Schema:
        if subject_name in OPEN_SUBJECTS and schema_id not in self._own:
            text = self._foreign(schema_id)
            if text is not None:
                return Schema(text)
        return self._file.get_schema(schema_id)

    def register_schema(self, subject_name: str, schema: Any, /) -> int:
        """As the file has it: what is written carries the file's ids."""
        return self._file.register_schema(subject_name, schema)


def compose_dispatch(task: Definition) -> Definition:
    """The TaskDispatched schema whose slip is today's and whose task is this writer's TaskSubmitted.

    Raises UnsupportedSchemaError where the two define a name they share differently: no schema can say that.
    """
    dispatch = record("TaskDispatched").definition
    slip, slot = dispatch["fields"]
    return collapse(dispatch | {"fields": [slip, slot | {"type": expand(task)}]})


def dispatch_id_for(registry: SchemaRegistry, task_schema_id: int) -> int | None:
    """Id of the dispatch schema for tasks written with this one; None where a dispatch has to be encoded anew."""
    try:
        task = registry.get_schema(task_schema_id, record("TaskSubmitted").subject)
        composed = compose_dispatch(parse(task.schema_str or ""))
        return registry.register_schema(record("TaskDispatched").subject, Schema(compact(composed)))
    except ConfigurationError:
        return None


def missing(entries: Sequence[Entry]) -> list[Entry]:
    """What has to be appended so that today's records, and dispatches of every older task, are registered."""
    grown = list(entries)
    for kind in RECORDS.values():
        if kind.name not in NOT_REGISTERED:
            _append(grown, kind.subject, json.loads(kind.avro))
    dispatch, tasks = record("TaskDispatched"), f"{NAMESPACE}.TaskSubmitted"
    for task in [entry.definition for entry in grown if entry.subject == tasks]:
        try:
            _append(grown, dispatch.subject, compose_dispatch(task))
        except UnsupportedSchemaError:
            continue  # such a task is encoded anew when it is dispatched
    return grown[len(entries) :]


def _append(entries: list[Entry], subject: str, definition: Definition) -> None:
    versions = [entry for entry in entries if entry.subject == subject]
    if not any(expand(entry.definition) == expand(definition) for entry in versions):
        next_id = max((entry.id for entry in entries), default=0) + 1
        entries.append(Entry(next_id, subject, len(versions) + 1, definition))


def render(entries: Iterable[Entry]) -> str:
    """The registry file's text, one entry a line, so that a diff shows what was appended."""
    lines = (_line({"id": e.id, "subject": e.subject, "version": e.version}, e.text) for e in entries)
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _line(head: Mapping[str, Any], text: str) -> str:
    return f'{json.dumps(head)[:-1]}, "schema": {text}}}'


def main(arguments: Sequence[str], path: Path = REGISTRY) -> int:
    """`add`: append what is missing and say so."""
    if list(arguments) != ["add"]:
        sys.stderr.write("usage: python -m schemas.registry add\n")
        return 2
    entries = FileRegistry.load(path).entries if path.exists() else ()
    added = missing(entries)
    if added:
        path.write_text(render([*entries, *added]), "utf-8")
    for entry in added:
        sys.stderr.write(f"added {entry.subject} version {entry.version} as id {entry.id}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
