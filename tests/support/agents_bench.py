"""A deployment with a host and no worker: tests put dispatches into inboxes and read what the agents' logs say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from agents.memory.ports import Recall
from agents.process import run_host
from schemas.codec import Codec
from schemas.records import record, table
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import Producer
from tests.support import waiting
from tests.support.fleet import PROMPT
from tests.support.waiting import PATIENCE, deadline_in

WAIT_S = 20.0
REPOSITORY = Path(__file__).resolve().parents[2]
OUTCOMES = {"COMPLETED", "FAILED", "REFUSED"}


def now_ms() -> int:
    return int(time.time() * 1000)


def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds; AssertionError where it takes too long."""
    waiting.until(condition, WAIT_S)


def make_topology(prefix: str, agents: Mapping[str, Mapping[str, Any]], **changes: Any) -> Topology:
    """One route over these agents; `limits` and the like by keyword."""
    given = {name: {"run": "agents.builtin.echo:reply", "effect": "read", **agent} for name, agent in agents.items()}
    return Topology.model_validate(
        {
            "prefix": prefix,
            "partitions": 2,
            "agents": given,
            "routes": {"all": {"agents": list(given), "fallback": {"answer": "none"}}},
            "default_route": "all",
            **changes,
        }
    )


class Bench:
    """Topics of one topology, a producer to its inboxes, and hosts."""

    def __init__(self, broker: str, topology: Topology) -> None:
        self.settings, self.topology = Settings(broker=broker, kafka=PROMPT), topology
        self.topics = topology.topics()
        ensure_topics(self.settings, self.topics.specs())
        self.codec = Codec(FileRegistry.load(), 1 << 20)
        self.producer = Producer(client_config(self.settings, topology, "producer"))
        self._hosts: list[ThreadHost] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts:
            host.stop(check=False)
        self.producer.close()

    def dispatch(self, agent_id: str, *tasks: Mapping[str, Any], partition: int = 0) -> None:
        """Append dispatches. A task is a dict of TaskSubmitted's fields; `slip` in it overrides the slip's."""
        self.send(agent_id, self.dispatches(agent_id, tasks), [self.key(task) for task in tasks], partition)

    def send(self, agent_id: str, values: Sequence[bytes], keys: Sequence[bytes], partition: int = 0) -> None:
        self.producer.send(self.topics.inbox(agent_id), partition, list(values), list(keys))
        self.producer.flush(10)

    @staticmethod
    def key(task: Mapping[str, Any]) -> bytes:
        return str(task.get("conversation_id") or task["task_id"]).encode()

    def dispatches(self, agent_id: str, tasks: Sequence[Mapping[str, Any]]) -> list[bytes]:
        slip_defaults = {
            "agent_id": agent_id,
            "attempt": 1,
            "stage": "WORK",
            "intent": "all",
            "confidence": 0.9,
            "reason": "ROUTED",
            "route_version": "v1",
            "attempts": 1,
            "timeout_ms": self.topology.agents[agent_id].timeout_ms if agent_id in self.topology.agents else 5000,
            "deadline_default_ms": now_ms() + 30_000,
            "routed_at": now_ms() * 1000,
        }
        slips = [{**slip_defaults, **task.get("slip", {})} for task in tasks]
        fields = record("TaskSubmitted")
        rows = [{"text": "hello", "submitted_at": now_ms() * 1000, **task} for task in tasks]
        columns: dict[str, Any] = {
            name: [row.get(name, fields.defaults.get(name)) for row in rows] for name in fields.arrow.names
        }
        columns["labels"] = [list((row.get("labels") or {}).items()) for row in rows]
        slip: dict[str, Any] = {name: [each[name] for each in slips] for name in slip_defaults}
        batch = table("TaskDispatched", {"slip": slip, "task": columns}, len(rows))
        return self.codec.encode(batch, "TaskDispatched")

    def read(self, topic: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Rows of a topic in partition order, from its start, as soon as there are enough; `_key` is the record's.

        Undecodable and raw records come as {"_value", "_headers"}. AssertionError after WAIT_S.
        """
        config = client_config(self.settings, self.topology, "consumer")
        source = BatchConsumer(
            config, lambda name: name, rows_max=10_000, bytes_max=1 << 26, poll_s=0.05, with_headers=True
        )
        name = self.topics.record_of(topic)
        rows: list[dict[str, Any]] = []
        try:
            source.assign({tp: low for tp, (low, _) in source.watermarks(source.partitions_of([topic])).items()})
            deadline = deadline_in(WAIT_S)
            while not enough(rows):
                assert time.monotonic() < deadline, f"{topic}: {rows}"
                for batch in source.poll():
                    found: list[dict[str, Any]]
                    if name is None:
                        headers = batch.headers or []
                        found = [{"_value": v, "_headers": h} for v, h in zip(batch.values, headers, strict=True)]
                    else:
                        found = self.codec.decode(batch.values, name).batch.to_pylist()
                    pairs = zip(found, batch.keys, batch.partitions.tolist(), strict=True)
                    rows += [{**row, "_key": key, "_partition": partition} for row, key, partition in pairs]
        finally:
            source.close()
        return rows

    def events(self, agent_id: str, n: int, kinds: set[str] = OUTCOMES) -> list[dict[str, Any]]:
        """The agent's log once it holds `n` events of these kinds, without its owners' claims."""
        topic = self.topics.events(agent_id)
        rows = self.read(topic, lambda rows: sum(1 for row in rows if row["kind"] in kinds) >= n)
        return [row for row in rows if row["kind"] != "NOTE"]

    def claims(self, agent_id: str, n: int) -> list[dict[str, Any]]:
        """Its owners' claims, once there are `n`."""
        rows = self.read(self.topics.events(agent_id), lambda rows: sum(row["kind"] == "NOTE" for row in rows) >= n)
        return [row for row in rows if row["kind"] == "NOTE"]

    def read_cards(self, n: int) -> list[dict[str, Any]]:
        return self.read(self.topics.cards, lambda rows: len(rows) >= n)

    def host(self, remembers: Recall | None = None) -> ThreadHost:
        """A host that serves, in this process."""
        host = ThreadHost(self, remembers)
        self._hosts.append(host)
        host.wait_until_ready()
        return host

    def process(self, path: Path) -> ProcessHost:
        """A host that serves, in a process of its own; `path` is a folder for its files."""
        return ProcessHost(self, path)

    def committed(self) -> dict[tuple[str, int], int]:
        """What the host's group has committed, where it has."""
        group = f"{self.topology.prefix}pointsman-host"
        source = BatchConsumer(
            client_config(self.settings, self.topology, "consumer", group=group),
            lambda name: name,
            rows_max=1,
            bytes_max=1,
            poll_s=0.1,
        )
        try:
            tps = source.partitions_of(self.topics.inboxes)
            return {
                (tp.topic, tp.partition): offset for tp, (offset, _) in source.committed(tps).items() if offset >= 0
            }
        finally:
            source.close()


class ThreadHost:
    """`run_host` in a thread."""

    def __init__(self, bench: Bench, remembers: Recall | None = None) -> None:
        self.ready: Mapping[str, object] | None = None
        self.error: BaseException | None = None
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(bench, remembers), daemon=True)
        self._thread.start()

    def _run(self, bench: Bench, remembers: Recall | None) -> None:
        try:
            run_host(bench.settings, bench.topology, ready=self._say_ready, stop=self._stop, remembers=remembers)
        except BaseException as error:  # noqa: BLE001  the test asks for it
            self.error = error
        self._ready.set()

    def _say_ready(self, facts: Mapping[str, object]) -> None:
        assert self.ready is None, "ready is said once"
        self.ready = facts
        self._ready.set()

    def wait_until_ready(self) -> None:
        assert self._ready.wait(PATIENCE * WAIT_S), "the host did not get ready"
        if self.error is not None:
            raise self.error

    def stop(self, *, check: bool = True) -> float:
        """Seconds that the end took."""
        started = time.monotonic()
        self._stop.set()
        self._thread.join(PATIENCE * 10)
        assert not self._thread.is_alive(), "the host did not end"
        if check and self.error is not None:
            raise self.error
        return time.monotonic() - started


CHILD = """
import json, pathlib, sys, threading
from agents.process import run_host
from schemas.settings import Settings
from schemas.topology import Topology
topology = Topology.model_validate_json(pathlib.Path(sys.argv[2]).read_text())
ready = pathlib.Path(sys.argv[3])
settings = Settings(broker=sys.argv[1], kafka=json.loads(sys.argv[4]))
run_host(settings, topology, ready=lambda _: ready.touch(), stop=threading.Event())
"""


class ProcessHost:
    """`run_host` in a process that can be killed."""

    def __init__(self, bench: Bench, path: Path) -> None:
        topology, ready = path / "topology.json", path / "ready"
        topology.write_text(bench.topology.model_dump_json())
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-c", CHILD, bench.settings.broker, str(topology), str(ready), json.dumps(PROMPT)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BENCH_CALLS": str(path / "calls")}
        self._process = subprocess.Popen(command, cwd=path, env=environment)
        deadline = deadline_in(WAIT_S)
        while not ready.exists():
            assert self._process.poll() is None, "the host ended"
            assert time.monotonic() < deadline, "the host did not get ready"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
