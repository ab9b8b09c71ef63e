"""From a read document to a model, or to plain sentences about each key that does not fit it.

A document with faults still yields a model where it can: what is wrong gets a stand-in, so that the cross-checks report
in the same run. I/O: none.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.codes import FaultCode
from schemas.errors import Fault
from schemas.nearest import nearest
from schemas.topology_words import describe, model_at
from schemas.topology_yaml import Document, KeyPath, path_text

M = TypeVar("M", bound=BaseModel)


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
            said = "is empty" if document.data is None else "must be a mapping of keys"
            faults.append(document.fault(FaultCode.NO_MAPPING, (), said))
        return Built(None, faults, frozenset())
    try:
        return Built(model.model_validate(document.data), faults, frozenset(doubtful))
    except ValidationError as error:
        details = error.errors(include_url=False)
    repaired = deepcopy(document.data)
    seen: set[KeyPath] = set()
    misspelt = {_meant(detail, _path(detail, document.data), model) for detail in details if _is_unknown(detail)}
    for detail in details:
        path = _path(detail, document.data)
        if path in seen:  # a value that fits no branch of a union is reported once a branch
            continue
        seen.add(path)
        doubtful |= {path_text(path), path_text(_meant(detail, path, model))}
        _repair(repaired, path)
        # A key that is missing because its name is misspelt is one fault, not two.
        if detail["type"] != "missing" or path not in misspelt:
            faults.append(document.fault(*_described(detail, path, model)))
    try:
        return Built(model.model_validate(repaired), faults, frozenset(doubtful))
    except ValidationError:
        return Built(None, faults, frozenset())


def _described(detail: ErrorDetails, path: KeyPath, model: type[BaseModel]) -> tuple[FaultCode, KeyPath, str]:
    code, said = describe(detail, path, model)
    return code, path, said


def _is_unknown(detail: ErrorDetails) -> bool:
    return detail["type"] == "extra_forbidden"


def _meant(detail: ErrorDetails, path: KeyPath, model: type[BaseModel]) -> KeyPath:
    """Where an unknown key should have stood: what is said there by default is not what its writer meant."""
    owner = model_at(model, path[:-1]) if _is_unknown(detail) else None
    known = nearest(str(path[-1]), owner.model_fields) if owner else None
    return path if known is None else (*path[:-1], known)


def _path(detail: ErrorDetails, data: Any) -> KeyPath:
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


_AGENT = {"run": "unknown:unknown", "effect": "read"}
_DROP = object()


def _repair(data: Any, path: KeyPath) -> None:
    """Puts a stand-in where one is needed, and removes what has a default; places in lists stay what they are."""
    for part in path[:-1]:
        data = data[part]
    stand_in = _stand_in(path)
    if stand_in is not _DROP:
        data[path[-1]] = stand_in
    elif path and isinstance(data, dict):
        data.pop(path[-1], None)


def _stand_in(path: KeyPath) -> Any:
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
