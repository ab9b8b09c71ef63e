"""A fleet with an agent that waits for a file and another that answers at once, and what came of what it was asked.

I/O: files, processes, Kafka, ClickHouse.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from streams.client import Client
from streams.history.queries import History
from tests.support.fleet import Fleet, wait_for

WAIT_S = 60.0

TOPOLOGY = """
prefix: "{prefix}"
partitions: 2
agents:
  gated: {{run: "gated_agent:run", effect: read, concurrency: 1, timeout_ms: 120000, description: waits for a file}}
  spare: {{run: "agents.builtin.echo:reply", effect: read}}
routes:
  all: {{agents: [gated, spare], deadline_ms: 600000, fallback: {{answer: "Ask Ann."}}}}
default_route: all
"""
AGENT = """
import asyncio, pathlib
from agents.contract import Answer

GATE, CALLS = (pathlib.Path(__file__).with_name(name) for name in ("gate", "calls"))

async def run(task, context):
    with CALLS.open("a") as calls:
        calls.write(task.task_id + "\\n")
    while not GATE.exists():
        await asyncio.sleep(0.01)
    return Answer("gated", 0.9)
"""


def write_gated(directory: Path, prefix: str) -> Path:
    """The topology's file, beside the agent's module; PYTHONPATH has to name the folder."""
    (directory / "gated_agent.py").write_text(AGENT)
    path = directory / "topology.yaml"
    path.write_text(TOPOLOGY.format(prefix=prefix))
    return path


class Scene:
    """A fleet, whom to ask, and what came of it."""

    def __init__(self, fleet: Fleet, client: Client, history: History, directory: Path) -> None:
        self.fleet, self._client, self.history, self._directory = fleet, client, history, directory

    def submit(self, *ids: str) -> None:
        """In one conversation: one partition, and one call at a time."""
        columns: dict[str, Any] = {"task_id": list(ids), "text": ["hello"] * len(ids), "intent": ["all"] * len(ids)}
        columns |= {"confidence": [0.95] * len(ids), "conversation_id": ["c"] * len(ids)}
        self._client.send([self._client.prepare_columns(columns)])

    def ask(self, task_id: str) -> tuple[str, str, list[str]]:
        """Submits a task; gives status, reason and agents of its result."""
        self.submit(task_id)
        wait_for(lambda: task_id in self.results(), WAIT_S, f"the result of {task_id}")
        return self.results()[task_id]

    def results(self) -> dict[str, tuple[str, str, list[str]]]:
        rows = self.rows("SELECT task_id, status, reason, agents FROM results")
        return {task: (status, reason, agents) for task, status, reason, agents in rows}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list(self.history.query(sql).rows)

    def calls(self) -> list[str]:
        path = self._directory / "calls"
        return path.read_text().split() if path.exists() else []

    def heard(self, words: str, times: int = 1) -> None:
        for name in ("worker", "host"):
            wait_for(lambda name=name: self.fleet.said(name).count(words) >= times, WAIT_S, f"{name}: {words}")  # type: ignore[misc]


@contextmanager
def staged(broker: str, path: Path, directory: Path) -> Iterator[Scene]:
    """Store, worker and host of that topology, serving."""
    with Fleet(broker, directory, path) as fleet, Client.of(fleet.settings, fleet.topology) as client:
        fleet.start("store", "worker", "host")
        with closing(History(fleet.clickhouse)) as history:
            yield Scene(fleet, client, history, directory)
