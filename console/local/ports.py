"""Which loopback ports the services of a data directory listen on: the same at every start where nobody took them.

I/O: loopback sockets, /proc, one small file.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from itertools import chain, repeat
from pathlib import Path
from random import SystemRandom

from console.local.holders import holder_of, refusal
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

FILE = "ports.json"
CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")
LASTING_FROM = 20_000
"""What is below is full of services that people know by their ports."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each service listens; 0 means any."""

    broker: int = 0
    clickhouse: int = 0
    registry: int = 0
    store_metrics: int = 0
    worker_metrics: int = 0
    host_metrics: int = 0

    @classmethod
    def remembered(cls, directory: Path) -> Ports:
        """What `remember` wrote there; all 0 where there is nothing usable."""
        try:
            kept = json.loads((directory / FILE).read_text())
        except (OSError, ValueError):
            return cls()
        known = {each.name for each in fields(cls)}
        usable = {name: port for name, port in kept.items() if name in known} if isinstance(kept, dict) else {}
        return cls(**{name: port for name, port in usable.items() if isinstance(port, int) and 0 < port < 2**16})

    def or_else(self, other: Ports) -> Ports:
        """These, and the other's where there is none: a start that uses a Kafka elsewhere forgets no port of ours."""
        return Ports(**{name: port or getattr(other, name) for name, port in asdict(self).items()})

    def remember(self, directory: Path) -> None:
        (directory / FILE).write_text(json.dumps(asdict(self)) + "\n")


# Taken where nobody holds them, so that every other command finds them without being told.
USUAL = Ports(broker=9092, clickhouse=8123, registry=8081)
# What people call them, and the flag that names a port.
LABELS: Mapping[str, str] = {
    "broker": "Kafka",
    "clickhouse": "ClickHouse",
    "registry": "the schema registry",
    "store_metrics": "the store's metrics",
    "worker_metrics": "the worker's metrics",
    "host_metrics": "the host's metrics",
}
FLAGS: Mapping[str, str] = {
    "broker": "--kafka-port",
    "clickhouse": "--clickhouse-port",
    "registry": "--registry-port",
}


class Claims:
    """Ports that a supervisor has chosen and nobody listens on yet: two that start together do not choose the same.

    A name in Linux' abstract namespace each, which is gone with the process; elsewhere nothing is claimed.
    """

    def __init__(self) -> None:
        self._held, self._ours = ExitStack(), set[int]()

    def claim(self, port: int) -> bool:
        """Whether the port is ours now."""
        if not sys.platform.startswith("linux"):
            return True
        made = socket.socket(socket.AF_UNIX)
        try:
            made.bind(f"\0pointsman-port-{port}")
        except OSError:
            made.close()
            return False
        self._held.enter_context(made)
        self._ours.add(port)
        return True

    def __contains__(self, port: int) -> bool:
        return port in self._ours

    def close(self) -> None:
        self._held.close()


@dataclass(frozen=True, slots=True)
class Choice:
    """The ports to listen on, and a sentence for each that could not be what was expected."""

    ports: Ports
    notes: tuple[str, ...] = ()


def choose(wanted: Iterable[str], claims: Claims, *, named: Ports, remembered: Ports, usual: Ports) -> Choice:
    """A port for each of the `wanted` services: the one named, else that of an earlier start, else the usual one.

    All are claimed. What is remembered or usual gives way to whoever has it. Raises ConfigurationError, with every
    port at once, where one that was named is taken.
    """
    chosen: dict[str, int] = {}
    notes: list[str] = []
    faults: list[str] = []
    for name in wanted:
        asked, kept = getattr(named, name), getattr(remembered, name)
        expected = asked or kept or getattr(usual, name)
        why_not = _why_not(expected, claims)
        if expected and why_not is None:
            chosen[name] = expected
        elif asked:
            faults.append(
                f"{FLAGS[name]}: port {asked} {why_not}. Free it, name another one, or leave the flag out: then a free "
                "one is taken."
            )
        else:
            chosen[name] = next(port for port in iter(lambda: free_ports(1)[0], 0) if claims.claim(port))
            if expected:
                which = f"port {expected} of the last start" if kept else f"port {expected}"
                notes.append(f"{which} {why_not}: {LABELS[name]} listens on {chosen[name]} instead")
    if faults:
        raise ConfigurationError("\n".join(faults), code=ErrorCode.PORT_TAKEN)
    return Choice(Ports(**chosen), tuple(notes))


def _why_not(port: int, claims: Claims) -> str | None:
    if not port:
        return None
    if (holder := holder_of(port)) is not None:
        return str(holder)
    if port in claims:
        return "is for another service of this pointsman"
    return None if claims.claim(port) else "is taken by another pointsman, which is about to listen there"


def free_ports(count: int) -> list[int]:
    """Ports that nobody holds now on either loopback address; all held at once while choosing, so they differ.

    They are none of those that the kernel gives to who connects somewhere, as long as it leaves enough: between two
    lives of a service any client's connection might take its port.
    """
    with ExitStack() as held:
        found: list[int] = []
        for candidate in chain(_lasting(), repeat(0)):
            if len(found) == count:
                break
            each = held.enter_context(socket.socket())
            try:
                each.bind(("127.0.0.1", candidate))
            except OSError:
                if candidate:
                    continue
                raise
            port = int(each.getsockname()[1])
            if refusal(port, socket.AF_INET6, "::1") != errno.EADDRINUSE:
                found.append(port)
        return found


def _lasting() -> list[int]:
    """Ports below the kernel's range for connections, in any order; none where that range is unknown or begins low."""
    try:
        first = int(CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return []
    usable = range(LASTING_FROM, first)
    return SystemRandom().sample(usable, len(usable))
