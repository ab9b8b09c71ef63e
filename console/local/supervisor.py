"""The processes of one machine as a whole, from the broker to the host: started together and stopped together.

I/O: processes, files, loopback sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from console.local.broker import LocalBroker
from console.local.child import Child, ProcessEndedError
from console.local.crew import Crew
from console.local.data import DataDirectory, versions_here
from console.local.foreign import check_clickhouse
from console.local.interrupts import shielded
from console.local.java import JARS
from console.local.ports import Claims, Ports, choose
from console.local.restarts import ENDS_MAX, Restarts
from console.local.services import PIPELINE, SERVICES, Site, listed
from schemas.errors import UnreachableError
from schemas.settings import Settings
from schemas.topology import Topology

READY_TIMEOUT_S = 90.0
# Seconds after the call of `stop` at which the broker, the last to go, is killed: below the ten that `dev` promises.
BROKER_STOP_S = 9.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything answers. `metrics` by process name."""

    broker: str
    clickhouse: str
    registry: str
    metrics: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """By the names that the settings of a client have."""
        return {"broker": self.broker, "clickhouse": self.clickhouse}


class Supervisor:
    """Runs the processes over `data_dir`: on a Kafka and a ClickHouse of its own, else on those that `settings` name.

    `services` are those of SERVICES that are wanted. Each listens where `named` says, else where it did at the last
    start, else on its `usual` port; a port that was not named and is taken gives way, and that is reported. The
    processes read a copy of the topology: what its file says later reaches none of them, however often one is started
    again, until `apply` gives them another.

    `start` returns when every process serves. It raises ConfigurationError (a directory that cannot be used, a named
    port that is taken, no Java), UnreachableError (no broker) or ProcessEndedError (with its last words). `stop` is
    bounded and leaves no child, whatever was started.
    """

    def __init__(
        self,
        topology_text: bytes,
        topology: Topology,
        data_dir: Path,
        settings: Settings,
        *,
        own_broker: bool = True,
        own_clickhouse: bool = True,
        usual: Ports,
        named: Ports | None = None,
        services: Sequence[str] = SERVICES,
        short_lived: bool = False,
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._text, self._topology = topology_text, topology
        self._usual, self._named, self._short_lived, self._report = usual, named or Ports(), short_lived, report
        self._site = Site(data_dir, settings, own_broker, own_clickhouse, tuple(services))
        self._data = DataDirectory(data_dir, report)
        self._claims = Claims()
        self._broker: LocalBroker | None = None
        self._broker_restarts = Restarts()
        self._crew = Crew(self._site, self._data, report)

    @property
    def site(self) -> Site:
        """Where everything answers, once it was started."""
        return self._site

    @property
    def topology(self) -> Topology:
        """The one in force."""
        return self._topology

    @property
    def children(self) -> Mapping[str, Child]:
        return self._crew.children

    @property
    def broker(self) -> LocalBroker | None:
        """The broker of our own, once it was started."""
        return self._broker

    def start(self) -> Endpoints:
        site = self._site
        if not site.own_clickhouse:
            check_clickhouse(site.settings)
        self._data.open(versions_here(JARS if site.own_broker else None, embedded=site.own_clickhouse))
        self._site = site = self._with_ports(site)
        self._crew = Crew(site, self._data, self._report)
        if site.own_broker:
            self._start_broker(site.ports.broker)
        began = time.monotonic()
        self._make_topics(self._topology)
        self._report(f"the topics are there ({time.monotonic() - began:.1f} s)")
        began = time.monotonic()
        snapshot = self.snapshot(self._text)
        self._forget_snapshots(but=snapshot)
        said = self._crew.start(snapshot, self.check)
        self._report(f"{listed(site.services)} are up ({time.monotonic() - began:.1f} s)")
        metrics = {name: f"http://127.0.0.1:{said[name]['metrics']}/metrics" for name in PIPELINE if name in said}
        return Endpoints(site.broker, site.clickhouse, site.registry, metrics)

    def check(self) -> None:
        """Raises ProcessEndedError when one of the processes has ended."""
        if (ended := self._broker_end()) is not None:
            raise ended
        self._crew.check()

    def tend(self) -> None:
        """Starts again what has ended, after a pause. Raises what `start` does when that does not help."""
        self._tend_broker()
        self._crew.tend()

    def snapshot(self, text: bytes) -> Path:
        """A copy of a topology for the processes to read, of which no editor knows."""
        path = self._site.directory / "run" / f"topology-{blake2b(text, digest_size=6).hexdigest()}.yaml"
        path.write_bytes(text)
        return path

    def _forget_snapshots(self, but: Path) -> None:
        for other in but.parent.glob("topology-*.yaml"):
            if other != but:
                other.unlink(missing_ok=True)

    def apply(self, topology: Topology, snapshot: Path, services: Iterable[str]) -> None:
        """Makes the topics that this topology has more, and lets these services serve it, in new processes.

        Raises PointsmanError where that fails; then the topology of before is in force.
        """
        self._make_topics(topology)
        self._crew.replace([name for name in self._site.services if name in set(services)], snapshot)
        self._topology = topology
        self._forget_snapshots(but=snapshot)

    def stop(self) -> None:
        """First worker and host, then who reads what they wrote, at the end the broker. 9 s at most."""
        began = time.monotonic()
        clean = self._crew.stop(began)
        if self._broker is not None:
            self._broker.stop(began + BROKER_STOP_S - time.monotonic())
        if not clean:
            self._report("some processes did not stop in time and were killed; the logs keep what they had done")
        self._claims.close()
        self._data.close()

    def kill(self) -> None:
        """Ends everything at once; what is in the topics stays."""
        with shielded():
            self._crew.kill()
            if self._broker is not None:
                self._broker.kill()
            self._claims.close()
            self._data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except BaseException:
            self.kill()
            raise

    def _with_ports(self, site: Site) -> Site:
        before = Ports.remembered(site.directory)
        choice = choose(site.wanted_ports(), self._claims, named=self._named, remembered=before, usual=self._usual)
        for note in choice.notes:
            self._report(note)
        choice.ports.or_else(before).remember(site.directory)
        return replace(site, ports=choice.ports)

    def _start_broker(self, port: int) -> None:
        self._report(f"starting Kafka on port {port}")
        began = time.monotonic()
        self._broker = LocalBroker(
            self._site.directory / "broker", port, short_lived=self._short_lived, inherit=[self._data.descriptor]
        )
        self._broker_restarts.started(began)
        address = self._broker.start()
        self._report(f"Kafka answers at {address} ({time.monotonic() - began:.1f} s)")

    def _broker_end(self) -> ProcessEndedError | None:
        broker = self._broker
        if broker is None or broker.running:
            return None
        words = broker.fault() or broker.last_words()
        return ProcessEndedError("broker", broker.status, broker.log_path, words, self._data.trouble())

    def _tend_broker(self) -> None:
        ended = self._broker_end()
        if ended is None or self._broker is None:
            return
        due, now = self._broker_restarts.due_at, time.monotonic()
        if due is None:
            pause = self._broker_restarts.ended(now)
            if pause is None or self._data.trouble():
                raise ended
            self._report(f"{ended.headline}; starting it again in {pause:.0f} s (its log: {self._broker.log_path})")
        elif now >= due:
            try:
                self._start_broker(self._site.ports.broker)
            except UnreachableError:
                if self._broker_restarts.in_a_row >= ENDS_MAX:
                    raise

    def _make_topics(self, topology: Topology) -> None:
        from streams.transport.admin import check_broker, ensure_topics  # noqa: PLC0415  librdkafka, only when used

        settings = self._site.client_settings()
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                check_broker(settings, topology)
                break
            except UnreachableError:
                # A node that accepts connections may still be electing itself.
                if self._broker is None or not self._broker.running or time.monotonic() > deadline:
                    raise
        ensure_topics(settings, topology.topics().specs(), topology)
