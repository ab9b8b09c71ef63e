"""Whole lives of tasks, as the records that a pipeline would have written: for measuring what only reads them.

The same seed gives the same records. Of all tasks 15 % go to a panel of two, 5 % of the attempts fail and are answered
by the next agent. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.ids import fact_id
from schemas.records import table
from schemas.topology import Topology

CONVERSATIONS, ZIPF = 100_000, 1.3
TEXT = "What was the revenue of EMEA in the third quarter, and please say where that comes from, in two sentences?"
PANEL_SHARE, FAILED_SHARE = 0.15, 0.05
STEP_US = 25_000  # from one record of a life to the next
DEADLINE_MS = 30_000
ANSWER = "The figure for the third quarter is 4,200,000 dollars, as the ledger of EMEA has it."


@dataclass(frozen=True)
class Records:
    """Records of one type; `tasks` has each row's task, by number, `agents` whose topic it is in (empty: nobody's)."""

    record: str
    batch: pa.RecordBatch
    tasks: npt.NDArray[np.int64]
    agents: npt.NDArray[np.str_]


class Lives:
    """Lives of tasks by number, for the agents and routes of a topology."""

    def __init__(self, topology: Topology, seed: int, began_us: int) -> None:
        self._seed, self._began_us = seed, began_us
        self._intents = list(topology.routes)
        self._agents = np.array(sorted(topology.agents))
        self._version = topology.version

    def records(self, numbers: range) -> Iterator[Records]:
        """All records of these tasks, submissions first."""
        draw = np.random.default_rng((self._seed, numbers.start, 1))
        n = len(numbers)
        of = np.array(numbers, np.int64)
        tasks = self._tasks(draw, numbers)
        submitted = self._began_us + of
        nobody = np.array([], np.str_)
        yield Records(
            "TaskSubmitted", table("TaskSubmitted", tasks | {"submitted_at": pa.array(submitted)}, n), of, nobody
        )
        rows, attempts = self._attempts(draw, n)
        whose = self._agents[(of[rows] + attempts) % len(self._agents)]
        slip, identity = self._slip(tasks, rows, attempts, whose, submitted), _identity(tasks, rows, submitted)
        body = {"slip": slip, "task": _taken(tasks, rows) | {"submitted_at": pa.array(submitted[rows])}}
        yield Records("TaskDispatched", table("TaskDispatched", body, len(rows)), of[rows], whose)
        events = self._events(draw, slip, identity, submitted[rows])
        yield Records("AgentEvent", table("AgentEvent", events, len(rows)), of[rows], whose)
        yield Records("TaskResult", table("TaskResult", self._results(tasks, rows, whose, submitted), n), of, nobody)

    def _tasks(self, draw: np.random.Generator, numbers: range) -> dict[str, Any]:
        n = len(numbers)
        routes = draw.integers(0, len(self._intents), n).tolist()
        return {
            "task_id": [fact_id(self._seed, number) for number in numbers],
            "conversation_id": [f"c{number % CONVERSATIONS}" for number in draw.zipf(ZIPF, n).tolist()],
            "text": [TEXT] * n,
            "intent": [self._intents[route] for route in routes],
            "confidence": np.round(draw.random(n), 2).tolist(),
        }

    def _attempts(self, draw: np.random.Generator, n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each attempt the row of its task, and its number from 1."""
        counts = 1 + (draw.random(n) < PANEL_SHARE + FAILED_SHARE).astype(np.int64)
        rows = np.repeat(np.arange(n), counts)
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        return rows, np.arange(len(rows)) - firsts + 1

    def _slip(
        self,
        tasks: Mapping[str, Any],
        rows: npt.NDArray[np.int64],
        attempts: npt.NDArray[np.int64],
        whose: npt.NDArray[np.str_],
        submitted: npt.NDArray[np.int64],
    ) -> dict[str, Any]:
        numbers = pa.array(attempts, pa.int32())
        taken = _taken({name: tasks[name] for name in ("confidence",)}, rows)
        return {
            **taken,
            "agent_id": pa.array(whose.tolist()),
            "attempt": numbers,
            "seat": pa.array(attempts - 1, pa.int32()),
            "intent": pa.array([f"intent_{number % 12}" for number in rows.tolist()]),
            "band": pa.array(np.where(attempts > 1, "PANEL", "SINGLE").tolist()),
            "chain": pa.array([[f"agent_{number % 12}", "fallback"] for number in rows.tolist()]),
            "reason": "ROUTED",
            "route_version": self._version,
            "attempts": numbers,
            "timeout_ms": 2_000,
            "deadline_default_ms": pa.array(submitted[rows] // 1000 + DEADLINE_MS),
            "routed_at": pa.array(submitted[rows] + STEP_US),
        }

    def _events(
        self,
        draw: np.random.Generator,
        slip: dict[str, Any],
        identity: dict[str, Any],
        submitted: npt.NDArray[np.int64],
    ) -> dict[str, Any]:
        n = len(submitted)
        failed = draw.random(n) < FAILED_SHARE
        ids = zip(identity["task_id"].to_pylist(), slip["attempt"].to_pylist(), strict=True)
        return {
            "event_id": [fact_id("event", *each) for each in ids],
            "kind": np.where(failed, "FAILED", "COMPLETED").tolist(),
            "slip": slip,
            "task": identity,
            "agent_version": "1",
            "answer": pa.array(np.full(n, ANSWER).tolist(), mask=failed),
            "vote_key": pa.array(np.full(n, "4200000").tolist(), mask=failed),
            "confidence": pa.array(np.round(draw.random(n), 2), mask=failed),
            "error_class": pa.array(np.full(n, "TIMEOUT").tolist(), mask=~failed),
            "tokens_in": pa.array(draw.integers(100, 900, n)),
            "tokens_out": pa.array(draw.integers(10, 90, n)),
            "cost_microusd": pa.array(draw.integers(0, 3_000, n)),
            "started_at": pa.array(submitted + 2 * STEP_US),
            "finished_at": pa.array(submitted + 2 * STEP_US + draw.integers(1_000, 100_000, n)),
        }

    def _results(
        self,
        tasks: Mapping[str, Any],
        rows: npt.NDArray[np.int64],
        whose: npt.NDArray[np.str_],
        submitted: npt.NDArray[np.int64],
    ) -> dict[str, Any]:
        n = len(submitted)
        firsts = np.searchsorted(rows, np.arange(n))
        counts = np.diff(np.append(firsts, len(rows)))
        agents = [whose[first : first + count].tolist() for first, count in zip(firsts, counts, strict=True)]
        return {
            **{name: tasks[name] for name in ("task_id", "conversation_id", "confidence")},
            "tenant": "default",
            "status": "COMPLETED",
            "reason": "ANSWERED",
            "intent": pa.array([f"intent_{number % 12}" for number in range(n)]),
            "answer": ANSWER,
            "agents": pa.array(agents, pa.list_(pa.string())),
            "votes": [
                [{"agent_id": agent, "vote": "4200000", "confidence": 0.9, "weight": 1.5} for agent in each]
                for each in agents
            ],
            "attempts": pa.array(counts, pa.int32()),
            "submitted_at": pa.array(submitted),
            "decided_at": pa.array(submitted + 4 * STEP_US),
            "route_version": self._version,
        }


def _taken(tasks: Mapping[str, Any], rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    return {name: pa.array(column).take(pa.array(rows)) for name, column in tasks.items()}


def _identity(
    tasks: Mapping[str, Any], rows: npt.NDArray[np.int64], submitted: npt.NDArray[np.int64]
) -> dict[str, Any]:
    return {
        **_taken({name: tasks[name] for name in ("task_id", "conversation_id")}, rows),
        "tenant": "default",
        "submitted_at": pa.array(submitted[rows]),
        "deadline_ms": pa.array(submitted[rows] // 1000 + DEADLINE_MS),
    }
