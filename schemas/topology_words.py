"""Plain sentences about a value that does not fit its key: what is needed, what is there, what was most likely meant.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from schemas.codes import FaultCode
from schemas.nearest import nearest, suggest
from schemas.topology_yaml import KeyPath

VALUE_CHARACTERS_MAX = 40
SECRETIVE = "kafka"  # values of this section are never repeated
SECRETIVE_AGENT_KEYS = {"url", "headers", "env"}  # nor are these: somebody may have written a secret there

_KINDS: dict[type, str] = {list: "a list", dict: "a mapping", type(None): "empty"}


class _Need:
    """What a kind of error asks for, and its code."""

    def __init__(self, code: FaultCode, text: str | Callable[[dict[str, Any]], str]) -> None:
        self.code, self._text = code, text

    def said(self, context: dict[str, Any]) -> str:
        return self._text if isinstance(self._text, str) else self._text(context)


_TYPE, _RANGE = FaultCode.WRONG_TYPE, FaultCode.OUT_OF_RANGE
_NEEDS: dict[str, _Need] = {
    "missing": _Need(FaultCode.MISSING_KEY, "is missing and has no default"),
    "extra_forbidden": _Need(FaultCode.UNKNOWN_KEY, "is not a known key"),
    "model_type": _Need(_TYPE, "must be a mapping of keys"),
    "mapping_type": _Need(_TYPE, "must be a mapping of names"),
    "dict_type": _Need(_TYPE, "must be a mapping of names"),
    "tuple_type": _Need(_TYPE, "must be a list"),
    "string_type": _Need(_TYPE, "must be text"),
    "string_unicode": _Need(_TYPE, "must be text of whole Unicode characters"),
    "int_type": _Need(_TYPE, "must be a whole number"),
    "float_type": _Need(_TYPE, "must be a number"),
    "finite_number": _Need(_RANGE, "must be a finite number"),
    "bool_type": _Need(_TYPE, "must be true or false"),
    "literal_error": _Need(FaultCode.NOT_A_CHOICE, lambda c: f"must be {c['expected'].replace(chr(39), '')}"),
    "string_pattern_mismatch": _Need(FaultCode.WRONG_FORM, lambda c: f"must match {c['pattern']}"),
    "greater_than": _Need(_RANGE, lambda c: f"must be more than {c['gt']}"),
    "greater_than_equal": _Need(_RANGE, lambda c: f"must be at least {c['ge']}"),
    "less_than": _Need(_RANGE, lambda c: f"must be less than {c['lt']}"),
    "less_than_equal": _Need(_RANGE, lambda c: f"must be at most {c['le']}"),
    "too_short": _Need(FaultCode.EMPTY, "must not be empty"),
    "string_too_short": _Need(FaultCode.EMPTY, "must not be empty"),
    "string_too_long": _Need(FaultCode.TOO_LONG, lambda c: f"must have at most {c['max_length']} characters"),
}
_PLAIN = {"missing", "too_short", "string_too_short"}  # what the value is adds nothing

_PATTERNS = {
    "run": "must name code as module:function",
    "url": "must be http://HOST[:PORT]/PATH or https://, without user, password or fragment",
    "value": "must be one line of text",
    "prefix of a variable": "must be one line of text",
    "env": "must name a variable: letters, digits and underscores, no digit first",
    "phrase": "must not be blank",
    "prefix": "may hold letters, digits, dots, underscores and hyphens only",
}


def describe(detail: ErrorDetails, path: KeyPath, model: type[BaseModel]) -> tuple[FaultCode, str]:
    """Code and sentence of one of Pydantic's errors; `path` is its place in the document, `model` the whole's."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return FaultCode.UNKNOWN_KEY, f"is not a known key{_known_key(path, model)}"
    need = _NEEDS.get(kind, _Need(FaultCode.WRONG_FORM, detail["msg"]))
    said = need.said(context)
    if kind == "string_pattern_mismatch":
        key = "prefix of a variable" if path[-1:] == ("prefix",) and path[1:] else str(detail["loc"][-1])
        said = _PATTERNS.get(key, said)
    elif path[2:3] == ("phrases",) and kind == "model_type":
        said = "must be text, or a mapping of phrase and confidence"
    elif path[2:3] in (("headers",), ("env",)) and kind == "model_type":
        said = "must be text, or {env: NAME}"
    elif path[:1] == (SECRETIVE,):
        said = "must be text, a whole number, or true or false"
    elif path[2:3] == ("options",):
        said = "must be text, a number, true, false or null"
    if _is_secretive(path):
        return need.code, said
    if kind in _PLAIN:
        return need.code, f"{said}{_choices(path, model) if kind == 'missing' else ''}"
    return need.code, f"{said}, but is {_shown(detail['input'])}{_meant(kind, context, detail['input'])}"


