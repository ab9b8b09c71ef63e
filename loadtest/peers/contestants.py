"""The peers: what each one is, how it is installed, and how it is started.

I/O: files, processes of installers.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version as installed
from pathlib import Path

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parent.parent
OURS = "pointsman"
SETUP_TIMEOUT_S = 900.0
ENV_PYTHON = ".venv/bin/python"


class NotInstalledError(Exception):
    """This peer cannot take part, for the reason that it says."""


@dataclass(frozen=True)
class Contestant:
    """One peer. `setup` installs it where it is stale (NotInstalledError says why it cannot); `command` starts it.

    The command gets the broker's address and the topology's file; all else a peer is told in the file that PEER_CONFIG
    names. `commits` is False where positions are kept elsewhere than in Kafka; `peeks` is True where the framework
    reads what no transaction has committed yet: that peer is stopped while the gate is closed.
    """

    name: str
    what: str
    version: Callable[[], str]
    setup: Callable[[], None]
    command: Callable[[str, Path], list[str]]
    commits: bool = True
    peeks: bool = False


def _nothing() -> None:
    """It runs in the product's own environment."""


def _locked(folder: str, package: str) -> Callable[[], str]:
    def version() -> str:
        found = re.search(
            rf"^{re.escape(package)}==(\S+)", (PEERS / folder / "requirements.lock").read_text(), re.MULTILINE
        )
        return found[1] if found else "unknown"

    return version


def _environment(folder: str) -> Callable[[], None]:
    """A virtual environment of its own, from its lock."""

    def setup() -> None:
        home, python = PEERS / folder, PEERS / folder / ENV_PYTHON
        lock, stamp = home / "requirements.lock", home / ".venv" / ".installed"
        if _is_fresh(stamp, [lock]):
            return
        _run([sys.executable, "-m", "venv", str(home / ".venv")])
        quiet = ("--quiet", "--disable-pip-version-check")
        _run([str(python), "-m", "pip", "install", *quiet, "--require-hashes", "-r", str(lock)])
        stamp.write_text(_digest([lock]))

    return setup


def _digest(sources: Iterable[Path]) -> str:
    return blake2b(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()


def _is_fresh(stamp: Path, sources: Iterable[Path]) -> bool:
    """Whether what was made was made of these: a checkout touches files that it does not change."""
    return stamp.exists() and stamp.read_text() == _digest(sources)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{command[0]}: {error}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalledError(f"`{' '.join(command[:4])} ...` failed: {words[-1] if words else done.returncode}")


def _script(folder: str, python: str | None = None, *flags: str) -> Callable[[str, Path], list[str]]:
    def command(_broker: str, _topology: Path) -> list[str]:
        interpreter = sys.executable if python is None else str(PEERS / folder / python)
        return [interpreter, *flags, str(PEERS / folder / "main.py")]

    return command


def _worker(broker: str, topology: Path) -> list[str]:
    flags = ("--broker", broker, "--topology", str(topology))
    return [sys.executable, "-m", "console.cli.main", "worker", *flags]


KAFKA_STREAMS = PEERS / "kafka_streams"
JAR = KAFKA_STREAMS / "target" / "peer.jar"


def _build_java() -> None:
    sources = [
        KAFKA_STREAMS / "pom.xml",
        *(KAFKA_STREAMS / "src").rglob("*.java"),
        *(ROOT / "schemas/avro").glob("*.avsc"),
    ]
    stamp = JAR.parent / ".built"
    if _is_fresh(stamp, sources):
        return
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise NotInstalledError(f"{tool} is missing")
    _run(["mvn", "--quiet", "--batch-mode", "-f", str(KAFKA_STREAMS / "pom.xml"), "package"])
    stamp.write_text(_digest(sources))


def _java(_broker: str, _topology: Path) -> list[str]:
    heap = ("-Xms512m", "-Xmx1g", "-XX:+UseParallelGC")
    quiet = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.apache.avro.specific.use_custom_coders=true")
    trusted = "-Dorg.apache.avro.SERIALIZABLE_PACKAGES=pointsman"  # Avro makes classes of trusted packages only
    return ["java", *heap, *quiet, trusted, "-cp", f"{JAR}:{KAFKA_STREAMS / 'target' / 'lib'}/*", "peer.Main"]


def _java_version() -> str:
    found = re.search(r"<kafka.version>([^<]+)<", (KAFKA_STREAMS / "pom.xml").read_text())
    return found[1] if found else "unknown"


def _ours() -> str:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],  # noqa: S607  whatever git there is
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return f"{installed('pointsman')} ({commit or 'no commit'})"


def _client() -> str:
    return f"confluent-kafka {installed('confluent-kafka')}, fastavro {installed('fastavro')}"


CONTESTANTS: Mapping[str, Contestant] = {
    each.name: each
    for each in (
        Contestant(OURS, "the product's worker, all of it", _ours, _nothing, _worker),
        Contestant(
            "plain-loop", "confluent-kafka + fastavro, record by record", _client, _nothing, _script("plain_loop")
        ),
        Contestant("batched-loop", "the same loop, batched by hand", _client, _nothing, _script("batched_loop")),
        Contestant(
            "stock-faust",
            "faust-streaming on aiokafka, its best settings",
            _locked("stock_faust", "faust-streaming"),
            _environment("stock_faust"),
            _script("stock_faust", ENV_PYTHON),
            peeks=True,
        ),
        Contestant("kafka-streams", "Kafka Streams, Java, one stream thread", _java_version, _build_java, _java),
        Contestant(
            "quix-streams",
            "Quix Streams",
            _locked("quix_streams", "quixstreams"),
            _environment("quix_streams"),
            _script("quix_streams", ENV_PYTHON),
        ),
        Contestant(
            "bytewax",
            "Bytewax, one worker",
            _locked("bytewax_flow", "bytewax"),
            _environment("bytewax_flow"),
            _script("bytewax_flow", ENV_PYTHON),
            commits=False,
        ),
    )
}


def environment(config: Path) -> dict[str, str]:
    """What every peer gets: its configuration, and the pieces that Python peers share."""
    return {**os.environ, "PEER_CONFIG": str(config), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
