"""What a command works on: settings out of flags and environment, and the topology that they name.

I/O: reads the topology file, and where a `dev` of this folder answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.nearby import serving
from schemas.settings import Settings
from schemas.topology import Topology, load_topology


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the services are and what runs on them. `topology_path` is the file that `topology` was read from."""

    settings: Settings
    topology: Topology
    topology_path: Path


def load_settings(flags: Mapping[str, object]) -> Settings:
    """Raises ConfigurationError when a flag or a variable cannot be used."""
    return Settings.resolve(flags, os.environ, serving())


def load(flags: Mapping[str, object]) -> Deployment:
    """Raises ConfigurationError, for the topology with every fault at once."""
    settings = load_settings(flags)
    if not settings.topology.exists():
        raise ConfigurationError(
            f"There is no topology at {settings.topology.resolve()}. Name one with --topology FILE or "
            "POINTSMAN_TOPOLOGY, or go to the folder that has it.",
            code=ErrorCode.NO_TOPOLOGY,
        )
    return Deployment(settings, load_topology(settings.topology), settings.topology)
