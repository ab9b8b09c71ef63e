"""The processes of one machine as a whole: broker, store, worker, host, started together and stopped together.

I/O: processes, files, loopback sockets.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from console.local.broker import LocalBroker
from console.local.child import Child, ProcessEndedError, tail
from console.local.ports import Ports
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError
from schemas.settings import Settings
from schemas.topology import Topology

READY_TIMEOUT_S = 90.0
# Seconds after the call of `stop` at which the last of each stage is killed: below the ten that `dev` promises.
TASKS_STOP_S = 4.5
STORE_STOP_S = 7.5
BROKER_STOP_S = 9.0
POLL_S = 0.05
# Meant for services of somebody else's; ours take no credentials.
FOREIGN_CLICKHOUSE = ("POINTSMAN_CLICKHOUSE_USER", "POINTSMAN_CLICKHOUSE_PASSWORD")
FOREIGN_KAFKA = ("POINTSMAN_KAFKA_CONFIG",)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything answers. `metrics` by process name."""

    broker: str
    clickhouse: str
    metrics: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Runs the processes over `data_dir`, on a broker of its own, or else on the one that `settings` name.

    `wished` ports are taken at the first start where they are free; later starts take those of the first.

    `start` returns when every process serves. It raises ConfigurationError (another supervisor on this directory, no
    Java), UnreachableError (no broker) or ProcessEndedError (with the end of the log). `stop` is bounded and leaves
    no child, whatever was started.
    """

    def __init__(
        self,
        topology_path: Path,
        topology: Topology,
        data_dir: Path,
        settings: Settings,
        *,
        own_broker: bool,
        wished: Ports,
        short_lived: bool = False,
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._topology_path, self._topology, self._dir = topology_path, topology, data_dir
        self._own_broker, self._wished, self._report = own_broker, wished, report
        self._short_lived = short_lived
        self._settings = settings.model_copy(update={"kafka": {}}) if own_broker else settings
        self._broker: LocalBroker | None = None
        self._children: dict[str, Child] = {}
        self._lock: IO[str] | None = None

    @property
    def children(self) -> Mapping[str, Child]:
        return self._children

    @property
    def broker(self) -> LocalBroker | None:
        """The broker of our own, once it was started."""
        return self._broker

    def start(self) -> Endpoints:
        self._take_lock()
        for folder in ("logs", "run"):
            (self._dir / folder).mkdir(exist_ok=True)
        ports = (Ports.remembered(self._dir) or self._wished).or_free()
        ports.remember(self._dir)
        broker = self._start_broker(ports.broker) if self._own_broker else self._settings.broker
        self._make_topics(broker)
        return self._start_children(broker, f"http://127.0.0.1:{ports.clickhouse}")

    def check(self) -> None:
        """Raises ProcessEndedError when one of the processes has ended."""
        if self._broker is not None and not self._broker.running:
            log = self._broker.log_path
            raise ProcessEndedError("broker", self._broker.status, str(log), tail(log))
        for child in self._children.values():
            child.check()

    def stop(self) -> None:
        """Worker and host first, together; the store when they wrote their last; the broker at the end. 9 s at most."""
        began = time.monotonic()
        tasks = [child for name, child in self._children.items() if name != "store"]
        store = [child for name, child in self._children.items() if name == "store"]
        clean = _stop_all(tasks, began + TASKS_STOP_S)
        clean &= _stop_all(store, began + STORE_STOP_S)
        if self._broker is not None:
            self._broker.stop(began + BROKER_STOP_S - time.monotonic())
        if not clean:
            self._report("some processes did not stop in time and were killed; the logs keep what they had done")
        self._release_lock()

    def kill(self) -> None:
        """Ends everything at once; what is in the topics stays."""
        for child in self._children.values():
            child.kill()
        if self._broker is not None:
            self._broker.kill()
        self._release_lock()

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

    def _take_lock(self) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        lock = (self._dir / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ConfigurationError(
                f"{self._dir} is in use by another pointsman. Stop that one, or choose another with --data DIR.",
                code=ErrorCode.DIRECTORY_IN_USE,
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _start_broker(self, port: int) -> str:
        began = time.monotonic()
        self._broker = LocalBroker(self._dir / "broker", port, short_lived=self._short_lived)
        address = self._broker.start()
        self._report(f"Kafka answers at {address} ({time.monotonic() - began:.1f} s)")
        return address

    def _make_topics(self, broker: str) -> None:
        from streams.transport.admin import check_broker, ensure_topics  # noqa: PLC0415  librdkafka, only when used

        settings = self._settings.model_copy(update={"broker": broker})
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

    def _start_children(self, broker: str, clickhouse: str) -> Endpoints:
        began = time.monotonic()
        for name, extra in {"store": ["--data", str(self._dir / "clickhouse")], "worker": [], "host": []}.items():
            command = [*self._command(name, broker, clickhouse), *extra]
            log = self._dir / "logs" / f"{name}.log"
            self._children[name] = Child(name, command, log, self._ready_path(name), self._environment())
            self._children[name].start()
        said = {name: self._await_ready(child, began + READY_TIMEOUT_S) for name, child in self._children.items()}
        self._report(f"store, worker and host are up ({time.monotonic() - began:.1f} s)")
        metrics = {name: f"http://127.0.0.1:{ready['metrics']}/metrics" for name, ready in said.items()}
        return Endpoints(broker, str(said["store"].get("clickhouse", clickhouse)), metrics)

    def _command(self, name: str, broker: str, clickhouse: str) -> list[str]:
        return [
            sys.executable,
            *("-m", "console.cli.main", name),
            *("--broker", broker),
            *("--clickhouse", clickhouse),
            *("--topology", str(self._topology_path)),
            *("--metrics-port", "0"),
            *("--ready-file", str(self._ready_path(name))),
            "--stop-with-stdin",
        ]

    def _environment(self) -> dict[str, str]:
        foreign = {*FOREIGN_CLICKHOUSE, *(FOREIGN_KAFKA if self._own_broker else ())}
        return {name: value for name, value in os.environ.items() if name not in foreign}

    def _ready_path(self, name: str) -> Path:
        return self._dir / "run" / f"{name}.json"

    def _await_ready(self, child: Child, deadline: float) -> dict[str, object]:
        while (ready := child.ready()) is None:
            if time.monotonic() > deadline:
                raise ProcessEndedError(child.name, None, str(child.log_path), tail(child.log_path))
            self.check()  # whoever ends first is the one to tell of
            time.sleep(POLL_S)
        return ready


def _stop_all(children: list[Child], until: float) -> bool:
    """Asks all, then waits for each; whether every one ended by itself."""
    for child in children:
        child.terminate()
    ended = [child.wait(until) for child in children]
    return all(ended)
