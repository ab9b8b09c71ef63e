"""Reads YAML into plain data that knows where each key stood; refuses what a configuration has no use for.

Refused, each as a fault with its place: anchors and aliases, tags, duplicate keys, keys that are not text, several
documents, deep nesting, long text. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.nodes import ScalarNode

from schemas.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruamel.yaml.events import Event

TEXT_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 16

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_TYPED = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float")}


@dataclass(slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None), and the line and column, from 1, of every key and item."""

    data: Any = None
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, path: Path, message: str) -> Fault:
        """A fault at `path`, placed at the nearest part of it that the text has."""
        at = path
        while at and at not in self.marks:
            at = at[:-1]
        line, column = self.marks.get(at, (0, 0))
        return Fault(path_text(path), message, line, column)


def path_text(path: Path) -> str:
    """`routes.financial_query.agents[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read_yaml(text: str) -> Document:
    """Never raises: what is wrong is in `faults`; after a syntax error there is no data."""
    document = Document()
    if len(text) > TEXT_BYTES_MAX or len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        document.faults.append(Fault("", f"is larger than {TEXT_BYTES_MAX} bytes"))
        return document
    try:
        document.data = _Reader(text, document).read()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        document.faults.append(Fault("", f"is not YAML: {error.problem or error.context}", *place))
    except YAMLError as error:
        document.faults.append(Fault("", f"is not YAML: {' '.join(str(error).split())}"))
    return document


class _TooDeepError(YAMLError):
    def __str__(self) -> str:
        return f"nested deeper than {DEPTH_MAX} levels"


class _Reader:
    """Builds data from the parser's events: aliases are never followed, so nothing can multiply."""

    def __init__(self, text: str, document: Document) -> None:
        self.yaml = YAML(typ="safe", pure=True)
        self.events: Iterator[Event] = iter(self.yaml.parse(StringIO(text)))
        self.document = document

    def read(self) -> Any:
        data, documents = None, 0
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if event.version or event.tags:
                    self._refuse(event, (), "directives (%YAML, %TAG) are not taken")
            elif isinstance(event, NodeEvent):
                if documents > 1:
                    self._refuse(event, (), "a second document is not taken")
                    return data
                data = self._value(event, ())
            elif not isinstance(event, StreamStartEvent):
                continue
        return data

    def _value(self, event: Event, path: Path) -> Any:
        if isinstance(event, AliasEvent):
            self._refuse(event, path, f"aliases are not taken: write the value out instead of *{event.anchor}")
            return None
        assert isinstance(event, (ScalarEvent, CollectionStartEvent)), "the parser gives no other event for a value"
        if event.anchor:
            self._refuse(event, path, f"anchors are not taken: remove &{event.anchor}")
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        if event.tag:
            self._refuse(event, path, f"tags are not taken: remove {event.tag}")
        if len(path) >= DEPTH_MAX:
            raise _TooDeepError
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._value(event, path)
            place = self._place(event)
            value_event = next(self.events)
            if not isinstance(key, str):
                self._refuse(event, path, "a key must be text: put it in quotes")
                self._value(value_event, (*path, "?"))
            elif key in data:
                first = self.document.marks[(*path, key)][0]
                self._refuse(event, (*path, key), f"is given twice; first in line {first}")
                self._value(value_event, (*path, "?"))
            else:
                self.document.marks[(*path, key)] = place
                data[key] = self._value(value_event, (*path, key))
        return data

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            here = (*path, len(items))
            self.document.marks[here] = self._place(event)
            items.append(self._value(event, here))
        return items

    def _scalar(self, event: ScalarEvent, path: Path) -> Any:
        if event.tag:
            self._refuse(event, path, f"tags are not taken: remove {event.tag}")
            return event.value
        if not event.value.isascii():
            event.value = self._whole(event, path)
        tag = self.yaml.resolver.resolve(ScalarNode, event.value, event.implicit)
        if str(tag) not in _TYPED:
            return event.value
        try:
            return self.yaml.constructor.construct_object(ScalarNode(tag, event.value))
        except ValueError:  # an integer of thousands of digits: text, so that the model refuses it in its place
            return event.value

    def _whole(self, event: ScalarEvent, path: Path) -> str:
        """The text with each pair of surrogates, JSON's way to write rare characters, made one; no half may stand."""
        try:
            text: str = event.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(event, path, "holds half a character: a surrogate without its other half")
            return "?"
        return text

    def _refuse(self, event: Event, path: Path, message: str) -> None:
        self.document.faults.append(Fault(path_text(path), message, *self._place(event)))

    @staticmethod
    def _place(event: Event) -> tuple[int, int]:
        return event.start_mark.line + 1, event.start_mark.column + 1
