"""The processes of one machine as a whole, from the broker to the host: started together and stopped together.

I/O: processes, files, loopback sockets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from console.local.broker import JARS, LocalBroker
from console.local.child import Child, ProcessEndedError, last_words
from console.local.data import DataDirectory, versions_here
from console.local.foreign import check_clickhouse
from console.local.interrupts import shielded
from console.local.ports import Ports, choose
from console.local.services import LAST, PIPELINE, SERVICES, Site
from schemas.errors import UnreachableError
from schemas.settings import Settings
from schemas.topology import Topology

READY_TIMEOUT_S = 90.0
# Seconds after the call of `stop` at which the last of each stage is killed: below the ten that `dev` promises.
TASKS_STOP_S = 4.5
STORE_STOP_S = 7.5
BROKER_STOP_S = 9.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything answers. `metrics` by process name."""

    broker: str
    clickhouse: str
    registry: str
    metrics: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Runs the processes over `data_dir`: on a Kafka and a ClickHouse of its own, else on those that `settings` name.

    `services` are those of SERVICES that are wanted. Each listens where `named` says, else where it did at the last
    start, else on its `usual` port; a port that was not named and is taken gives way, and that is reported.

    `start` returns when every process serves. It raises ConfigurationError (a directory that cannot be used, a named
    port that is taken, no Java), UnreachableError (no broker) or ProcessEndedError (with its last words). `stop` is
    bounded and leaves no child, whatever was started.
    """

    def __init__(
        self,
        topology_path: Path,
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
        self._topology_path, self._topology = topology_path, topology
        self._usual, self._named, self._short_lived, self._report = usual, named or Ports(), short_lived, report
        self._site = Site(data_dir, settings, own_broker, own_clickhouse, tuple(services))
        self._data = DataDirectory(data_dir, report)
        self._broker: LocalBroker | None = None
        self._children: dict[str, Child] = {}

    @property
    def site(self) -> Site:
        """Where everything answers, once it was started."""
        return self._site

    @property
    def children(self) -> Mapping[str, Child]:
        return self._children

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
        if site.own_broker:
            self._start_broker(site.ports.broker)
        self._make_topics(site.client_settings())
        return self._start_children(site)

    def check(self) -> None:
        """Raises ProcessEndedError when one of the processes has ended."""
        if self._broker is not None and not self._broker.running:
            broker = self._broker
            words = broker.fault() or broker.last_words()
            raise ProcessEndedError("broker", broker.status, str(broker.log_path), words, self._data.trouble())
        for child in self._children.values():
            child.check()

    def stop(self) -> None:
        """First worker and host, then who reads what they wrote, at the end the broker. 9 s at most."""
        began = time.monotonic()
        clean = _stop_all((child for name, child in self._children.items() if name not in LAST), began + TASKS_STOP_S)
        clean &= _stop_all((child for name, child in self._children.items() if name in LAST), began + STORE_STOP_S)
        if self._broker is not None:
            self._broker.stop(began + BROKER_STOP_S - time.monotonic())
        if not clean:
            self._report("some processes did not stop in time and were killed; the logs keep what they had done")
        self._data.close()

    def kill(self) -> None:
        """Ends everything at once; what is in the topics stays."""
        with shielded():
            for child in self._children.values():
                child.kill()
            for child in self._children.values():
                child.wait(time.monotonic())
            if self._broker is not None:
                self._broker.kill()
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
        choice = choose(site.wanted_ports(), named=self._named, remembered=before, usual=self._usual)
        for note in choice.notes:
            self._report(note)
        choice.ports.or_else(before).remember(site.directory)
        return replace(site, ports=choice.ports)

    def _start_broker(self, port: int) -> None:
        began = time.monotonic()
        self._broker = LocalBroker(
            self._site.directory / "broker", port, short_lived=self._short_lived, inherit=[self._data.descriptor]
        )
        address = self._broker.start()
        self._report(f"Kafka answers at {address} ({time.monotonic() - began:.1f} s)")

    def _make_topics(self, settings: Settings) -> None:
        from streams.transport.admin import check_broker, ensure_topics  # noqa: PLC0415  librdkafka, only when used

        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                check_broker(settings, self._topology)
                break
            except UnreachableError:
                # A node that accepts connections may still be electing itself.
                if self._broker is None or not self._broker.running or time.monotonic() > deadline:
                    raise
        ensure_topics(settings, self._topology.topics().specs(), self._topology)

    def _start_children(self, site: Site) -> Endpoints:
        began = time.monotonic()
        for name in site.services:
            self._children[name] = self._child(site, name)
            self._children[name].start()
        said = {name: self._await_ready(child, began + READY_TIMEOUT_S) for name, child in self._children.items()}
        *others, last = site.services
        self._report(f"{', '.join(others)} and {last} are up ({time.monotonic() - began:.1f} s)")
        metrics = {name: f"http://127.0.0.1:{said[name]['metrics']}/metrics" for name in PIPELINE if name in said}
        return Endpoints(site.broker, site.clickhouse, site.registry, metrics)

    def _child(self, site: Site, name: str) -> Child:
        ready = site.directory / "run" / f"{name}.json"
        command = site.command(name, self._topology_path, ready)
        log = site.directory / "logs" / f"{name}.log"
        return Child(name, command, log, ready, site.environment(), inherit=[self._data.descriptor])

    def _await_ready(self, child: Child, deadline: float) -> dict[str, object]:
        while (ready := child.ready()) is None:
            if time.monotonic() > deadline:
                words = last_words(child.name, child.log_path)
                raise ProcessEndedError(child.name, None, str(child.log_path), words)
            self.check()  # whoever ends first is the one to tell of
            time.sleep(POLL_S)
        return ready


def _stop_all(children: Iterable[Child], until: float) -> bool:
    """Asks all, then waits for each; whether every one ended by itself."""
    asked = list(children)
    for child in asked:
        child.terminate()
    ended = [child.wait(until) for child in asked]
    return all(ended)
