"""Services and programs behind the host on the real broker: order, time, memory and log are those of every agent."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import agents_program
from tests.support.agents_bench import Bench, make_topology, until
from tests.unit.test_agents_command import alive

pytestmark = pytest.mark.broker

BARE = [sys.executable, "-I", "-S", agents_program.__file__]


class Service(ThreadingHTTPServer):
    """Does what a task's text says; remembers the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.running: list[int] = []
        self.now, self.lock = 0, threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/answer"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request | {"key": self.headers["Idempotency-Key"]})
            self.server.now += 1
            self.server.running.append(self.server.now)
        word, _, rest = request["task"]["text"].partition(" ")
        if word == "sleep":
            time.sleep(float(rest))
        with self.server.lock:
            self.server.now -= 1
        if word == "hang-up":
            self.close_connection = True
            return
        body = json.dumps({"answer": rest, "payload": [each["asked"] for each in request["context"]["interactions"]]})
        self.send_response(int(rest) if word == "status" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: the base class would write to stderr."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, daemon=True)
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def bench(broker: str, prefix: str, service: Service) -> Iterator[Bench]:
    http: dict[str, Any] = {"run": None, "kind": "http", "url": service.url}
    command: dict[str, Any] = {"run": None, "kind": "command", "command": BARE}
    agents: dict[str, dict[str, Any]] = {
        "remote": {**http, "concurrency": 3},
        "remote_writer": {**http, "effect": "write"},
        "tool": {**command, "concurrency": 2, "timeout_ms": 20_000},
        "tool_writer": {**command, "effect": "write", "timeout_ms": 20_000, "concurrency": 1},
    }
    with Bench(broker, make_topology(prefix, agents)) as bench:
        yield bench


def ends(bench: Bench, agent_id: str, n: int) -> dict[str, dict[str, Any]]:
    return {each["task"]["task_id"]: each for each in bench.events(agent_id, n) if each["kind"] != "STARTED"}


def asked(text: str, **fields: Any) -> dict[str, Any]:
    return {"task_id": text, "text": text, **fields}


def test_a_service_answers_in_the_order_of_each_conversation_and_within_the_bound(
    bench: Bench, service: Service
) -> None:
    bench.host()
    texts = [f"sleep 0.2{i}" for i in range(5)]  # long enough for three to meet on a busy machine
    bench.dispatch("remote", *(asked(text, task_id=f"{c}{text}", conversation_id=c) for text in texts for c in "abcd"))
    found = ends(bench, "remote", 20)
    assert {each["kind"] for each in found.values()} == {"COMPLETED"}
    for conversation in "abcd":
        mine = [each["task"] for each in service.requests if each["task"]["conversation_id"] == conversation]
        assert [task["text"] for task in mine] == texts
        assert json.loads(found[f"{conversation}{texts[-1]}"]["payload"]) == texts[:-1], (
            "its memory of the conversation"
        )
    assert max(service.running) == 3
    keys = [each["key"] for each in service.requests]
    assert len(set(keys)) == 20
    assert keys == [each["idempotency_key"] for each in service.requests]


def test_what_a_service_does_is_in_the_log(bench: Bench) -> None:
    bench.host()
    slow = asked("sleep 5", slip={"timeout_ms": 300})
    bench.dispatch("remote", asked("say x"), asked("status 429"), asked("status 500"), asked("hang-up"), slow)
    found = {name: (each["kind"], each["error_class"]) for name, each in ends(bench, "remote", 5).items()}
    assert found == {
        "say x": ("COMPLETED", None),
        "status 429": ("FAILED", "OVERLOADED"),
        "status 500": ("FAILED", "INTERNAL"),
        "hang-up": ("FAILED", "UNREACHABLE"),
        "sleep 5": ("FAILED", "TIMEOUT"),
    }
    bench.dispatch("remote_writer", asked("say x"), asked("status 500"), asked("hang-up"))
    events = bench.events("remote_writer", 3)
    assert [each["kind"] for each in events].count("STARTED") == 3
    assert {each["task"]["task_id"]: each["error_class"] for each in events if each["kind"] == "FAILED"} == {
        "status 500": "UNKNOWN_OUTCOME",
        "hang-up": "UNKNOWN_OUTCOME",
    }


def test_a_program_answers_and_one_that_is_too_slow_is_killed_with_its_tree(bench: Bench) -> None:
    bench.host()
    first, second = asked("echo one", conversation_id="c"), asked("echo two", conversation_id="c")
    bench.dispatch("tool", first, second, asked("exit 3"), asked("descend"))
    found = ends(bench, "tool", 4)
    assert found["echo one"]["answer"] == "one"
    request = json.loads(found["echo two"]["payload"])
    assert [each["asked"] for each in request["context"]["interactions"]] == ["echo one"]
    assert (found["exit 3"]["kind"], found["exit 3"]["error_class"]) == ("FAILED", "INTERNAL")
    pids = json.loads(found["descend"]["payload"])
    assert all(map(alive, pids))
    hanging = [asked("sleep 1000", task_id=f"hang{i}", slip={"timeout_ms": 500}) for i in range(2)]
    bench.dispatch("tool", *hanging)
    found = ends(bench, "tool", 6)
    assert {found[f"hang{i}"]["error_class"] for i in range(2)} == {"TIMEOUT"}
    until(lambda: not any(map(alive, pids)))


def test_a_clean_end_of_the_host_ends_its_programs(bench: Bench) -> None:
    host = bench.host()
    bench.dispatch("tool", asked("descend"))
    pids = json.loads(ends(bench, "tool", 1)["descend"]["payload"])
    host.stop()
    until(lambda: not any(map(alive, pids)))


def test_a_host_that_is_killed_leaves_no_program_and_no_doubt_about_writes(bench: Bench, tmp_path: Path) -> None:
    host = bench.process(tmp_path)
    bench.dispatch("tool", asked("descend"))
    pids = json.loads(ends(bench, "tool", 1)["descend"]["payload"])
    assert all(map(alive, pids))
    bench.dispatch("tool_writer", asked("sleep 1000", task_id="write"))
    bench.read(bench.topics.events("tool_writer"), bool)  # STARTED
    host.kill()
    until(lambda: not any(map(alive, pids)))
    bench.host()
    assert ends(bench, "tool_writer", 1)["write"]["error_class"] == "UNKNOWN_OUTCOME"
    bench.dispatch("tool", asked("echo again"))
    assert ends(bench, "tool", 2)["echo again"]["answer"] == "again"


def test_a_card_says_what_protects_from_a_program(bench: Bench) -> None:
    bench.host()
    cards = {card["agent_id"]: card for card in bench.read_cards(4)}
    assert (cards["remote"]["kind"], cards["tool"]["kind"]) == ("http", "command")
    assert cards["remote"]["description"] == ""
    assert cards["tool"]["description"].startswith(("[resource limits only", "[bubblewrap"))
