"""Wrong in many ways, II: streams closed or full, encodings, ports that are taken, disks that are full or read-only.

Each row is a process of its own. I/O: processes, mounts of the test's own, loopback sockets.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from schemas.settings import Settings
from schemas.topology import load_topology
from streams.history.queries import History
from streams.transport.admin import ensure_topics
from tests.support.console import answering, topology_file
from tests.support.history import eventually
from tests.support.wrong import REPOSITORY, Process, Wrong, judge, private_mount, run, table

OK, FAILED, USAGE, INVALID = ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INVALID
SHIPPED = {"POINTSMAN_TOPOLOGY": str(REPOSITORY / "topology.yaml")}
# Neither Python's UTF-8 mode nor its coercion of the locale: as on a system that has no UTF-8 locale.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


def shell(redirected: str) -> Sequence[str]:
    """A launcher that runs the command as a shell does with these redirections."""
    return ["sh", "-c", f'exec "$@" {redirected}', "sh"]


STREAMS = [
    (">/dev/full", Wrong("a full disk behind stdout", ["validate"], FAILED, ["No space left on device"])),
    (">/dev/full", Wrong("a full disk behind help", ["--help"], FAILED, ["No space left on device"])),
    (">&-", Wrong("stdout closed", ["validate"], FAILED, ["Standard output cannot be written: it is closed"])),
    ("2>/dev/full", Wrong("a full disk behind stderr", ["nonsense"], USAGE, [])),
    ("2>&-", Wrong("stderr closed", ["results", "--limit", "0"], USAGE, [])),
    ("<&-", Wrong("stdin closed", ["submit", "-f", "-"], INVALID, ["Standard input is closed"])),
    (">&- 2>&- <&-", Wrong("everything closed", ["validate", "{place}/nothing.yaml"], FAILED, [])),
]


@pytest.mark.parametrize(("redirected", "row"), STREAMS, ids=[row.name for _, row in STREAMS])
def test_a_stream(redirected: str, row: Wrong, tmp_path: Path) -> None:
    row = Wrong(row.name, row.words, row.code, row.says, SHIPPED).at(tmp_path)
    judge(row, run(row, tmp_path, launcher=shell(redirected)))


def test_a_reader_that_goes_away_ends_it_in_silence(tmp_path: Path) -> None:
    """With more to write than a pipe holds."""
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text("".join(f"no_such_key_{number}: 1\n" for number in range(5000)))
    for form, unbuffered in (("table", ""), ("json", ""), ("json", "1")):
        words = ["validate", str(faulty), "-o", form]
        row = Wrong("", words, OK, ["ended with 0"], {"PYTHONUNBUFFERED": unbuffered})
        piped = ["sh", "-c", '{ "$@"; echo "ended with $?" >&2; } | head -1', "sh"]
        said = run(row, tmp_path, launcher=piped)
        judge(row, said)
        assert len(said.out.splitlines()) == 1
        assert said.err.splitlines() == ["ended with 0"]


ENCODINGS = [
    Wrong(
        "a path that ASCII lacks",
        ["validate", "{place}/päth.yaml"],
        INVALID,
        ["p\\xe4th.yaml"],
        {"PYTHONIOENCODING": "ascii"},
    ),
    Wrong(
        "a fault that ASCII lacks",
        ["validate", "{place}/words.yaml"],
        INVALID,
        ["na\\xefve"],
        {"PYTHONIOENCODING": "ascii"},
    ),
    Wrong(
        "a fault in Latin-1", ["validate", "{place}/words.yaml"], INVALID, ["\\u65e5"], {"PYTHONIOENCODING": "latin-1"}
    ),
    Wrong("a locale without UTF-8", ["validate", "{place}/words.yaml"], INVALID, ["\\u65e5"], ASCII),
    Wrong("a word that the locale lacks", ["submit", "naïve"], USAGE, ["LC_ALL=C.UTF-8"], ASCII),
    Wrong("help in ASCII", ["--help"], OK, ["Usage: pointsman"], ASCII),
]


@table(ENCODINGS)
def test_an_encoding(row: Wrong, tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("naïve日本: 1\nagents: {}\nroutes: {}\n", "utf-8")
    row = row.at(tmp_path)
    judge(row, run(row, tmp_path))


PORTS = [
    Wrong(
        "Kafka's port",
        ["dev", "--kafka-port", "{v4}", "--data", "{place}/d"],
        INVALID,
        ["--kafka-port: port {v4} is held by", "on 127.0.0.1"],
    ),
    Wrong(
        "ClickHouse's port on ::1 alone",
        ["dev", "--clickhouse-port", "{v6}", "--data", "{place}/d"],
        INVALID,
        ["port {v6} is held by", "on ::1"],
    ),
    Wrong(
        "the registry's port on ::1 alone",
        ["dev", "--registry-port", "{v6}", "--data", "{place}/d"],
        INVALID,
        ["port {v6} is held by", "on ::1"],
    ),
    Wrong(
        "a port for two services",
        ["dev", "--registry-port", "9", "--kafka-port", "9", "--data", "{place}/d"],
        INVALID,
        ["for another service of this pointsman"],
    ),
    Wrong(
        "a registry's own port",
        ["registry", "--listen", "127.0.0.1:{v4}"],
        INVALID,
        ["127.0.0.1:{v4} (Address already in use)"],
    ),
    Wrong(
        "a registry's own port on ::1",
        ["registry", "--listen", "[::1]:{v6}"],
        INVALID,
        ["[::1]:{v6} (Address already in use)"],
    ),
    Wrong("a metrics port", ["worker", "--metrics-port", "{v4}"], INVALID, ["127.0.0.1:{v4}: Address already in use"]),
    Wrong(
        "a history's port",
        ["store", "--clickhouse", "http://127.0.0.1:{v4}", "--data", "{place}/d"],
        INVALID,
        ["{v4}", "already"],
    ),
]


@pytest.fixture(scope="module")
def taken() -> Iterator[dict[str, str]]:
    """A port that somebody listens on at 127.0.0.1, and one that somebody listens on at ::1 alone."""
    with ExitStack() as held:
        names = {}
        for name, family, host in (("v4", socket.AF_INET, "127.0.0.1"), ("v6", socket.AF_INET6, "::1")):
            listener = held.enter_context(socket.socket(family))
            try:
                listener.bind((host, 0))
            except OSError as error:
                pytest.skip(f"no {host} here: {error.strerror}")
            listener.listen()
            names[name] = str(listener.getsockname()[1])
        yield names


@pytest.fixture(scope="module")
def deployed(broker: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a deployment of this module's own, its topics made."""
    path = topology_file(REPOSITORY, tmp_path_factory.mktemp("deployed"), "wrong-places.")
    settings, topology = Settings.resolve({"broker": broker}, {}), load_topology(path)
    ensure_topics(settings, topology.topics().specs(), topology)
    return {"POINTSMAN_BROKER": broker, "POINTSMAN_TOPOLOGY": str(path)}


