"""The README's snippet does what the README says, word for word: any Kafka client, one task in, its result out."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.local.broker import LocalBroker
from schemas.settings import Settings
from schemas.topology import load_topology
from streams.transport.admin import ensure_topics
from tests.support.waiting import PATIENCE, deadline_in
from tests.unit.test_docs import ROOT, block

READY_TIMEOUT_S = 60.0
SUBMIT_TIMEOUT_S = 60.0


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[str]:
    """Address of a broker of this test's own (the snippet uses topics without a prefix), with a worker and a host."""
    processes: list[subprocess.Popen[bytes]] = []
    with LocalBroker(tmp_path / "broker", heap_mib=384) as broker:
        ensure_topics(Settings(broker=broker.address), load_topology(ROOT / "topology.yaml").topics().specs())
        try:
            for name in ("worker", "host"):
                processes.append(start(name, broker.address, tmp_path))
            for process, name in zip(processes, ("worker", "host"), strict=True):
                wait_until_ready(process, name, tmp_path)
            yield broker.address
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                stop(process)


def start(name: str, broker: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "console.cli.main", name, "--broker", broker]
    command += ["--topology", str(ROOT / "topology.yaml"), "--ready-file", str(folder / f"{name}.json")]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_until_ready(process: subprocess.Popen[bytes], name: str, folder: Path) -> None:
    deadline = deadline_in(READY_TIMEOUT_S)
    while not (folder / f"{name}.json").exists():
        ended, late = process.poll() is not None, time.monotonic() > deadline
        assert not ended, f"{name} ended:\n{(folder / f'{name}.log').read_text()[-3000:]}"
        assert not late, f"{name} is not ready:\n{(folder / f'{name}.log').read_text()[-3000:]}"
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(PATIENCE * 10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(snippet: str, broker: str) -> str:
    """What it prints, with the broker's address in the place of the page's."""
    assert snippet.count('"127.0.0.1:9092"') == 1
    done = subprocess.run(
        [sys.executable, "-c", snippet.replace("127.0.0.1:9092", broker)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SUBMIT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.broker
def test_the_snippets_submit_a_task_and_read_its_result(pipeline: str) -> None:
    result = ast.literal_eval(run(block("python", "broker = "), pipeline))
    assert (result["status"], result["intent"]) == ("COMPLETED", "financial_query")
    assert "EMEA" in result["answer"]
    assert result["agents"]
    said = run(block("python", "from streams.client", "docs/client.md"), pipeline)
    assert said.startswith("COMPLETED Revenue of EMEA")
    assert said.endswith("{'team': 'ops'}\n")


def test_the_snippet_is_ten_lines_or_so_and_needs_nothing_of_ours() -> None:
    """The address and the imports are not counted."""
    lines = block("python", "broker = ").splitlines()
    assert len([line for line in lines if not line.startswith(("broker = ", "import "))]) <= 11
    names = [name for line in lines if line.startswith("import ") for name in line.removeprefix("import ").split(", ")]
    assert {name.split(" as ")[0] for name in names} == {"io", "json", "uuid", "confluent_kafka", "fastavro"}