def _is_secretive(path: KeyPath) -> bool:
    return path[:1] == (SECRETIVE,) or (path[:1] == ("agents",) and not SECRETIVE_AGENT_KEYS.isdisjoint(path[2:3]))


def _known_key(path: KeyPath, model: type[BaseModel]) -> str:
    """The nearest key of this section; else the section that has a key of this very name; else the keys there are."""
    owner, key = model_at(model, path[:-1]), str(path[-1])
    if owner is None:
        return ""
    if nearest(key, owner.model_fields) is None:
        homes = [name for name, section in sections(model).items() if key in section.model_fields]
        if homes:
            return f"; it belongs to {' or '.join(homes)}"
    return suggest(key, owner.model_fields)


def _choices(path: KeyPath, model: type[BaseModel]) -> str:
    """What the missing key may say, where that is one of a few words."""
    owner = model_at(model, path[:-1])
    words = _words(owner.model_fields[str(path[-1])].annotation) if owner and path[-1] in owner.model_fields else ()
    return f"; state one of {', '.join(words)}" if words else ""


def _words(annotation: Any) -> Sequence[str]:
    found = [each for each in get_args(annotation) if isinstance(each, str)]
    return found if len(found) == len(get_args(annotation)) else ()


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if type(value) in _KINDS:
        return _KINDS[type(value)]
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]}..."
    return ascii(short) if isinstance(value, str) else short


_BOOLS = {**dict.fromkeys(("yes", "on", "y", "true"), "true"), **dict.fromkeys(("no", "off", "n", "false"), "false")}
_UNITS = dict(
    (
        *(("ms", 1), ("s", 1000), ("sec", 1000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)),
        *(("kb", 1000), ("mb", 1000**2), ("gb", 1000**3), ("kib", 1024), ("mib", 1024**2), ("gib", 1024**3)),
    )
)
_QUANTITY = re.compile(r"\s*(\d{1,12}(?:[_,]\d{3})*(?:\.\d{1,6})?)\s*([A-Za-z]*|%)\s*")


def _meant(kind: str, context: Mapping[str, Any], value: Any) -> str:
    """`; did you mean 5000?`: the word or the number that the value stands for."""
    found: str | None = None
    if kind == "literal_error" and isinstance(value, str):
        found = nearest(value, re.findall(r"'([^']*)'", str(context["expected"])))
    elif kind == "bool_type":
        found = _BOOLS.get(str(value).lower()) if isinstance(value, str) else None
    elif kind in ("int_type", "float_type"):
        number = _number(value)
        whole = number is not None and number == int(number)
        if number is not None and (whole or kind == "float_type"):
            found = f"{int(number) if whole else number}"
    return "" if found is None else f"; did you mean {found}?"


def _number(value: Any) -> float | None:
    """The number that a text such as '1000', '5s', '16 MiB' or '80%' stands for, in milliseconds or bytes."""
    if isinstance(value, float):
        return value if abs(value) < 10**12 else None  # an infinity is no number either
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    amount, unit = float(re.sub("[_,]", "", match[1])), match[2].lower()
    if unit == "%":
        return amount / 100
    return amount * _UNITS[unit] if unit in _UNITS else (amount if not unit else None)


def model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """The section that stands at `path`."""
    at: Any = model
    for part in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            at = _stated(at.model_fields[str(part)].annotation)
        elif get_origin(at) is Mapping:
            at = get_args(at)[1]
        else:
            at = get_args(at)[0]
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None


def _stated(annotation: Any) -> Any:
    """What a section that may be left out is where it is stated."""
    found = [each for each in get_args(annotation) if each is not type(None)]
    return found[0] if len(found) == 1 and type(None) in get_args(annotation) else annotation


def sections(model: type[BaseModel], prefix: str = "") -> dict[str, type[BaseModel]]:
    """Every section below `model` by its key path; a name that people choose is `<name>`: `routes.<name>.fallback`."""
    found: dict[str, type[BaseModel]] = {}
    for key, field in model.model_fields.items():
        at, path = _stated(field.annotation), f"{prefix}{key}"
        if get_origin(at) is Mapping:
            at, path = get_args(at)[1], f"{path}.<name>"
        elif get_origin(at) is tuple:
            at, path = get_args(at)[0], f"{path}[]"
        if isinstance(at, type) and issubclass(at, BaseModel):
            found |= {path: at, **sections(at, f"{path}.")}
    return found
