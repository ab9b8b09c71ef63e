"""Wrong in many ways, I: command lines, topologies, settings and files that are wrong, services that are not there.

Each row runs in this process. What must be true of every failure is in tests/support/wrong.py. Broken places, streams
and encodings, Ctrl-C and bad records have tables of their own beside this one.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from tests.support.console import pointsman
from tests.support.wrong import REPOSITORY, Wrong, judge, table

Capture = pytest.CaptureFixture[str]

OK, USAGE, UNREACHABLE = ExitCode.OK, ExitCode.USAGE, ExitCode.UNREACHABLE
NOT_FOUND, INVALID = ExitCode.NOT_FOUND, ExitCode.INVALID

COMMAND_LINES = [
    Wrong("nothing at all", [], USAGE, ["Usage: pointsman", "Tasks and their results:"]),
    Wrong("a group alone", ["task"], USAGE, ["Usage: pointsman task", "show"]),
    Wrong("no such command", ["sumbit"], USAGE, ["Did you mean 'submit'?", "Try `pointsman --help`"]),
    Wrong("no such subcommand", ["topics", "aply"], USAGE, ["Did you mean 'apply'", "Try `pointsman topics --help`"]),
    Wrong(
        "no such flag", ["submit", "x", "--brokr", "a:1"], USAGE, ["No such option: --brokr; did you mean --broker?"]
    ),
    Wrong("no such form", ["results", "-o", "xml"], USAGE, ["'xml' is not one of 'table', 'json', 'jsonl'"]),
    Wrong("a number that is none", ["results", "--limit", "many"], USAGE, ["--limit", "valid integer"]),
    Wrong("a number out of range", ["results", "--limit", "0"], USAGE, ["--limit", "greater than or equal to 1"]),
    Wrong("no time at all", ["submit", "x", "--wait", "--timeout", "nan"], USAGE, ["--timeout"]),
    Wrong("a port that cannot be", ["worker", "--metrics-port", "99999"], USAGE, ["--metrics-port", "65535"]),
    Wrong("an argument is missing", ["task", "show"], USAGE, ["Missing argument 'task_id'"]),
    Wrong("a text without quotes", ["submit", "find", "the", "revenue"], USAGE, ["in quotes", 'submit "..."']),
    Wrong("a text that is no text", ["submit", "caf\udce9"], USAGE, ["Argument 2", "caf\\udce9", "LC_ALL=C.UTF-8"]),
    Wrong("nothing to submit", ["submit"], USAGE, ["Nothing to submit", "or a file with -f"]),
    Wrong("an empty text", ["submit", ""], USAGE, ["TEXT: should have at least 1 character"]),
    Wrong("a text and a file", ["submit", "x", "-f", "{place}/tasks.jsonl"], USAGE, ["not both"]),
    Wrong("one id for many tasks", ["submit", "-f", "{place}/tasks.jsonl", "--task-id", "t"], USAGE, ["--task-id"]),
    Wrong("a label without a value", ["submit", "x", "--label", "team"], USAGE, ["--label team: must be KEY=VALUE"]),
    Wrong("more than certain", ["submit", "x", "--confidence", "2"], USAGE, ["--confidence: should be less"]),
    Wrong("no such tier", ["submit", "x", "--tier", "gold"], USAGE, ["--tier", "'LOW', 'MEDIUM' or 'HIGH'"]),
    Wrong("a deadline in the past", ["submit", "x", "--deadline-ms", "-5"], USAGE, ["--deadline-ms"]),
    Wrong("no such shell", ["completion", "tcsh"], USAGE, ["'tcsh' is not one of 'bash', 'zsh', 'fish'"]),
    Wrong("no such code", ["explain", "T999"], NOT_FOUND, ["There is no code T999", "`pointsman explain` lists all"]),
    Wrong("no such agent", ["agents", "test", "revenue_agnt"], NOT_FOUND, ["did you mean revenue_agent?"]),
    Wrong("no such schema", ["schemas", "show", "TaskResults"], NOT_FOUND, ["There is no schema TaskResults"]),
    Wrong("no such kind of agent", ["init", "agent", "x", "--kind", "ftp"], USAGE, ["'python', 'http', 'command'"]),
    Wrong("no name for an agent", ["init", "agent", "Bad Name"], USAGE, ["Bad Name is no name of an agent"]),
    Wrong(
        "a payload that is no JSON",
        *(["agents", "test", "revenue_agent", "x", "--payload", "{"], USAGE, ["--payload: text that is not JSON"]),
    ),
]

SETTINGS = [
    Wrong(
        "a broker that is a web page", ["results", "--broker", "http://kafka:9092"], INVALID, ["--broker: must be HOST"]
    ),
    Wrong(
        "a broker without a port number", ["results"], INVALID, ["POINTSMAN_BROKER"], {"POINTSMAN_BROKER": "kafka:x"}
    ),
    Wrong("a broker that is nothing", ["results", "--broker", ""], INVALID, ["--broker: must be HOST:PORT"]),
    Wrong(
        "a ClickHouse without http", ["history", "select 1", "--clickhouse", "localhost"], INVALID, ["http://HOST:PORT"]
    ),
    Wrong(
        "a ClickHouse on no port that there is",
        *(["history", "select 1", "--clickhouse", "http://localhost:99999"], INVALID, ["--clickhouse: must be http"]),
    ),
    Wrong("a level that is none", ["worker"], INVALID, ["debug, info, warning"], {"POINTSMAN_LOG_LEVEL": "loud"}),
    Wrong(
        "a metrics port that is a word",
        ["worker"],
        INVALID,
        ["from 0 to 65535"],
        {"POINTSMAN_METRICS_PORT": "yes"},
    ),
    Wrong(
        "a Kafka configuration that is not there",
        *(["results"], INVALID, ["{place}/nowhere cannot be read: No such file"]),
        {"POINTSMAN_KAFKA_CONFIG": "{place}/nowhere"},
    ),
    Wrong(
        "a Kafka configuration of another form",
        *(["results"], INVALID, ["{place}/words.txt:1: not of the form name=value"]),
        {"POINTSMAN_KAFKA_CONFIG": "{place}/words.txt"},
    ),
    Wrong(
        "a Kafka property that does not exist",
        *(["results"], INVALID, ["No such configuration property", "POINTSMAN_KAFKA_CONFIG"]),
        {"POINTSMAN_KAFKA_CONFIG": "{place}/unknown.properties"},
    ),
    Wrong(
        "a Kafka property of another value",
        *(["results"], INVALID, ["Unsupported SASL mechanism", "POINTSMAN_KAFKA_CONFIG"]),
        {"POINTSMAN_KAFKA_CONFIG": "{place}/sasl.properties"},
    ),
]

VALID = """
agents:
  alpha: {run: "agents.builtin.echo:reply", effect: read}
