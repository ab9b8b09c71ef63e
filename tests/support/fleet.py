"""A whole pipeline in real processes, as an operator runs it, to be killed at will; and its audit.

I/O: processes, Kafka, ClickHouse.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from console.local.child import Child
from console.local.ports import free_ports
from loadtest.audit import audit_at_rest
from loadtest.audit_log import Log, read_log
from loadtest.auditor import Report
from schemas.settings import KAFKA_CONFIG, Settings
from schemas.topology import Topology, load_topology
from streams.client import Client
from streams.history.queries import History
from streams.transport.admin import ensure_topics
from tests.support.waiting import deadline_in

TEXTS = [
    "What was the Q3 revenue for EMEA?",
    "Find the travel policy document",
    "Show me the account of customer C-1003",
    "Convert 5 km to miles",
    "How many errors are in the logs of the payments service?",
    "gross margin of the last quarter",
]
READY_S = 60.0
# A pipeline at rate has the broker answer a hundred times a second, whether there is anything or not. A fleet of a test
# waits most of its time, and of its broker's CPU time that would be nine tenths.
PROMPT = {"fetch.min.bytes": "1", "fetch.wait.max.ms": "500"}
STOP_S = 10.0


class Deployed(Protocol):
    """Whom a load is for."""

    @property
    def settings(self) -> Settings: ...

    @property
    def topology(self) -> Topology: ...


class Fleet:
    """Processes by name: the part of a name before the dash says which kind it is (`worker-2`). With `slots` each
    worker has one, named as it is."""

    def __init__(self, broker: str, directory: Path, topology_path: Path, *, slots: bool = False) -> None:
        self.settings = Settings.resolve({"broker": broker}, {})
        self.topology = load_topology(topology_path)
        self.children: dict[str, Child] = {}
        self._directory, self._topology_path, self._slots = directory, topology_path, slots
        (clickhouse_port,) = free_ports(1)
        self.clickhouse = f"http://127.0.0.1:{clickhouse_port}"
        clients = directory / "clients.properties"
        clients.write_text("".join(f"{key}={value}\n" for key, value in PROMPT.items()))
        self._environment = {KAFKA_CONFIG: str(clients)}
        ensure_topics(self.settings, self.topology.topics().specs())

    def start(self, *names: str) -> None:
        """Starts, and waits until all of them serve."""
        environment = {**self._environment, **os.environ}
        for name in names:
            kind = name.partition("-")[0]
            command = [
                *(sys.executable, "-m", "console.cli.main", kind),
                *("--broker", self.settings.broker, "--clickhouse", self.clickhouse),
                *("--topology", str(self._topology_path), "--stop-with-stdin"),
                *("--ready-file", str(self._directory / f"{name}.ready")),
                *(("--data", str(self._directory / "clickhouse")) if kind == "store" else ()),
                *(("--worker-slot", name) if kind == "worker" and self._slots else ()),
            ]
            child = Child(
                name, command, self._directory / f"{name}.log", self._directory / f"{name}.ready", environment
            )
            self.children[name] = child
            child.start()
        for name in names:
            wait_for(lambda name=name: self.children[name].ready() is not None, READY_S, f"{name} to serve")  # type: ignore[misc]

    def kill(self, name: str) -> None:
        """SIGKILL, as a machine's memory killer sends it."""
        child = self.children.pop(name)
        child.kill()
        child.wait(deadline_in(STOP_S))

    def stop(self, name: str) -> bool:
        """SIGTERM; whether it ended by itself in time."""
        child = self.children.pop(name)
        child.terminate()
        return child.wait(deadline_in(STOP_S))

    def pause(self, name: str) -> None:
        """SIGSTOP: it neither reads nor answers, and its connections stay."""
        self._signal(name, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self.children[name].pid
        assert pid is not None
        os.kill(pid, number)

    def said(self, name: str) -> str:
        """The log of a process."""
        return (self._directory / f"{name}.log").read_text(errors="replace")

    def log(self) -> Log:
        return read_log(self.settings, self.topology)

    def report(self, timeout_s: float = 60.0) -> Report:
        """The audit, once every accepted task has a result and the history holds what the topics do, or time is up."""
        with closing(History(self.clickhouse)) as history:
            return audit_at_rest(self.settings, self.topology, history.facts, timeout_s)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for name in self.children:
                print(f"--- {name}\n{self.said(name)[-4000:]}")
        for name in list(self.children):
            self.kill(name)


class Load(threading.Thread):
    """Submits tasks at a steady rate until it has sent them all. Their ids are `prefix` and a number."""

    def __init__(self, fleet: Deployed, texts: Sequence[str], count: int, rate: float, prefix: str = "task") -> None:
        super().__init__(name="load", daemon=True)
        self._texts, self._count, self._rate, self._prefix = texts, count, rate, prefix
        self._client = Client.of(fleet.settings, fleet.topology)
        self.sent = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            began = time.monotonic()
            while self.sent < self._count:
                due = min(self._count, int((time.monotonic() - began) * self._rate) + 1)
                self._send(range(self.sent, due))
                self.sent = due
                time.sleep(0.01)
            self._client.send([], timeout_s=120)
        except Exception as error:  # noqa: BLE001  raised by `finish`, in the test's own thread
            self.error = error
        finally:
            self._client.close()

    def _send(self, numbers: range) -> None:
        # Every third task belongs to a conversation.
        conversations = [f"c{number % 50}" if number % 3 == 0 else None for number in numbers]
        columns: dict[str, Any] = {
            "task_id": [f"{self._prefix}-{number}" for number in numbers],
            "conversation_id": conversations,
            "text": [self._texts[number % len(self._texts)] for number in numbers],
        }
        self._client.hand_over(self._client.prepare_columns(columns))

    def enough(self) -> None:
        """What is sent by now is all."""
        self._count = self.sent

    def finish(self, timeout_s: float) -> None:
        self.join(timeout_s)
        assert not self.is_alive(), "the load did not end in time"
        if self.error is not None:
            raise self.error


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    until = deadline_in(timeout_s)
    while not condition():
        assert time.monotonic() < until, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.05)
