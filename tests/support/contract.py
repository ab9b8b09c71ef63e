"""The page that promises field names, read as a table of types, and data held against it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "output.md"
SECTION = re.compile(r"^### (pointsman .+)$", re.MULTILINE)
FIELD = re.compile(r"^\| ([\w.\[\]]+) \| ([\w ]+) \| .+ \|$", re.MULTILINE)
HEAD = "| field | type | means |"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

Promised = Mapping[str, str]


def promises() -> dict[str, Promised]:
    """By command, the type of each field, as the page states it."""
    parts = SECTION.split(PAGE.read_text("utf-8"))[1:]
    sections = zip(parts[::2], parts[1::2], strict=True)
    return {name: dict(FIELD.findall(body.partition("\n## ")[0].replace(HEAD, ""))) for name, body in sections}


def promised_report() -> tuple[Promised, Promised]:
    """The fields of the file that `chaos run --json` writes: of the whole, and of each of its `runs`."""
    body = PAGE.read_text("utf-8").partition("\n## The report of a chaos run\n")[2].partition("\n## ")[0]
    first, second = (dict(FIELD.findall(part.replace(HEAD, ""))) for part in body.split("**Of each run**"))
    return first, second


def breaches(rows: Iterable[Mapping[str, Any]], promised: Promised) -> list[str]:
    """How rows differ from what is promised: fields missing, fields unknown, values of another type.

    A field of an object within an array is missing where no row has it.
    """
    found: list[str] = []
    seen: defaultdict[str, list[object]] = defaultdict(list)
    for row in rows:
        found += [f"{field} is missing in {row}" for field in promised if "[]" not in field and field not in row]
        for path, value in _flat(row):
            seen[path].append(value)
    found += [f"{path} is not promised" for path in seen if path not in promised]
    found += [f"{path} was never seen" for path in promised if path not in seen]
    found += [
        f"{path} is promised as {promised[path]}: {value!r}"
        for path, values in seen.items()
        for value in values
        if path in promised and not _fits(value, promised[path])
    ]
    return found


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in row.items():
        yield f"{prefix}{name}", value
        if isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    yield from _flat(item, f"{prefix}{name}[].")


SCALARS: Mapping[str, Callable[[object], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "time": lambda value: isinstance(value, str) and TIME.fullmatch(value) is not None,
    "bytes": lambda value: isinstance(value, str) and BASE64.fullmatch(value) is not None,
    "object": lambda value: isinstance(value, dict),
}


def _fits(value: object, kind: str) -> bool:
    if kind.endswith(" or null"):
        return value is None or _fits(value, kind.removesuffix(" or null"))
    if kind.startswith("array of "):
        return isinstance(value, list) and all(_fits(item, kind.removeprefix("array of ")) for item in value)
    if kind.startswith("object of "):
        return isinstance(value, dict) and all(_fits(item, kind.removeprefix("object of ")) for item in value.values())
    return SCALARS[kind](value)
