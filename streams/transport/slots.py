"""A process's slot: the name of a place that stays when processes come and go, and what it is worth to their group.

A member with a slot is a static member (KIP-345). Whoever starts again in the slot has the partitions of the former one
at once, in the same generation, while all others go on; the broker refuses what the former one still commits. I/O: the
machine's name.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable

HOSTNAME = "@hostname"


def slot_name(slot: str) -> str:
    """The slot that a setting names."""
    return socket.gethostname() if slot == HOSTNAME else slot


def instance_of(slot: str | None, topics: Iterable[str]) -> str | None:
    """The group's name for the member that reads these topics in the slot; None without a slot.

    Who reads other topics is another member: of a static one that comes back the group does not look at what it
    subscribes to, and it would be given what its former self read.
    """
    if slot is None:
        return None
    digest = hashlib.sha256("\n".join(sorted(topics)).encode()).hexdigest()[:8]
    return f"{slot_name(slot)}-{digest}"
