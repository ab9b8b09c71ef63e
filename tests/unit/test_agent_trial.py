"""`pointsman agents test`: each kind of outcome, as the host records it and the worker would judge it; no broker."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from tests.support.console import Said, pointsman
from tests.support.contract import breaches, promises
from tests.unit.test_docs import ROOT

Capture = pytest.CaptureFixture[str]

PROGRAM = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print("asked", request["task"]["text"], file=sys.stderr)
    print(json.dumps({"id": request["id"], "answer": "yes", "confidense": 0.9, "payload": request["task"]["payload"]}))
"""
TOPOLOGY = """
defaults: {{deadline_ms: 120000}}
agents:
  moody: {{run: "tests.support.agents_sample:moody", effect: read, timeout_ms: 20000}}
  ledger: {{run: "tests.support.agents_sample:moody", effect: write, timeout_ms: 20000}}
  cited: {{run: "agents.builtin.echo:reply_batch", kind: batch, effect: read, grounded: true, costly: true}}
  unsure: {{run: "agents.builtin.echo:reply", effect: read, options: {{confidence: 0.4}}}}
  silent: {{run: "agents.builtin.echo:reply", effect: read, options: {{confidence: null}}}}
  slow: {{run: "tests.support.agents_sample:slow", effect: read, timeout_ms: 300, options: {{log: x, wait_ms: 60000}}}}
  noisy: {{run: "tests.unit.test_agent_trial:noisy", effect: read}}
  program: {{kind: command, command: ["{python}", program.py], cwd: "{folder}", effect: read, timeout_ms: 60000}}
  service: {{kind: http, url: "{url}", effect: read, timeout_ms: 20000}}
  missing: {{run: "no_such_module:run", effect: read}}
routes:
  first:
    agents: [moody, unsure, slow]
    phrases: [good morning]
    fallback: {{agent: silent}}
  second: {{agents: [ledger, cited, noisy, program, service, missing], fallback: {{answer: "nobody knows"}}}}
default_route: first
"""


def noisy(task: Any, context: Any) -> Any:
    from agents.contract import Answer  # noqa: PLC0415  as an agent of a user's would look

    print("this must not be among the data")
    return Answer(f"{len(context.interactions)} before, {task.labels}, {task.payload}", 0.9)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"answer": "served", "confidence": 0.8, "tokens_in": 5}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(ROOT)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        path = tmp_path / "topology.yaml"
        path.write_text(TOPOLOGY.format(python=sys.executable, folder=tmp_path, url=url))
        monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
        yield
        server.shutdown()


def tried(capsys: Capture, *arguments: str) -> tuple[Said, dict[str, Any]]:
    said = pointsman(capsys, "agents", "test", *arguments, "-o", "json")
    row: dict[str, Any] = json.loads(said.out)
    assert said.code == (ExitCode.OK if row["counts"] else ExitCode.FAILED), all_of(said, row)
    return said, row


def all_of(said: Said, row: dict[str, Any]) -> str:
    """What a failed assertion tells: where one field is not as expected, another one says why."""
    return f"{json.dumps(row, indent=2)}\n{said.err}"


CASES = {
    "an answer": (["moody", "x"], {"kind": "COMPLETED", "answer": "fine", "vote_key": "key", "breaker": "success"}),
    "a batch, logged before": (["cited", "x"], {"kind": "COMPLETED", "started_logged": True, "agent_kind": "batch"}),
    "below the bound": (["unsure", "x"], {"kind": "COMPLETED", "failure": "LOW_CONFIDENCE", "breaker": "nothing"}),
    "no confidence stated": (["silent", "x"], {"confidence": None, "counts": True}),
    "NaN": (["moody", "nan"], {"confidence": None, "failure": "INVALID_CONFIDENCE", "breaker": "failure"}),
    "refused": (["moody", "refuse"], {"kind": "REFUSED", "error": "I will not", "breaker": "nothing"}),
    "failed": (["moody", "fail"], {"kind": "FAILED", "error_class": "UNREACHABLE", "breaker": "failure"}),
    "no answer at all": (["moody", "nothing"], {"error": "the agent returned NoneType, not an Answer"}),
    "too large for a record": (["moody", "huge"], {"kind": "FAILED", "error_class": "INTERNAL"}),
    "wrong input": (
        ["moody", "wrong"],
        {"means": "no agent could do it: the task ends as REJECTED"},
    ),
    "a time-out": (["slow", "x"], {"error_class": "TIMEOUT", "failure": "TIMED_OUT"}),
    "a write in doubt": (["ledger", "bug"], {"error_class": "UNKNOWN_OUTCOME", "started_logged": True}),
    "a service": (["service", "x"], {"answer": "served", "tokens_in": 5, "agent_kind": "http"}),
}


