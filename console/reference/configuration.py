"""The page of everything that can be configured: each key of the topology, each variable and flag. I/O: none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from console.cli.help import leaves
from console.cli.main import program
from console.reference.markdown import made_by, paragraph, table
from schemas.settings import KAFKA_CONFIG, PREFIX, SECRETS, Settings
from schemas.topology_agent import NUMBER_MAX
from schemas.topology_kinds import KEYS_OF_KINDS
from schemas.topology_schema import topology_schema

Schema = Mapping[str, Any]

# What the end of a key's name says of its unit, the first that fits.
UNITS = {
    "_ms": "ms",
    "_ms_max": "ms",
    "_mib_max": "MiB",
    "_bytes_max": "bytes",
    "_rows_max": "rows",
    "_tasks_max": "tasks",
    "inflight_tasks_max": "tasks",
}
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}


def page() -> str:
    """docs/configuration.md."""
    return "\n".join((*_head(), *_topology(), *_settings())).rstrip() + "\n"


def _head() -> Iterator[str]:
    yield made_by("schemas/topology*.py and schemas/settings.py")
    yield "# Configuration"
    yield ""
    yield from paragraph(
        "What a deployment decides (agents, routes, limits) is in one file, the topology, which all its processes read "
        "at their start. What one machine or one operator decides is in the environment and in flags. Secrets are only "
        "in the environment or in a file that it names."
    )
    yield from paragraph(
        "`pointsman validate` checks a topology: every fault with its place, its code and the nearest right name. "
        "Editors that speak YAML's language server check and complete it while it is written, by "
        "`schemas/topology.schema.json`, which `pointsman schemas show topology` prints too; the first line of "
        "`topology.yaml` names it."
    )


# ------------------------------------------------------------------ the topology


def _topology() -> Iterator[str]:
    schema = topology_schema()
    definitions = schema["definitions"]
    yield "## The topology"
    yield ""
    yield from paragraph(
        "YAML 1.2, without anchors, aliases and tags. Unknown keys are refused. The unit of a number ends its key: "
        "`_ms` are milliseconds, `_bytes` bytes. A number without a stated bound may be as large as 2^40."
    )
    for path, section in _sections("", schema, definitions):
        if path:
            yield f"### {path}"
            yield ""
            yield from paragraph(_text(section.get("description", "")))
        yield from table(
            ("key", "type", "default", "range", "unit", "means"),
            (
                (
                    f"`{key}`",
                    _type(field, path, key, definitions),
                    _default(key, field, section, definitions),
                    _range(field),
                    unit(key),
                    _text(field.get("description") or _resolved(field, definitions).get("description", "")),
                )
                for key, field in section["properties"].items()
            ),
        )


def _sections(path: str, section: Schema, definitions: Schema) -> Iterator[tuple[str, Schema]]:
    """Every mapping with keys of its own, the outer before the inner, and where it stands."""
    yield path, section
    for key, field in section["properties"].items():
        inner, suffix = _inner(field)
        found = _resolved(inner, definitions)
        if "properties" in found:
            yield from _sections(f"{path}.{key}{suffix}".removeprefix("."), found, definitions)


def _inner(field: Schema) -> tuple[Schema, str]:
    """What stands in a field's value, and what its path has behind the key."""
    if isinstance(field.get("additionalProperties"), Mapping):
        return field["additionalProperties"], ".NAME"
    if "items" in field:
        return field.get("additionalItems", field["items"]), "[]"
    return field, ""


def _resolved(field: Schema, definitions: Schema) -> Schema:
    """What a reference means; of a short form and a whole one, or of nothing and a whole one, the whole one."""
    found: Schema = definitions[field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    forms = (_resolved(each, definitions) for each in found.get("anyOf", ()))
    return next((each for each in forms if "properties" in each), found)


def _type(field: Schema, path: str, key: str, definitions: Schema) -> str:
    if "enum" in field:
        return " or ".join(f"`{word}`" for word in field["enum"])
    inner, suffix = _inner(field)
    if "properties" in _resolved(inner, definitions):
        place = f"{path}.{key}{suffix}".removeprefix(".")
        kind = {"": "keys", ".NAME": "names, each with keys", "[]": "list"}[suffix]
        or_null = " or null" if {"type": "null"} in field.get("anyOf", ()) else ""
        return f"[{kind}](#{place.lower().replace('.', '').replace('[]', '')}){or_null}"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(each, path, key, definitions) for each in field["anyOf"]))
    if suffix:
        return f"{'names' if suffix == '.NAME' else 'list'} of {_type(inner, path, key, definitions)}"
    return TYPES[field["type"]]


def _default(key: str, field: Schema, section: Schema, definitions: Schema) -> str:
    if key in section.get("required", ()):
        return "**required**"
    if kinds := [kind for kind, keys in KEYS_OF_KINDS.items() if "kind" in section["properties"] and keys[0] == key]:
        return f"**required** of {' and '.join(kinds)}"
    if "default" in field:
        return f"`{json.dumps(field['default'])}`"
    return "its own" if "properties" in _resolved(field, definitions) else "none"


def _range(field: Schema) -> str:
    """The bounds of a number, or the form of a text."""
    field = next((each for each in field.get("anyOf", ()) if each.get("type") != "null"), field)
    bounds = [
        f"{sign} {field[name]:,}".replace(",", " ")
        for name, sign in (
            *(("minimum", "at least"), ("exclusiveMinimum", "above")),
            *(("maximum", "at most"), ("exclusiveMaximum", "below")),
        )
        if name in field and field[name] != NUMBER_MAX
    ]
    if "pattern" in field:
        bounds.append(f"`{field['pattern']}`")
    if "maxLength" in field:
        bounds.append(f"at most {field['maxLength']} characters")
    if any(name in field for name in ("minLength", "minItems", "minProperties")):
        bounds.append("not empty")
    return ", ".join(bounds)


def unit(key: str) -> str:
    """What a number counts, by the end of its key; "" where the meaning says it."""
    return next((name for end, name in UNITS.items() if key.endswith(end)), "")


def _text(description: str) -> str:
    return " ".join(description.split())


# ------------------------------------------------------------------ the settings


def _settings() -> Iterator[str]:
    yield "## Environment and flags"
    yield ""
    yield from paragraph(
        "A flag wins over the variable; that over a `pointsman dev` that serves in this folder, for its Kafka and its "
        "ClickHouse; that over the default. An empty variable is not set. What a deployment decides is in the "
        "topology; here is what a machine or an operator decides."
    )
    flags = _commands_by_flag()
    yield from table(
        ("variable", "flag", "default", "means", "commands with the flag"),
        (
            (
                f"`{variable_of(name)}`",
                f"`--{name.replace('_', '-')}`" if flags.get(name) else "none",
                _setting_default(name),
                field.description or "",
                ", ".join(f"`{path}`" for path in flags.get(name, ())),
            )
            for name, field in Settings.model_fields.items()
        ),
    )


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return KAFKA_CONFIG if name == "kafka" else f"{PREFIX}{name.upper()}"


def _setting_default(name: str) -> str:
    if name in SECRETS or name == "kafka":
        return "none"
    default = Settings.model_fields[name].default
    return "none" if default is None else f"`{default}`"


def _commands_by_flag() -> Mapping[str, list[str]]:
    """By setting, the commands that have its flag."""
    found: dict[str, list[str]] = {}
    for path, command in leaves(program()):
        options = {option for parameter in command.params for option in parameter.opts}
        for name in Settings.model_fields:
            if f"--{name.replace('_', '-')}" in options:
                found.setdefault(name, []).append(path)
    return found
