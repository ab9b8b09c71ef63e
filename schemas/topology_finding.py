"""A rule of the topology that is broken. I/O: none."""

from __future__ import annotations

from typing import NamedTuple

from schemas.codes import FaultCode
from schemas.topology_yaml import KeyPath


class Finding(NamedTuple):
    """A broken rule: where it is best mended, in plain words, and which other keys it depends on."""

    code: FaultCode
    path: KeyPath
    message: str
    depends_on: tuple[KeyPath, ...] = ()
