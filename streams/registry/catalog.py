"""The subjects under which the registry file's schemas stand in a deployment, by every naming strategy that is in use.

A subject is a record's full name (`pointsman.TaskResult`), a topic's name with `-value`, or the two joined by a dash.
Each has all versions of its record, with the ids of the file. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.definitions import UnsupportedSchemaError, parse
from schemas.records import record
from schemas.registry import Entry, FileRegistry
from schemas.topics import Topics


class Catalog:
    """What a registry that holds this file and serves these topics knows. `subjects` gives each subject's entries, the
    oldest first; `by_id` the entry of an id."""

    def __init__(self, registry: FileRegistry, topics: Topics) -> None:
        records: dict[str, list[Entry]] = {}
        for entry in registry.entries:
            records.setdefault(entry.subject, []).append(entry)
        subjects: dict[str, Sequence[Entry]] = dict(records)
        for spec in topics.specs():
            if spec.record is not None:
                name = record(spec.record).subject
                subjects[f"{spec.name}-value"] = subjects[f"{spec.name}-{name}"] = records[name]
        self.subjects: Mapping[str, Sequence[Entry]] = dict(sorted(subjects.items()))
        self.by_id: Mapping[int, Entry] = {entry.id: entry for entry in registry.entries}

    def subjects_of(self, entry: Entry) -> list[str]:
        """Every subject that has this entry."""
        return [subject for subject, entries in self.subjects.items() if entry in entries]

    def find(self, subject: str, text: str) -> Entry | None:
        """The subject's entry whose schema is this one; docs, layout and properties of other tools do not count."""
        try:
            wanted = parse(text)
        except UnsupportedSchemaError:
            return None
        same = (entry for entry in reversed(self.subjects[subject]) if parse(entry.text) == wanted)
        return next(same, None)
