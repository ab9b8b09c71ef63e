"""The store as a process of its own, and a ClickHouse that fails it: each fact once in the views, memory bounded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.queries import History
from tests.integration.test_history_store import committed, matches_the_log
from tests.support.cut import Cut
from tests.support.history import Deployment, eventually

pytestmark = pytest.mark.broker

PROGRAM = """
import json, signal, sys, threading
from pathlib import Path
from schemas.settings import Settings
from schemas.topology import Topology
from streams.history.process import run_store
settings, topology = Settings(**json.loads(sys.argv[1])), Topology(**json.loads(sys.argv[2]))
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run_store(settings, topology, None, ready=lambda told: Path(sys.argv[3]).touch(), stop=stop)
"""
RSS_GROWTH_MIB_MAX = 220


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(None)
    with engine.handle() as handle:
        handle.run("DROP DATABASE IF EXISTS pointsman")
    yield engine
    engine.close()


@pytest.fixture
def server(engine: Engine) -> Iterator[Door]:
    """Stands for a ClickHouse server that outlives every store."""
    with closing(Door(engine, 0)) as door:
        yield door


@pytest.fixture
def cut(server: Door) -> Iterator[Cut]:
    with closing(Cut(server.url)) as cut:
        yield cut


@contextmanager
def store(deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the history in the deployment's ClickHouse; ended at the latest when the test ends."""
    settings = {"broker": deployment.settings.broker, "clickhouse": deployment.settings.clickhouse}
    topology = deployment.topology.model_dump(mode="json", exclude_defaults=True)
    with TemporaryDirectory() as folder:
        ready, log = Path(folder) / "ready", Path(folder) / "log"
        command = [sys.executable, "-c", PROGRAM, json.dumps(settings), json.dumps(topology), str(ready)]
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            eventually(lambda: ready.exists() or process.poll() is not None, 60)
            assert ready.exists(), log.read_text()[-2000:]
            yield process
        finally:
            process.kill()
            process.wait()


def stored(history: History, table: str) -> int:
    """Rows of a base table; 0 where it is not there."""
    sql = f"SELECT sum(total_rows) FROM system.tables WHERE database = 'pointsman' AND name = '{table}'"
    return int(history.query(sql).rows[0][0] or 0)


def test_answers_that_are_lost_after_the_insert_was_done(broker: str, prefix: str, server: Door, cut: Cut) -> None:
    """The rows are in and the store cannot know: it sends the same block again, until somebody says so."""
    deployment, ids = Deployment(broker, prefix, cut.url), [f"t{number}" for number in range(200)]
    with store(deployment), closing(History(server.url)) as history:
        cut.lose = 6
        deployment.life(*ids)
        deployment.flush()
        eventually(lambda: len(history.facts("results")) == len(ids), 60)
        eventually(lambda: cut.lost == 6, 60)
        eventually(lambda: sum(committed(deployment).values()) == 4 * len(ids), 60)
        matches_the_log(deployment, history)
    deployment.close()


def test_a_store_killed_between_an_insert_and_its_commit(broker: str, prefix: str, server: Door, cut: Cut) -> None:
    """kill -9 once the engine has the rows and before the store hears of it, three times over."""
    deployment, ids = Deployment(broker, prefix, cut.url), [f"t{number}" for number in range(300)]
    for spell in range(3):
        cut.lose, before = 1, cut.lost
        cut.on_loss.clear()
        with store(deployment) as process:
            deployment.life(*ids[spell * 100 : spell * 100 + 100])
            deployment.flush()
            assert cut.on_loss.wait(120)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert cut.lost == before + 1
        assert sum(committed(deployment).values()) < 400 * (spell + 1)
    with store(deployment), closing(History(server.url)) as history:
        eventually(lambda: len(history.facts("results")) == len(ids), 60)
        matches_the_log(deployment, history)
    deployment.close()


@pytest.mark.slow
def test_memory_is_bounded_while_clickhouse_is_away(broker: str, prefix: str, server: Door, cut: Cut) -> None:
    """300 MB wait in Kafka; the store holds what its limit and its client allow, and reads the rest afterwards."""
    rows, bound = 300_000, 8 * 2**20
    deployment = Deployment(broker, prefix, cut.url, history_buffer_bytes_max=bound, history_rows_max=20_000)
    body = {"task_id": "x", "tenant": "a", "status": "FAILED", "reason": "R" * 1_000, "submitted_at": 1}
    value = deployment.one("TaskResult", body | {"decided_at": 1})
    with store(deployment) as process:
        before = rss_mib(process.pid)
        cut.away.set()
        for _ in range(10):
            deployment.producer.send(deployment.topics.results, 0, [value] * (rows // 10), [b"x"] * (rows // 10))
        deployment.flush()
        grown = [0.0]

        def settled() -> bool:
            grown.append(rss_mib(process.pid) - before)
            return len(grown) > 40 and max(grown[-20:]) - min(grown[-20:]) < 1.0

        eventually(settled, 60)
        assert 1 < max(grown) < RSS_GROWTH_MIB_MAX
        assert committed(deployment) == {}
        cut.away.clear()
        eventually(lambda: committed(deployment) == {(deployment.topics.results, 0): rows}, 120)
    with closing(History(server.url)) as history:
        assert history.facts("results") == [("a", "x")]
    deployment.close()


def test_a_table_dropped_under_a_store_is_made_again(broker: str, prefix: str, engine: Engine, server: Door) -> None:
    deployment = Deployment(broker, prefix, server.url)
    with store(deployment), closing(History(server.url)) as history:
        deployment.life("t1")
        deployment.flush()
        eventually(lambda: len(history.facts("results")) == 1)
        with engine.handle() as handle:
            handle.run("DROP TABLE pointsman.results_log SYNC")
        deployment.life("t2")
        deployment.flush()
        eventually(lambda: stored(history, "results_log") == 1)
        eventually(lambda: len(history.facts("tasks")) == 2)
    deployment.close()


def rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
