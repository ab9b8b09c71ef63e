"""The topology's shape as JSON Schema, for editors and other tools: `schemas/topology.schema.json` is its copy.

It says all that `schemas.topology` says of single values. What one part asks of another (`schemas.topology_checks`)
JSON Schema cannot say, but for names that must not be. I/O: none.
"""

from __future__ import annotations

from typing import Any

from schemas.topology import Phrase, Topology
from schemas.topology_checks import AGENT_NAME, SECRET

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def topology_schema() -> Schema:
    """A JSON Schema of draft 2020-12, in JSON's own types; the same each time."""
    made: Schema = _untitled(Topology.model_json_schema())
    definitions = made.pop("$defs")
    definitions["Phrase"] = _short_form(definitions["Phrase"], Phrase)
    made["properties"]["agents"]["propertyNames"] = {"pattern": f"^{AGENT_NAME.pattern}$"}
    made["properties"]["routes"]["propertyNames"] = {"pattern": r"\S"}
    made["properties"]["kafka"]["propertyNames"] = {"not": {"pattern": SECRET.pattern}}
    return {
        "$schema": DIALECT,
        "title": "pointsman topology",
        **made,
        "$defs": definitions,
    }


def _short_form(whole: Schema, model: type[Phrase]) -> Schema:
    """A bare text stands for a section whose first key it is."""
    first = next(iter(model.model_fields))
    return {"anyOf": [whole["properties"][first], whole]}


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
