"""Which loopback ports the services of a data directory listen on: the same at every start where nobody took them.

I/O: loopback sockets, one small file.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from console.local.broker import free_ports

FILE = "ports.json"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where broker and ClickHouse listen; as a wish, 0 means any."""

    broker: int = 0
    clickhouse: int = 0

    def or_free(self) -> Ports:
        """These where nobody holds them, else free ones."""
        spare = free_ports(2)
        wanted = (self.broker, self.clickhouse)
        return Ports(
            *(port if port and port_is_free(port) else other for port, other in zip(wanted, spare, strict=True))
        )

    @classmethod
    def remembered(cls, directory: Path) -> Ports | None:
        """What `remember` wrote there; None where there is nothing usable."""
        try:
            return cls(**json.loads((directory / FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def remember(self, directory: Path) -> None:
        (directory / FILE).write_text(json.dumps(asdict(self)) + "\n")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
