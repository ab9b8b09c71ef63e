"""The deployment of a chaos run: every process behind a link of its own to the broker, and started again when it ends.

One thread uses it, and calls `tend` often. I/O: processes, files, loopback sockets.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from agents.builtin.switched import Behaviour, write_switch
from console.chaos import clock
from console.chaos.kinds import AGENTS
from console.chaos.node import Node
from console.chaos.plan import Plan
from console.chaos.proxy import Link, Links
from console.local.broker import LocalBroker
from console.local.broker_config import BrokerDoor
from console.local.child import Child, ProcessEndedError, explanation, tail
from console.local.interrupts import shielded
from console.local.ports import free_ports
from schemas.settings import Settings
from schemas.topology import Topology, parse_topology
from schemas.topology_yaml import read_yaml
from streams.transport.admin import check_broker, ensure_topics

READY_S = 120.0
STOP_S = 15.0
# A process that ended by itself is started again after so long, as a supervisor does it.
RESTART_S = 1.0
POLL_S = 0.05
BUSY_RATE = 500.0  # from there on a broker has to be at its best
WORDS_LINES = 5
OUR_CODE = ("-m", "console.cli.main")
FLEET = Path(__file__).parent / "fleet.yaml"
PIPELINE = ("worker", "host", "store")


class Ended(NamedTuple):
    """A process that ended without having been killed. `words` are its last; `at_s` is monotonic time."""

    name: str
    at_s: float
    status: int
    words: str


@dataclass(slots=True)
class Post:
    """One process of the fleet through all its lives."""

    name: str
    lives: int = 0
    child: Child | None = None
    due_at: float | None = None
    paused: bool = False
    started_at: float = 0.0
    ready_after_s: list[float] = field(default_factory=list)
    awaited: bool = False

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]


def fleet_topology(plan: Plan, directory: Path, service_port: int) -> Topology:
    """The run's own topology: its agents reach the switch, the journal and the service."""
    data: dict[str, Any] = read_yaml(FLEET.read_text("utf-8")).data
    data |= {"partitions": plan.partitions, "delivery": plan.delivery}
    for name, agent in data["agents"].items():
        if agent.get("kind") == "http":
            agent["url"] = f"http://127.0.0.1:{service_port}/"
        else:
            agent["options"] = {"switch": str(directory / "switch.json"), "name": name}
    data["agents"]["booking_agent"]["options"]["journal"] = str(directory / "journal.jsonl")
    topology = Topology.model_validate(data)
    return parse_topology(topology.model_dump_json(), str(directory / "topology.yaml"))


