"""Reads YAML into plain data that knows where each key stood; refuses what a configuration has no use for.

Refused, each as a fault with its place: anchors and aliases, tags, duplicate keys, keys that are not text, several
documents, deep nesting, long text. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
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

from schemas.codes import OF_THE_KEY, FaultCode
from schemas.errors import Fault
from schemas.topology_syntax import syntax_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruamel.yaml.events import Event

TEXT_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 16

KeyPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_TYPED = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float")}


class Place(NamedTuple):
    """Line and column, from 1, and how many characters; 0 where it ends in another line."""

    line: int
    column: int
    width: int


@dataclass(slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None), and where it stood.

    `keys`: the place of every key and of every item of a list. `values`: of every plain value behind a key.
    """

    data: Any = None
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, code: FaultCode, path: KeyPath, message: str) -> Fault:
        """A fault at `path`: at its value, or where the code is of a key, or there is no plain value, at its key.

        What the text does not have is placed at the nearest part of it that the text has; at its start where nothing
        of it is there.
        """
        place = self.values.get(path) if code not in OF_THE_KEY else None
        at = path
        while place is None and at:
            place, at = self.keys.get(at), at[:-1]
        return Fault(code, path_text(path), message, *(place or Place(1, 1, 0)))


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The text that a topology was read from: its name for people, and where each key stood.

    It is no part of what the topology says: topologies that say the same are equal, wherever they were read.
    """

    source: str
    document: Document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return hash(Origin)


def path_text(path: KeyPath) -> str:
    """`routes.financial_query.agents[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read_yaml(text: str) -> Document:
    """Never raises: what is wrong is in `faults`; after a syntax error there is no data."""
    document = Document()
    if len(text) > TEXT_BYTES_MAX or len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        document.faults.append(Fault(FaultCode.FILE_TOO_LARGE, "", f"is larger than {TEXT_BYTES_MAX} bytes"))
        return document
    try:
        document.data = _Reader(text, document).read()
    except _TooDeepError as error:
        said = f"is nested deeper than {DEPTH_MAX} levels"
        document.faults.append(Fault(FaultCode.NESTED_TOO_DEEPLY, "", said, *error.place))
    except YAMLError as error:
        document.faults.append(syntax_fault(error, text))
    return document


class _TooDeepError(Exception):
    def __init__(self, place: Place) -> None:
        self.place = place
        super().__init__()


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
                    self._refuse(
                        event,
                        FaultCode.DIRECTIVE,
                        (),
                        "directives (%YAML, %TAG) are not taken: remove the line above ---",
                    )
            elif isinstance(event, NodeEvent):
                if documents > 1:
                    self._refuse(
                        event,
                        FaultCode.SECOND_DOCUMENT,
                        (),
                        "a second document is not taken: remove the line --- and what follows",
                    )
                    return data
                data = self._value(event, ())
            elif not isinstance(event, StreamStartEvent):
                continue
        return data

    def _value(self, event: Event, path: KeyPath) -> Any:
        if isinstance(event, AliasEvent):
            self._refuse(
                event, FaultCode.ANCHOR, path, f"aliases are not taken: write the value out instead of *{event.anchor}"
            )
            return None
        assert isinstance(event, (ScalarEvent, CollectionStartEvent)), "the parser gives no other event for a value"
        if event.anchor:
            self._refuse(event, FaultCode.ANCHOR, path, f"anchors are not taken: remove &{event.anchor}")
        if isinstance(event, ScalarEvent):
            return self._scalar(event, path)
        if event.tag:
            self._refuse(event, FaultCode.TAG, path, f"tags are not taken: remove {event.tag}")
        if len(path) >= DEPTH_MAX:
            raise _TooDeepError(_place(event))
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._sequence(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for event in self.events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._value(event, path)
            value_event = next(self.events)
            if not isinstance(key, str):
                self._refuse(event, FaultCode.KEY_NOT_TEXT, path, "a key must be text: put it in quotes")
                self._value(value_event, (*path, "?"))
            elif key in data:
                first = self.document.keys[(*path, key)].line
                said = f"is given twice; first in line {first}"
                self._refuse(event, FaultCode.KEY_TWICE, (*path, key), said)
                self._value(value_event, (*path, "?"))
            else:
                here = (*path, key)
                self.document.keys[here] = _place(event)
                if isinstance(value_event, ScalarEvent) and (place := _place(value_event)).width:
                    self.document.values[here] = place
                data[key] = self._value(value_event, here)
        return data

    def _sequence(self, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for event in self.events:
            if isinstance(event, SequenceEndEvent):
                break
            here = (*path, len(items))
            self.document.keys[here] = _place(event)
            items.append(self._value(event, here))
        return items

    def _scalar(self, event: ScalarEvent, path: KeyPath) -> Any:
        if event.tag:
            self._refuse(event, FaultCode.TAG, path, f"tags are not taken: remove {event.tag}")
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

    def _whole(self, event: ScalarEvent, path: KeyPath) -> str:
        """The text with each pair of surrogates, JSON's way to write rare characters, made one; no half may stand."""
        try:
            text: str = event.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._refuse(
                event, FaultCode.HALF_CHARACTER, path, "holds half a character: a surrogate without its other half"
            )
            return "?"
        return text

    def _refuse(self, event: Event, code: FaultCode, path: KeyPath, message: str) -> None:
        place = _place(event)
        if code is FaultCode.ANCHOR and isinstance(event, NodeEvent):
            place = place._replace(width=1 + len(event.anchor))  # of the mark alone, not of what it stands before
        self.document.faults.append(Fault(code, path_text(path), message, *place))


def _place(event: Event) -> Place:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if start.line == end.line else 0
    return Place(start.line + 1, start.column + 1, width)
