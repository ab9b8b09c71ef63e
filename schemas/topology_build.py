"""From a read document to a model, or to plain sentences about each key that does not fit it.

A document with faults still yields a model where it can: what is wrong gets a stand-in, so that the cross-checks report
in the same run. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import Fault
from schemas.nearest import nearest, suggest
from schemas.topology_yaml import Document, Path, path_text

M = TypeVar("M", bound=BaseModel)

VALUE_CHARACTERS_MAX = 40
SECRETIVE = "kafka"  # values of this section are never repeated


class Built(NamedTuple, Generic[M]):
    """A model and what is wrong with the document it comes from.

    Only without faults is `model` what the document says; None where too much is wrong to put stand-ins in. `doubtful`
    are the key paths, as text, of which it says something else than the document means.
    """

    model: M | None
    faults: list[Fault]
    doubtful: frozenset[str]


def build(model: type[M], document: Document) -> Built[M]:
    """The document as `model`, with every fault of its shape, those of the YAML included; never raises."""
    faults = list(document.faults)
    doubtful = {fault.path for fault in faults}
    if not isinstance(document.data, dict):
        if not faults:
            faults.append(document.fault((), "is empty" if document.data is None else "must be a mapping of keys"))
        return Built(None, faults, frozenset())
    try:
        return Built(model.model_validate(document.data), faults, frozenset(doubtful))
    except ValidationError as error:
        details = error.errors(include_url=False)
    repaired = deepcopy(document.data)
    seen: set[Path] = set()
    for detail in details:
        path = _path(detail, document.data)
        if path not in seen:  # a value that fits no branch of a union is reported once a branch
            seen.add(path)
            faults.append(document.fault(path, _sentence(detail, path, model)))
            doubtful |= {path_text(path), path_text(_meant(detail, path, model))}
            _repair(repaired, path)
    try:
        return Built(model.model_validate(repaired), faults, frozenset(doubtful))
    except ValidationError:
        return Built(None, faults, frozenset())


def _meant(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> Path:
    """Where an unknown key should have stood: what is said there by default is not what its writer meant."""
    owner = _model_at(model, path[:-1]) if detail["type"] == "extra_forbidden" else None
    known = nearest(str(path[-1]), owner.model_fields) if owner else None
    return path if known is None else (*path[:-1], known)


def _path(detail: ErrorDetails, data: Any) -> Path:
    """The error's location less what is no key of the document: names of union branches, and `[key]`."""
    path: list[str | int] = []
    for part in detail["loc"]:
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if not inside:
            return (*path, part) if detail["type"] == "missing" else tuple(path)
        path.append(part)
        data = data[part]
    return tuple(path)


_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", type(None): "empty"}

_NEEDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda _: "is missing and has no default",
    "model_type": lambda _: "must be a mapping of keys",
    "mapping_type": lambda _: "must be a mapping of names",
    "dict_type": lambda _: "must be a mapping of names",
    "tuple_type": lambda _: "must be a list",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be text of whole Unicode characters",
    "int_type": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "literal_error": lambda c: f"must be {c['expected'].replace(chr(39), '')}",
    "greater_than": lambda c: f"must be more than {c['gt']}",
    "greater_than_equal": lambda c: f"must be at least {c['ge']}",
    "less_than": lambda c: f"must be less than {c['lt']}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "too_short": lambda _: "must not be empty",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
}

_PLAIN = {"missing", "too_short", "string_too_short"}  # what the value is adds nothing

_PATTERNS = {
    "run": "must name code as module:function",
    "phrase": "must not be blank",
    "prefix": "may hold letters, digits, dots, underscores and hyphens only",
}


def _sentence(detail: ErrorDetails, path: Path, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        owner = _model_at(model, path[:-1])
        return f"is not a known key{suggest(str(path[-1]), owner.model_fields) if owner else ''}"
    if kind == "string_pattern_mismatch":
        need = _PATTERNS.get(str(detail["loc"][-1]), f"must match {context['pattern']}")
    elif path[2:3] == ("phrases",) and kind == "model_type":
        need = "must be text, or a mapping of phrase and confidence"
    elif path[:1] == (SECRETIVE,):
        need = "must be text, a whole number, or true or false"
    elif path[2:3] == ("options",):
        need = "must be text, a number, true, false or null"
    elif kind in _NEEDS:
        need = _NEEDS[kind](context)
    else:
        need = detail["msg"]
    return need if kind in _PLAIN or path[:1] == (SECRETIVE,) else f"{need}, but is {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}..."
    return ascii(short) if isinstance(value, str) else short


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The section that stands at `path`."""
    at: Any = model
    for part in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = at.model_fields[str(part)].annotation
        elif get_origin(at) is Mapping:
            at = get_args(at)[1]
        else:
            at = get_args(at)[0]
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None


_AGENT = {"run": "unknown:unknown", "effect": "read"}
_DROP = object()


def _repair(data: Any, path: Path) -> None:
    """Puts a stand-in where one is needed, and removes what has a default; places in lists stay what they are."""
    for part in path[:-1]:
        data = data[part]
    stand_in = _stand_in(path)
    if stand_in is not _DROP:
        data[path[-1]] = stand_in
    elif path and isinstance(data, dict):
        data.pop(path[-1], None)


def _stand_in(path: Path) -> Any:
    match path:
        case ("default_route",):
            return ""
        case ("agents", _):
            return dict(_AGENT)
        case ("agents", _, "run" | "effect" as key):
            return _AGENT[key]
        case ("routes", _):
            return {"agents": ["unknown"]}
        case ("routes", _, "agents"):
            return ["unknown"]
        case ("routes", _, "agents" | "panel" | "phrases", _) | ("routes", _, "phrases", _, "phrase"):
            return "unknown"
        case _:
            return _DROP