class Fleet:
    """Started by `start`, stopped by `stop`; as a context it leaves no process, however it ends.

    `code` replaces how a kind of process is started: the arguments of Python that run the command `pointsman`.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        seed: int,
        *,
        code: Mapping[str, Sequence[str]] | None = None,
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.directory, self._code, self._report = directory.absolute(), dict(code or {}), report
        for name in ("logs", "run"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self.links = Links()
        names = [*_numbered("worker", plan.workers), *_numbered("host", plan.hosts), "store"]
        broker_port, self._clickhouse_port, self._service_port, *doors = free_ports(4 + len(names))
        behind = dict(zip([*names, "client"], doors, strict=True))
        self.link: dict[str, Link] = {name: self.links.open(name, port, seed=seed) for name, port in behind.items()} | {
            "clickhouse": self.links.open("clickhouse", self._clickhouse_port, seed=seed),
            "service": self.links.open("service", self._service_port, seed=seed),
        }
        self.broker = LocalBroker(
            self.directory / "broker",
            broker_port,
            short_lived=plan.rate < BUSY_RATE,
            doors=[BrokerDoor(_listener(name), port, self.link[name].port) for name, port in behind.items()],
        )
        self.node = Node(self.broker)
        self._has_slots = plan.slots
        self.topology = fleet_topology(plan, self.directory, self.link["service"].port)
        self._topology_path = self.directory / "topology.yaml"
        self._topology_path.write_text(self.topology.model_dump_json(indent=2))
        self.journal = self.directory / "journal.jsonl"
        self._behaviours: dict[str, Behaviour] = {}
        self.posts = {name: Post(name) for name in ("clickhouse", "service", *names)}
        self.ended: list[Ended] = []

    @property
    def clickhouse(self) -> str:
        """Around the link."""
        return f"http://127.0.0.1:{self._clickhouse_port}"

    @property
    def settings(self) -> Settings:
        """For who looks on: around every link."""
        return Settings.resolve({"broker": self.broker.address, "clickhouse": self.clickhouse}, {})

    def settings_of(self, name: str) -> Settings:
        """For a client behind the link of this name."""
        return Settings.resolve({"broker": f"127.0.0.1:{self.link[name].port}"}, {})

    def start(self) -> None:
        """Returns when everything serves. Raises ConfigurationError (no Java), UnreachableError, ProcessEndedError."""
        write_switch(self.directory / "switch.json", {})
        for name in ("clickhouse", "service"):
            self._begin(self.posts[name])
        self.broker.start()
        check_broker(self.settings, self.topology)
        ensure_topics(self.settings, self.topology.topics().specs(), self.topology)
        for post in self.posts.values():
            if post.child is None:
                self._begin(post)
        self.await_ready(self.posts)

    def await_ready(self, names: Sequence[str] | Mapping[str, object], timeout_s: float = READY_S) -> None:
        """Raises ProcessEndedError where one does not come to serve."""
        deadline = time.monotonic() + timeout_s
        for name in names:
            post = self.posts[name]
            while not self.is_ready(name):
                if time.monotonic() > deadline:
                    assert post.child is not None
                    raise ProcessEndedError.of(name, None, post.child.log_path)
                time.sleep(POLL_S)

    def is_ready(self, name: str) -> bool:
        """Raises ProcessEndedError when it has ended."""
        child = self.posts[name].child
        return child is not None and child.ready() is not None

    def tend(self) -> None:
        """Starts again what is due, and notes what has ended by itself. Raises UnreachableError for the broker."""
        now = time.monotonic()
        self.node.tend(now)
        for post in self.posts.values():
            child = post.child
            if post.due_at is not None and now >= post.due_at:
                self._begin(post)
            elif child is not None and not child.running:
                self._note_end(post, child, now)
            elif post.awaited and self._has_announced(post):
                post.awaited = False
                post.ready_after_s.append(now - post.started_at)

    def pids(self) -> dict[str, int]:
        """Of what runs now, and is not paused."""
        found = {name: post.child.pid for name, post in self.posts.items() if post.child and post.child.running}
        return {name: pid for name, pid in found.items() if pid is not None}

    # What can be done to it.

    def kill(self, name: str, down_s: float) -> None:
        """SIGKILL; it is started again after `down_s`."""
        post = self.posts[name]
        if post.child is not None:
            post.child.kill()
            post.child.wait(time.monotonic() + STOP_S)
            post.child = None
        post.paused, post.due_at = False, time.monotonic() + down_s

    def terminate(self, name: str, down_s: float) -> None:
        """SIGTERM; it is started again `down_s` after its end, which is waited for in `tend`."""
        post = self.posts[name]
        if post.child is not None and post.child.running:
            post.child.terminate()
        elif post.due_at is None:
            post.due_at = time.monotonic() + down_s

    def pause(self, name: str) -> None:
        """SIGSTOP: it neither reads nor answers, and its connections stay."""
        self._signal(name, signal.SIGSTOP)
        self._mark(name, paused=True)

    def go_on(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)
        self._mark(name, paused=False)

    def stop_broker(self, down_s: float, *, clean: bool) -> None:
        """It is started again after `down_s`."""
        self.node.stop(down_s, clean=clean)

    @property
    def broker_answers(self) -> bool:
        return self.node.answers

    def behave(self, agent: str, behaviour: Behaviour) -> None:
        """How an agent behaves from now on."""
        assert agent in AGENTS
        self._behaviours[agent] = behaviour
        write_switch(self.directory / "switch.json", self._behaviours)

    def set_clock(self, name: str, by_s: float) -> None:
        """Its wall clock is off by so much from now on."""
        clock.jump(self._clock_file(name), by_s)

    # Its end.

    def stop(self) -> list[str]:
        """Ends everything in order; names of those that did not end by themselves when they were told to."""
        for post in self.posts.values():
            if post.paused:
                self.go_on(post.name)
            post.due_at = None
        deaf: list[str] = []
        for kinds in (("worker", "host"), ("store",), ("clickhouse", "service")):
            stage = [post for post in self.posts.values() if post.kind in kinds and post.child is not None]
            for post in stage:
                assert post.child is not None
                post.child.terminate()
            until = time.monotonic() + STOP_S
            deaf += [post.name for post in stage if post.child is not None and not post.child.wait(until)]
        self.broker.stop()
        return [name for name in deaf if self.posts[name].kind in PIPELINE]

    def close(self) -> None:
        """Ends at once what still runs."""
        with shielded():
            for post in self.posts.values():
                if post.child is not None:
                    post.child.kill()
                    post.child.wait(time.monotonic())
            self.node.close()
            self.links.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, post: Post) -> None:
        post.lives += 1
        log = self.directory / "logs" / f"{post.name}.{post.lives}.log"
        ready = self.directory / "run" / f"{post.name}.json"
        post.child = Child(post.name, self._command(post, ready), log, ready, self._environment())
        post.child.start()
        post.due_at, post.started_at, post.awaited, post.paused = None, time.monotonic(), True, False

    def _command(self, post: Post, ready: Path) -> list[str]:
        if post.kind == "clickhouse":
            more = [str(self._clickhouse_port), str(ready), str(self.directory / "clickhouse")]
            return [sys.executable, "-m", "console.chaos.servant", "clickhouse", *more]
        if post.kind == "service":
            more = [str(self._service_port), str(ready), str(self.directory / "switch.json")]
            return [sys.executable, "-m", "console.chaos.servant", "service", *more]
        return [
            *(sys.executable, *self._code_of(post), post.kind),
            *("--broker", f"127.0.0.1:{self.link[post.name].port}"),
            *("--clickhouse", f"http://127.0.0.1:{self.link['clickhouse'].port}"),
            *("--topology", str(self._topology_path), "--stop-with-stdin", "--ready-file", str(ready)),
            *((f"--{post.kind}-slot", post.name) if self._has_slots else ()),
        ]

    def _code_of(self, post: Post) -> Sequence[str]:
        """A worker and a host read the wall clock through a file."""
        if post.kind in self._code or post.kind == "store":
            return self._code.get(post.kind, OUR_CODE)
        return ("-m", "console.chaos.clock", str(self._clock_file(post.name)))

    def _clock_file(self, name: str) -> Path:
        return self.directory / "run" / f"{name}.clock"

    def _environment(self) -> dict[str, str]:
        foreign = ("POINTSMAN_CLICKHOUSE_USER", "POINTSMAN_CLICKHOUSE_PASSWORD", "POINTSMAN_KAFKA_CONFIG")
        return {name: value for name, value in os.environ.items() if name not in foreign}

    def _has_announced(self, post: Post) -> bool:
        try:
            return post.child is not None and post.child.ready() is not None
        except ProcessEndedError:
            return False

    def _note_end(self, post: Post, child: Child, now: float) -> None:
        if not child.asked_to_end:
            words = explanation(post.kind, child.log_path) or tail(child.log_path, WORDS_LINES)
            self.ended.append(Ended(post.name, now, child.status or 0, words))
            self._report(f"the {post.name} ended by itself (status {child.status}); it is started again")
        child.wait(now)
        post.child, post.due_at = None, now + RESTART_S

    def _mark(self, name: str, *, paused: bool) -> None:
        if name == "broker":
            self.node.is_paused = paused
        else:
            self.posts[name].paused = paused

    def _signal(self, name: str, number: signal.Signals) -> None:
        if name == "broker":
            pid = self.broker.pid
        else:
            child = self.posts[name].child
            pid = child.pid if child is not None and child.running else None
        if pid is not None:
            os.kill(pid, number)


def _numbered(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number + 1}" for number in range(count)]


def _listener(name: str) -> str:
    return name.replace("-", "").upper()
