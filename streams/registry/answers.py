"""What the registry answers, as Confluent's REST interface has it: method, path and body in, status and JSON out.

Reading is answered in full. Nothing can be changed: the schemas are the project's, and grow by a commit (decision 5),
so registering a schema gives the id of one that is there, and every other change is refused with the code that a
read-only registry gives. Interface: https://docs.confluent.io/platform/current/schema-registry/develop/api.html.
I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from schemas.definitions import UnsupportedSchemaError, parse
from schemas.evolution import conflicts
from schemas.registry import Entry
from streams.registry.catalog import Catalog

# What a schema has to keep to before it is appended: today's readers read every version that there ever was.
COMPATIBILITY = "BACKWARD_TRANSITIVE"
MODE = "READONLY"
HOW_TO_ADD = (
    "schemas are registered by a commit: change schemas/avro/*.avsc, then run python -m schemas.registry add, and "
    "start this process again"
)
VERSION_MAX = 2**31 - 1


class Refusal(Exception):  # noqa: N818  an answer, not a fault of ours
    """An answer that says no: HTTP status, the interface's own error code, and why."""

    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message
        super().__init__(message)


class Answers:
    """Answers by one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def to(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON document of the answer; `target` is path and query as the request line has them."""
        url = urlsplit(target)
        segments = [unquote(segment) for segment in url.path.split("/") if segment]
        query = dict(parse_qsl(url.query))
        try:
            match method:
                case "GET" | "HEAD":
                    return 200, self._read(segments, query)
                case "POST":
                    return 200, self._ask(segments, query, body)
                case _:
                    raise read_only(segments[1] if len(segments) > 1 else "")
        except Refusal as no:
            return no.status, {"error_code": no.code, "message": no.message}

    def _read(self, segments: list[str], query: Mapping[str, str]) -> Any:
        match segments:
            case []:
                return {}
            case ["subjects"]:
                return _page([name for name in self._catalog.subjects if _wanted(name, query)], query)
            case ["subjects", subject, "versions", *rest]:
                return self._versions(subject, rest)
            case ["schemas", *rest]:
                return self._schemas(rest, query)
            case ["contexts"]:
                return ["."]
            case ["config"]:
                return {"compatibilityLevel": COMPATIBILITY}
            case ["config", subject]:
                self._known(subject, query, 40408, "compatibility")
                return {"compatibilityLevel": COMPATIBILITY}
            case ["mode"]:
                return {"mode": MODE}
            case ["mode", subject]:
                self._known(subject, query, 40409, "mode")
                return {"mode": MODE}
        raise no_such_path()

    def _ask(self, segments: list[str], query: Mapping[str, str], body: bytes) -> Any:
        match segments:
            case ["subjects", subject]:
                entries = self._entries(subject)
                found = self._catalog.find(subject, _schema_of(body))
                if found is None:
                    raise Refusal(
                        404, 40403, f"Schema not found: {subject} has {len(entries)} version(s), not this one"
                    )
                return _described(subject, found)
            case ["subjects", subject, "versions"]:
                found = self._catalog.find(subject, _schema_of(body)) if subject in self._catalog.subjects else None
                if found is None:
                    raise read_only(subject)
                return {"id": found.id}
            case ["compatibility", "subjects", subject, "versions", *version]:
                entries = self._entries(subject)
                against = [_entry_at(entries, version[0])] if version else entries
                return _compatibility(_schema_of(body), against, verbose=query.get("verbose") == "true")
        if segments and segments[0] in ("config", "mode", "subjects", "schemas"):
            raise read_only(segments[1] if len(segments) > 1 else "")
        raise no_such_path()

    def _versions(self, subject: str, rest: list[str]) -> Any:
        entries = self._entries(subject)
        match rest:
            case []:
                return [entry.version for entry in entries]
            case [version]:
                return _described(subject, _entry_at(entries, version))
            case [version, "schema"]:
                return _entry_at(entries, version).definition
            case [version, "referencedby"]:
                _entry_at(entries, version)
                return []
        raise no_such_path()

    def _schemas(self, rest: list[str], query: Mapping[str, str]) -> Any:
        match rest:
            case []:
                return _page(self._listed(query), query)
            case ["types"]:
                return ["AVRO"]
            case ["ids", number]:
                newest = {"maxId": max(self._catalog.by_id)} if query.get("fetchMaxId") == "true" else {}
                return {"schema": self._entry(number).text, **newest}
            case ["ids", number, "schema"]:
                return self._entry(number).definition
            case ["ids", number, "subjects"]:
                return _page(self._catalog.subjects_of(self._entry(number)), query)
            case ["ids", number, "versions"]:
                entry = self._entry(number)
                pairs = [{"subject": name, "version": entry.version} for name in self._catalog.subjects_of(entry)]
                return _page(pairs, query)
        raise no_such_path()

    def _listed(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        start = -1 if query.get("latestOnly") == "true" else 0
        return [
            _described(subject, entry)
            for subject, entries in self._catalog.subjects.items()
            if _wanted(subject, query)
            for entry in entries[start:]
        ]

    def _entries(self, subject: str) -> Sequence[Entry]:
        try:
            return self._catalog.subjects[subject]
        except KeyError:
            raise Refusal(404, 40401, f"Subject '{subject}' not found.") from None

    def _entry(self, number: str) -> Entry:
        entry = self._catalog.by_id.get(_number(number))
        if entry is None:
            raise Refusal(404, 40403, f"Schema {number} not found")
        return entry

    def _known(self, subject: str, query: Mapping[str, str], code: int, what: str) -> None:
        if subject not in self._catalog.subjects and query.get("defaultToGlobal") != "true":
            raise Refusal(404, code, f"Subject '{subject}' does not have subject-level {what} configured")


def read_only(subject: str) -> Refusal:
    """Nothing is changed by a request."""
    what = f"Subject {subject}" if subject else "This registry"
    return Refusal(422, 42205, f"{what} is in read-only mode: {HOW_TO_ADD}")


def no_such_path() -> Refusal:
    return Refusal(404, 404, "HTTP 404 Not Found")


def _wanted(subject: str, query: Mapping[str, str]) -> bool:
    return subject.startswith(query.get("subjectPrefix", ""))


def _number(text: str) -> int:
    """A whole number in decimal digits; -1 for everything else, and for one that no id and no version can be."""
    return int(text) if text.isdecimal() and len(text) <= len(str(VERSION_MAX)) else -1


def _page(items: list[Any], query: Mapping[str, str]) -> list[Any]:
    """The part of a list that `offset` and `limit` name; a limit below 0 is none."""
    offset, limit = max(_number(query.get("offset", "0")), 0), _number(query.get("limit", "-1"))
    return items[offset:] if limit < 0 else items[offset : offset + limit]


def _described(subject: str, entry: Entry) -> dict[str, Any]:
    return {"subject": subject, "version": entry.version, "id": entry.id, "schema": entry.text}


def _entry_at(entries: Sequence[Entry], version: str) -> Entry:
    if version in ("latest", "-1"):
        return entries[-1]
    number = _number(version)
    if not 1 <= number <= VERSION_MAX:
        raise Refusal(
            422,
            42202,
            f"The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and "
            'the string "latest"',
        )
    found = next((entry for entry in entries if entry.version == number), None)
    if found is None:
        raise Refusal(404, 40402, f"Version {version} not found.")
    return found


def _schema_of(body: bytes) -> str:
    """The schema's text in a request; raises Refusal where there is none, or it is none of Avro's."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, 400, "The request's body is no JSON") from None
    text = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(text, str) or not text:
        raise Refusal(422, 42201, "Empty schema")
    kind = document.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise Refusal(422, 42201, f"Invalid schema type {kind!r:.40}: this registry holds AVRO alone")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(422, 42201, "Invalid schema: it is no JSON") from None
    return text


def _compatibility(text: str, against: Sequence[Entry], *, verbose: bool) -> dict[str, Any]:
    """Whether data of these versions can be read by the schema of the text."""
    try:
        reader = parse(text)
    except UnsupportedSchemaError as error:
        why = [str(error)]
    else:
        why = [
            f"{conflict} (version {entry.version})"
            for entry in against
            for conflict in conflicts(parse(entry.text), reader)
        ]
    return {"is_compatible": not why} | ({"messages": why} if verbose else {})