@pytest.mark.broker
def test_json_is_exact_whatever_the_encoding(deployed: dict[str, str], tmp_path: Path) -> None:
    text = "naïve → 日本 👩\u200d👧 \x1b[31m\u202e"
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"text": text}) + "\n")
    words = ["submit", "-f", str(tmp_path / "tasks.jsonl"), "--wait", "-o", "jsonl"]
    with answering(deployed["POINTSMAN_BROKER"], Path(deployed["POINTSMAN_TOPOLOGY"])):
        for encoding in ("ascii", "utf-8"):
            row = Wrong("", words, OK, [], {**deployed, "PYTHONIOENCODING": encoding})
            said = run(row, tmp_path)
            judge(row, said)
            assert json.loads(said.out)["answer"] == f"echo: {text}"
            assert said.out.isascii() or encoding == "utf-8"


@pytest.mark.broker
@table(PORTS)
def test_a_port_that_is_taken(row: Wrong, taken: dict[str, str], deployed: dict[str, str], tmp_path: Path) -> None:
    row = Wrong(row.name, row.words, row.code, row.says, deployed).at(tmp_path, **taken)
    judge(row, run(row, tmp_path))


DISKS = [
    (
        "-t tmpfs -o size=4m none",
        Wrong("a disk of 4 MB", ["dev", "--data", "{place}/disk/d"], INVALID, ["3 MiB left, and 256 MiB are needed"]),
    ),
    (
        "-t tmpfs -o size=4m none",
        Wrong("a demo on a disk of 4 MB", ["demo", "--keep", "{place}/disk/d"], INVALID, ["256 MiB are needed"]),
    ),
    (
        "-t tmpfs -o ro none",
        Wrong(
            "a read-only disk",
            ["dev", "--data", "{place}/disk/d"],
            INVALID,
            ["/disk/d cannot be used: Read-only file system"],
        ),
    ),
    (
        "-t tmpfs -o ro none",
        Wrong("a demo on a read-only disk", ["demo", "--keep", "{place}/disk/d"], INVALID, ["Read-only file system"]),
    ),
    (
        "-t tmpfs -o ro none",
        Wrong(
            "a history on a read-only disk",
            ["store", "--data", "{place}/disk/d", "--clickhouse", "http://127.0.0.1:0"],
            INVALID,
            ["Read-only file system"],
        ),
    ),
    (
        "-t tmpfs -o ro none",
        Wrong(
            "a ready file on a read-only disk",
            ["host", "--ready-file", "{place}/disk/r"],
            INVALID,
            ["Read-only file system"],
        ),
    ),
]