@pytest.mark.parametrize(("arguments", "expected"), CASES.values(), ids=CASES.keys())
def test_what_the_host_records_is_shown(
    topology: None, capsys: Capture, arguments: list[str], expected: dict[str, Any]
) -> None:
    said, row = tried(capsys, *arguments)
    assert {name: row[name] for name in expected} == expected, all_of(said, row)


def test_what_it_means_for_the_task_is_said(topology: None, capsys: Capture) -> None:
    for arguments, words in (
        (["unsure"], "answers.confidence_min, 0.7; on route first the next one is asked, slow"),
        (["slow"], "on route first the next one is asked, silent"),
        (["silent"], "confidence 0.75, confidence_when_unstated"),
        (["ledger", "bug"], "ESCALATED, WRITE_UNCERTAIN"),
        (["ledger", "refuse"], "the next one is asked, cited"),
        (["moody", "refuse", "--intent", "second"], "on no route of this intent"),
    ):
        said, row = tried(capsys, *arguments)
        assert words in row["means"], all_of(said, row)


def test_every_field_is_the_one_that_is_promised(topology: None, capsys: Capture) -> None:
    rows = [tried(capsys, *arguments)[1] for arguments, _ in CASES.values()]
    assert breaches(rows, promises()["pointsman agents test"]) == []


def test_a_program_is_run_and_heard(topology: None, capsys: Capture) -> None:
    said, row = tried(capsys, "program", "hello", "--payload", '{"n": [1]}')
    assert (row["answer"], row["payload"], row["confidence"]) == ("yes", '{"n":[1]}', None), all_of(said, row)
    assert "asked hello" in said.err  # its standard error
    assert "confidense, which nobody reads; did you mean confidence?" in said.err
    assert "resource limits" in said.err or "bubblewrap" in said.err


def test_what_an_agent_prints_is_not_among_the_data(topology: None, capsys: Capture) -> None:
    said, row = tried(
        capsys, "noisy", "third", "--after", "first", "--after", "second", "--label", "a=b", "--payload", "[1]"
    )
    assert row["answer"] == "2 before, {'a': 'b'}, [1]", all_of(said, row)
    assert "this must not be" in said.err


def test_people_get_a_table_and_a_phrase_stands_in_for_a_text(topology: None, capsys: Capture) -> None:
    said = pointsman(capsys, "agents", "test", "silent")
    assert said.code == ExitCode.OK
    fields = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert fields["answer"] == "good morning"
    assert "error" not in fields


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["mody"], ExitCode.NOT_FOUND, "did you mean moody?"),
        (["missing", "x"], ExitCode.INVALID, "no module no_such_module"),
        (["moody", "x", "--payload", "{"], ExitCode.USAGE, "--payload"),
        (["moody", ""], ExitCode.USAGE, "TEXT"),
        (["moody", "x", "--label", "a"], ExitCode.USAGE, "KEY=VALUE"),
    ],
)
def test_what_cannot_be_asked(
    topology: None, capsys: Capture, arguments: list[str], code: ExitCode, words: str
) -> None:
    said = pointsman(capsys, "agents", "test", *arguments)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
