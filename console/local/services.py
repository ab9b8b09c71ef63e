"""What runs on one machine, and how each of its processes is started.

I/O: the machine's name.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from console.local.ports import Ports
from schemas.settings import Settings

# Meant for services of the user's own; ours take no credentials.
FOREIGN_CLICKHOUSE = ("POINTSMAN_CLICKHOUSE_USER", "POINTSMAN_CLICKHOUSE_PASSWORD")
FOREIGN_KAFKA = ("POINTSMAN_KAFKA_CONFIG",)
# In the order in which they are started. At the end those that write to topics go first, then who reads them all.
SERVICES = ("store", "registry", "worker", "host")
PIPELINE = ("store", "worker", "host")
LAST = ("store", "registry")


def listed(names: Iterable[str]) -> str:
    """`store, worker and host`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything answers, and which of it is the user's own: that is used and never started or stopped."""

    directory: Path
    settings: Settings  # with the credentials of what is the user's own
    own_broker: bool
    own_clickhouse: bool
    services: tuple[str, ...] = SERVICES
    ports: Ports = field(default_factory=Ports)

    @property
    def broker(self) -> str:
        return f"127.0.0.1:{self.ports.broker}" if self.own_broker else self.settings.broker

    @property
    def clickhouse(self) -> str:
        ours = f"http://127.0.0.1:{self.ports.clickhouse}"
        return ours if self.own_clickhouse else self.settings.clickhouse.rstrip("/")

    def client_settings(self) -> Settings:
        """As our processes have them."""
        credentials: dict[str, object] = {"kafka": {}} if self.own_broker else {}
        return self.settings.model_copy(update={"broker": self.broker, "clickhouse": self.clickhouse, **credentials})

    @property
    def registry(self) -> str:
        return f"http://127.0.0.1:{self.ports.registry}"

    @property
    def slot(self) -> str:
        """The worker's: the same at each start over these data, and no other's, where several use one Kafka."""
        place = f"{socket.gethostname()}:{self.directory.resolve()}"
        return f"local-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    def wanted_ports(self) -> list[str]:
        """The fields of Ports that are listened on here."""
        ours = (
            ("broker", self.own_broker),
            ("clickhouse", self.own_clickhouse),
            ("registry", "registry" in self.services),
        )
        metrics = (f"{name}_metrics" for name in PIPELINE if name in self.services)
        return [*(name for name, own in ours if own), *metrics]

    def command(self, name: str, topology: Path, ready: Path) -> list[str]:
        """One of SERVICES, serving this topology."""
        return [
            *(sys.executable, "-m", "console.cli.main", name),
            *("--topology", str(topology)),
            *("--ready-file", str(ready), "--stop-with-stdin"),
            *self._own_flags(name),
        ]

    def _own_flags(self, name: str) -> list[str]:
        if name == "registry":
            return ["--listen", f"127.0.0.1:{self.ports.registry}"]
        metrics = getattr(self.ports, f"{name}_metrics")
        services = ["--broker", self.broker, "--clickhouse", self.clickhouse, "--metrics-port", str(metrics)]
        if name == "worker":
            services += ["--worker-slot", self.slot]
        embed = name == "store" and self.own_clickhouse
        return [*services, "--data", str(self.directory / "clickhouse")] if embed else services

    def environment(self) -> Mapping[str, str]:
        foreign = {
            *(FOREIGN_CLICKHOUSE if self.own_clickhouse else ()),
            *(FOREIGN_KAFKA if self.own_broker else ()),
        }
        return {name: value for name, value in os.environ.items() if name not in foreign}