@pytest.mark.broker
@pytest.mark.parametrize(("disk", "row"), DISKS, ids=[row.name for _, row in DISKS])
def test_a_disk(disk: str, row: Wrong, deployed: dict[str, str], tmp_path: Path) -> None:
    row = Wrong(row.name, row.words, row.code, row.says, deployed).at(tmp_path)
    with private_mount(disk, tmp_path / "disk") as launcher:
        judge(row, run(row, tmp_path, launcher=launcher))


@pytest.mark.broker
@pytest.mark.slow
def test_a_disk_that_fills_up_under_the_history_loses_nothing(broker: str, tmp_path: Path, prefix: str) -> None:
    """Results keep coming; what could not be stored is stored once there is room again."""
    deployed = {"POINTSMAN_BROKER": broker, "POINTSMAN_TOPOLOGY": str(topology_file(REPOSITORY, tmp_path, prefix))}
    words = ["dev", "--broker", broker, "--data", str(tmp_path / "disk" / "d")]
    with (
        private_mount("-t tmpfs -o size=300m none", tmp_path / "disk") as launcher,
        Process(words, tmp_path, deployed, launcher=launcher) as process,
    ):
        process.wait_for(lambda: "Ready after" in process.err, "readiness", 90)
        # Its mounts are its own: this is how others see them.
        inside = Path(f"/proc/{process.process.pid}/root{tmp_path}/disk")
        filler = inside / "filler"
        filled(filler)
        url = next(line.split()[1] for line in process.out.splitlines() if line.startswith("  ClickHouse "))
        env = {**deployed, "POINTSMAN_CLICKHOUSE": url}
        asked = ["submit", "What was the revenue of EMEA in Q2 2025?", "--wait", "--task-id", "t-1"]
        row = Wrong("", asked, OK, ["2,931,383"], env)
        judge(row, run(row, tmp_path))
        assert process.process.poll() is None
        filler.unlink()
        with closing(History(url)) as history:
            eventually(lambda: [each["kind"] for each in history.timeline("t-1")][-1:] == ["RESULT"], 60)
        process.interrupt()
        assert process.ended().code == OK


def filled(path: Path) -> None:
    """Takes all that is left of a disk."""
    with path.open("wb") as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            return