routes:
  one: {agents: [alpha], fallback: {answer: "nobody knows"}}
default_route: one
"""
# What is done to the one above, and what is said then.
TOPOLOGIES: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "empty": (VALID, "", ["is empty"]),
    "a word": (VALID, "agents", ["must be a mapping"]),
    "cut off": ("default_route: one", "default_route: [", ["topology.yaml:7:"]),
    "a tab": ("  alpha", "\talpha", ["topology.yaml:3:1", "tab"]),
    "an anchor": ("default_route: one", "default_route: &x one", ["topology.yaml:6:16"]),
    "a key twice": ("default_route: one", "default_route: one\ndefault_route: one", ["topology.yaml:7:1"]),
    "a tag": ("effect: read", "effect: !!python/object:os.system x", ["topology.yaml:3:", "tag"]),
    "not UTF-8": ("nobody", "\ud800", ["is not UTF-8"]),
    "a password": ("default_route", "kafka: {sasl.password: hunter2}\ndefault_route", ["sasl.password"]),
    "no such effect": ("effect: read", "effect: reed", ["agents.alpha.effect", "read"]),
    "no such key": ("effect: read", "effect: read, timeout: 5", ["did you mean timeout_ms?"]),
    "no such agent": ("[alpha]", "[alpa]", ["did you mean alpha?"]),
    "no such route": ("default_route: one", "default_route: on", ["did you mean one?"]),
    "no such module": ("builtin.echo", "builtin.ecko", ["no module", "did you mean echo?"]),
    "no such function": ("echo:reply", "echo:replay", ["did you mean reply?"]),
    "no partitions": ("default_route", "partitions: 0\ndefault_route", ["partitions"]),
    "no way to end": (', fallback: {answer: "nobody knows"}', "", ["routes.one.fallback", "without an answer"]),
}

FILES = [
    Wrong("a file of tasks that is not there", ["submit", "-f", "{place}/no.jsonl"], INVALID, ["No such file"]),
    Wrong("a folder of tasks", ["submit", "-f", "{place}"], INVALID, ["Is a directory"]),
    Wrong("no tasks", ["submit", "-f", "/dev/null"], INVALID, ["holds no task"]),
    Wrong(
        "words in the place of tasks",
        *(["submit", "-f", "{place}/words.txt"], INVALID, ["words.txt:1: is not JSON"]),
    ),
    Wrong("tasks in UTF-16", ["submit", "-f", "{place}/utf16.jsonl"], INVALID, ["UTF-16", "iconv"]),
    Wrong(
        "tasks in Latin-1", ["submit", "-f", "{place}/latin1.jsonl"], INVALID, [":2: is not UTF-8 at byte 13", "iconv"]
    ),
    Wrong(
        "tasks with a number of 5,000 digits",
        *(["submit", "-f", "{place}/digits.jsonl"], INVALID, [":1: is no JSON"]),
    ),
    Wrong("tasks with half a character", ["submit", "-f", "{place}/half.jsonl"], INVALID, [":1: text:"]),
    Wrong(
        "a task that is nested 100,000 deep",
        *(["submit", "-f", "{place}/deep.jsonl"], INVALID, [":1: is nested too"]),
    ),
    Wrong("a task of 300,000 bytes", ["submit", "{large}"], INVALID, ["262144 are allowed"]),
    Wrong(
        "an intent that no route has", ["submit", "x", "--intent", "operatons"], INVALID, ["did you mean operations?"]
    ),
    Wrong(
        "a topology that is not there", ["dev", "--topology", "{place}/no.yaml"], INVALID, ["There is no topology at"]
    ),
    Wrong("a topology that is a folder", ["worker", "--topology", "{place}"], INVALID, ["Is a directory"]),
    Wrong(
        "a data directory that is a file", ["dev", "--data", "{place}/words.txt"], INVALID, ["words.txt cannot be used"]
    ),
    Wrong("a data directory below /proc", ["dev", "--data", "/proc/x"], INVALID, ["/proc/x cannot be used"]),
    Wrong("data to keep in a file", ["demo", "--keep", "{place}/words.txt"], INVALID, ["words.txt: Not a directory"]),
    Wrong("data to keep where others lie", ["demo", "--keep", "{place}"], INVALID, ["is not empty"]),
]

ABSENT = [
    Wrong(
        "no broker",
        *(["results", "--broker", "{closed}"], UNREACHABLE, ["Cannot reach the Kafka broker at {closed}"]),
    ),
    Wrong(
        "something else in the place of the broker", ["submit", "x", "--broker", "{other}"], UNREACHABLE, ["{other}"]
    ),
    Wrong(
        "no schema registry",
        *(["schemas", "push"], UNREACHABLE, ["http://{closed}"]),
        {"POINTSMAN_SCHEMA_REGISTRY": "http://{closed}"},
    ),
    Wrong("nothing that doctor asks", ["doctor", "--broker", "{closed}"], UNREACHABLE, ["fail", "http://{closed}"]),
    Wrong("no broker for the topics", ["topics", "plan", "--broker", "{closed}"], UNREACHABLE, ["{closed}"]),
    Wrong(
        "no ClickHouse", ["history", "select 1"], UNREACHABLE, ["ClickHouse at http://{closed}", "Connection refused"]
    ),
    Wrong(
        "no ClickHouse for a task", ["task", "show", "t"], UNREACHABLE, ["Cannot reach ClickHouse", "`pointsman dev`"]
    ),
    Wrong(
        "no host of that name",
        *(["history", "select 1", "--clickhouse", "http://no-such-host.invalid:8123"], UNREACHABLE, ["not known"]),
    ),
    Wrong(
        "something else in the place of ClickHouse",
        *(["history", "select 1", "--clickhouse", "http://{other}"], UNREACHABLE, ["ClickHouse at http://{other}"]),
    ),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that are wrong in many ways; the shipped topology is in force."""
    files = {
        "tasks.jsonl": b'{"text": "fine"}\n',
        "words.txt": b"words and words\n",
        "unknown.properties": b"no.such.property=1\n",
        "sasl.properties": b"security.protocol=SASL_SSL\nsasl.mechanisms=NOPE\n",
        "utf16.jsonl": '{"text": "fine"}\n'.encode("utf-16"),
        "latin1.jsonl": '{"text": "fine"}\n{"text": "naïve"}\n'.encode("latin-1"),
        "digits.jsonl": b'{"text": "x", "depth": ' + b"9" * 5000 + b"}\n",
        "half.jsonl": b'{"text": "\\ud800"}\n',
        "deep.jsonl": b'{"text": "x", "payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(REPOSITORY / "topology.yaml"))
    return tmp_path


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    """An address where nobody can listen while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


class Parrot(BaseHTTPRequestHandler):
    """A web server that is no service of ours."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello</html>")

    do_POST = do_GET  # noqa: N815  the base class's name

    def log_message(self, *_said: object) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    """The address of a service of another kind."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Parrot) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def check(row: Wrong, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    filled = row.at(place, **names)
    for name, value in filled.env.items():
        monkeypatch.setenv(name, value)
    judge(filled, pointsman(capsys, *filled.words))


@table([*COMMAND_LINES, *SETTINGS])
def test_a_command_line_or_setting(row: Wrong, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    check(row, place, capsys, monkeypatch)


@table(FILES)
def test_a_file(row: Wrong, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    check(row, place, capsys, monkeypatch, large="x" * 300_000)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology(name: str, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "topology.yaml"
    old, new, says = TOPOLOGIES[name]
    path.write_bytes(VALID.replace(old, new).encode("utf-8", "surrogatepass"))
    # Checked by itself, its faults are data; where it is to be used, they end the command.
    for words in (["validate", str(path)], ["dev", "--topology", str(path), "--data", str(place / "data")]):
        check(Wrong("", words, INVALID, says), place, capsys, monkeypatch)
    assert "hunter2" not in pointsman(capsys, "validate", str(path)).out
    assert not (place / "data").exists()


def test_the_topology_that_the_wrong_ones_are_made_of_is_right(place: Path, capsys: Capture) -> None:
    (place / "topology.yaml").write_text(VALID)
    assert pointsman(capsys, "validate", str(place / "topology.yaml")).code == OK


@table(ABSENT)
def test_a_service_that_is_not_there(
    row: Wrong, place: Path, closed: str, other: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_CLICKHOUSE", f"http://{closed}")
    check(row, place, capsys, monkeypatch, closed=closed, other=other)
