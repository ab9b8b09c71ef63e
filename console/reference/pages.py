"""Which files are made out of the program, and how. I/O: none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from console.reference import codes, commands, configuration
from schemas.topology_schema import topology_schema


def _schema() -> str:
    return json.dumps(topology_schema(), indent=2) + "\n"


# By path from the root of the repository. A test holds each against its file.
FILES: Mapping[str, Callable[[], str]] = {
    "docs/codes.md": codes.page,
    "docs/commands.md": commands.page,
    "docs/configuration.md": configuration.page,
    "schemas/topology.schema.json": _schema,
}
