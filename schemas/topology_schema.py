"""The topology's shape as JSON Schema, for editors and other tools: `schemas/topology.schema.json` is its copy.

It says all that `schemas.topology` says of single values, and which keys belong to which kind of agent. What else one
part asks of another (`schemas.topology_checks`) JSON Schema cannot say, but for names that must not be. I/O: none.
"""

from __future__ import annotations

from typing import Any

from schemas.topology import Topology
from schemas.topology_checks import AGENT_NAME, SECRET
from schemas.topology_kinds import HEADER_NAME, KEYS_OF_KINDS, VARIABLE_NAME

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"  # what editors know best
DEFAULT_KIND = "python"
NOT_NULL: Schema = {"not": {"type": "null"}}


def topology_schema() -> Schema:
    """A JSON Schema of draft 7, in JSON's own types; the same each time."""
    made: Schema = _untitled(Topology.model_json_schema(ref_template="#/definitions/{model}"))
    parts = made.pop("$defs")
    keys = made["properties"]
    keys["agents"]["propertyNames"] = _like(AGENT_NAME.pattern)
    keys["routes"]["propertyNames"] = {"pattern": r"\S"}
    keys["kafka"]["propertyNames"] = {"not": {"pattern": SECRET.pattern}}
    parts["Agent"] = _of_kinds(parts["Agent"])
    parts["Phrase"] = _short_form(parts["Phrase"], "phrase")
    parts["Granted"] = _short_form({**parts["Granted"], "oneOf": _sources()}, "value")
    return {"$schema": DIALECT, "title": "pointsman topology", **made, "definitions": parts}


def _of_kinds(agent: Schema) -> Schema:
    """What a kind needs, and what must stay at its default where another kind is stated."""
    keys = agent["properties"]
    keys["headers"]["propertyNames"] = _like(HEADER_NAME.pattern)
    keys["env"]["propertyNames"] = _like(VARIABLE_NAME.pattern.replace(r"\w", "[A-Za-z0-9_]"))  # it is of ASCII
    program, word = {"type": "string", "pattern": r"^[^\x00]*\S[^\x00]*$"}, {"type": "string", "pattern": r"^[^\x00]*$"}
    command = next(form for form in keys["command"]["anyOf"] if form.get("type") == "array")
    command.update({"items": [program], "additionalItems": word})
    return {**agent, "allOf": [_of_kind(kind, own, keys) for kind, own in KEYS_OF_KINDS.items()]}


def _of_kind(kind: str, own: tuple[str, ...], keys: Schema) -> Schema:
    others = {key for every in KEYS_OF_KINDS.values() for key in every if key not in own}
    # A list or a mapping that is empty by default has no "default" in its schema.
    strange = {key: {"const": keys[key].get("default", {})} for key in keys if key in others}
    stated: Schema = {"properties": {"kind": {"const": kind}}}
    return {
        "if": stated if kind == DEFAULT_KIND else {**stated, "required": ["kind"]},
        "then": {"required": [own[0]], "properties": {own[0]: NOT_NULL, **strange}},
    }


def _sources() -> list[Schema]:
    """A value, or a variable that holds it and what is put before it."""
    text, none = {"type": "string"}, {"type": "null"}
    return [
        {"required": ["value"], "properties": {"value": text, "env": none, "prefix": {"const": ""}}},
        {"required": ["env"], "properties": {"env": text, "value": none}},
    ]


def _short_form(whole: Schema, key: str) -> Schema:
    """A bare text stands for a section of which it is this key."""
    value = whole["properties"][key]
    text = next((form for form in value.get("anyOf", ()) if form.get("type") == "string"), value)
    return {"anyOf": [{"description": value["description"], **text}, whole]}


def _like(pattern: str) -> Schema:
    return {"pattern": f"^({pattern})$"}


def _untitled(node: Any) -> Any:
    """Without the titles that Pydantic makes of names: editors would show them in the place of the description."""
    if isinstance(node, list):
        return [_untitled(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _untitled(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _untitled(value)
        for key, value in node.items()
        if key != "title"
    }
