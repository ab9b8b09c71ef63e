"""What the history's views cost at size: an embedded store full of made-up lives, its sizes and times.

`python -m console.bench_history` makes 10 million interactions (a dispatch and what came of it), which ClickHouse
itself computes, in minutes; `--folder` keeps them, and uses them again where they are. Each query goes over HTTP, as
users' do, `--times` times. `--also SQL` measures one more; in it, {tenant}, {task_id}, {conversation} and {agent} stand
for some that exist, another each time. I/O: files, a loopback socket, ClickHouse, stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from console.cli.output import Output
from console.synthetic import INTERACTIONS_PER_TASK, SPAN_DAYS, Lives, fill
from schemas.settings import DATABASE
from schemas.topology import load_topology
from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.migrations import migrate
from streams.history.queries import LOOK_UP, connect

NO_BOUNDS = {"max_execution_time": "0", "max_memory_usage": "0", "max_threads": "2"}
MERGED_S, POLL_S = 5.0, 0.5
TASK = "SELECT * FROM task_timeline WHERE {where} ORDER BY tenant, step, at, attempt, rank"
# What is asked of each view: all of it, and, where it has a time, its last day (`{since}`).
QUERIES: Mapping[str, str] = {
    "task_timeline, one task": TASK.format(where="tenant = '{tenant}' AND task_id = '{task_id}'"),
    "task_timeline, tenant unknown": TASK.format(where="task_id = '{task_id}'"),
    "agent_minute, all": "SELECT count(), sum(outcomes), max(p99_ms) FROM agent_minute",
    "agent_minute, a day": "SELECT * FROM agent_minute WHERE minute >= '{since}'",
    "spend, all": "SELECT * FROM spend",
    "spend, a day": "SELECT * FROM spend WHERE day >= toDate('{since}')",
    "calibration, all": "SELECT * FROM calibration",
    "cascades, all": "SELECT count(), max(at) FROM cascades",
    "cascades, a day": "SELECT * FROM cascades WHERE at >= '{since}'",
    "conflicts, all": "SELECT count(), countIf(status = 'ESCALATED') FROM conflicts",
    "conflicts, a day": "SELECT * FROM conflicts WHERE at >= '{since}'",
    "agent_claims, all": "SELECT count() FROM agent_claims",
    "fenced_events, all": "SELECT count() FROM fenced_events",
    "dead, all": "SELECT * FROM dead",
    "redriven, all": "SELECT * FROM redriven",
    "results, a day": "SELECT count(), sum(cost_microusd) FROM results WHERE decided_at >= '{since}'",
    "results, all counted": "SELECT status, reason, count() FROM results GROUP BY ALL",
    "answered_by, one task": "SELECT * FROM answered_by WHERE task_id = '{task_id}'",
    "answered_by, all counted": "SELECT agent_id, agent_version, count() FROM answered_by GROUP BY ALL",
    "answered_by, a day": "SELECT * FROM answered_by WHERE at >= '{since}'",
    "agent_versions, all": "SELECT * FROM agent_versions",
    "agent_pauses, all": "SELECT * FROM agent_pauses",
    "tasks, one": "SELECT * FROM tasks WHERE task_id = '{task_id}'",
    "tasks, all counted": "SELECT tenant, count() FROM tasks GROUP BY ALL",
    "dispatches, of one task": "SELECT * FROM dispatches WHERE task_id = '{task_id}'",
    "dispatches, all counted": "SELECT agent_id, reason, count() FROM dispatches GROUP BY ALL",
    "agent_events, of one task": "SELECT * FROM agent_events WHERE task_id = '{task_id}'",
    "agent_events, all counted": "SELECT agent_id, kind, count() FROM agent_events GROUP BY ALL",
    "orchestrator_events, all counted": "SELECT kind, count() FROM orchestrator_events GROUP BY ALL",
    "interactions, of one conversation": "SELECT * FROM interactions WHERE conversation_id = '{conversation}'",
    "dead_letters, all": "SELECT * FROM dead_letters",
    "redrives, all": "SELECT * FROM redrives",
    "breaker_states, all": "SELECT * FROM breaker_states",
    "agent_cards, all": "SELECT * FROM agent_cards",
    "health_counts, all": "SELECT * FROM health_counts",
    "pause_states, all": "SELECT * FROM pause_states",
    "memory_directives, all": "SELECT * FROM memory_directives",
    "summaries, all": "SELECT * FROM summaries",
}
LOOK_UPS = ("task_timeline, one task", "task_timeline, tenant unknown")


@dataclass(frozen=True)
class Asked:
    """One query: milliseconds of its slowest and its median run, rows and bytes that ClickHouse read for one."""

    query: str
    p50_ms: float
    max_ms: float
    rows: int
    rows_read: int
    mib_read: float


@dataclass(frozen=True)
class Size:
    """One table. `bytes_per_interaction` spreads it over all interactions."""

    table: str
    rows: int
    parts: int
    mib: float
    bytes_per_row: float
    bytes_per_interaction: float


@contextmanager
def history(folder: Path, lives: Lives, out: Output) -> Iterator[Any]:
    """A client of an embedded store that holds these lives."""
    began = time.monotonic()
    with closing(Engine(folder)) as engine, closing(Door(engine, 0)) as door:
        with closing(connect(door.url)) as client:
            migrate(client)
        with closing(connect(door.url, database=DATABASE, send_receive_timeout=3_600)) as client:
            if not client.query("SELECT count() FROM results_log").result_rows[0][0]:
                with engine.handle(NO_BOUNDS) as handle:
                    fill(handle.run, lives, DATABASE)
                out.note(f"the rows are in after {time.monotonic() - began:.0f} s; waiting for merges")
                merged(client)
                out.note(f"merges have ended after {time.monotonic() - began:.0f} s")
            yield client


def merged(client: Any) -> None:
    """Until nothing has been merged for MERGED_S."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < MERGED_S:
        if client.query("SELECT count() FROM system.merges").result_rows[0][0]:
            quiet_since = time.monotonic()
        time.sleep(POLL_S)


def sizes(client: Any, interactions: int) -> list[Size]:
    """Of all tables that hold rows, the largest first."""
    rows = client.query(
        "SELECT table, sum(rows), count(), sum(bytes_on_disk) FROM system.parts"
        " WHERE active AND database = currentDatabase() AND table LIKE '%_log' GROUP BY table ORDER BY 4 DESC"
    ).result_rows
    return [
        Size(table, count, parts, round(size / 2**20, 1), round(size / count, 1), round(size / interactions, 1))
        for table, count, parts, size in rows
    ]


def ask(client: Any, name: str, sql: str, samples: Sequence[Mapping[str, str]], times: int) -> Asked:
    """Raises what ClickHouse says against the query."""
    settings = LOOK_UP if name in LOOK_UPS else {}
    took, answer = [], None
    for number in range(times):
        asked = sql
        for key, value in samples[number % len(samples)].items():
            asked = asked.replace(f"{{{key}}}", value)
        began = time.perf_counter()
        answer = client.query(asked, settings=settings)
        took.append((time.perf_counter() - began) * 1000)
    assert answer is not None
    read = {key: int(value) for key, value in answer.summary.items() if str(value).isdigit()}
    return Asked(
        name,
        round(float(np.median(took)), 1),
        round(max(took), 1),
        len(answer.result_rows),
        read.get("read_rows", 0),
        round(read.get("read_bytes", 0) / 2**20, 1),
    )


def samples_of(client: Any, count: int) -> list[dict[str, str]]:
    """Tasks that exist, with whom they were given to, and the time of a day before the last result."""
    latest = client.query("SELECT toString(max(decided_at) - INTERVAL 1 DAY) FROM results_log").result_rows[0][0]
    rows = client.query(
        "SELECT tenant, task_id, conversation_id AS conversation, agent_id AS agent FROM dispatches_log"
        " WHERE sipHash64(task_id) % 1000 = 0 LIMIT {count:UInt32}",
        {"count": count},
    )
    return [
        {**dict(zip(rows.column_names, map(str, row), strict=True)), "since": str(latest)[:19]}
        for row in rows.result_rows
    ]


def measure(folder: Path, lives: Lives, times: int, also: Sequence[str], out: Output) -> dict[str, Any]:
    """Sizes and times of one store."""
    interactions = int(lives.tasks * INTERACTIONS_PER_TASK)
    with history(folder, lives, out) as client:
        samples = samples_of(client, max(times, 1))
        found: list[Asked] = []
        for name, sql in [*QUERIES.items(), *((f"also {number}", sql) for number, sql in enumerate(also, 1))]:
            found.append(ask(client, name, sql, samples, times))
            out.note(f"{name}: {found[-1].p50_ms} ms")
        tables = [asdict(each) for each in sizes(client, interactions)]
    return {"interactions": interactions, "tables": tables, "queries": [asdict(each) for each in found]}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m console.bench_history", description=__doc__)
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=3, help="how often each query is asked")
    parser.add_argument("--also", action="append", default=[], metavar="SQL", help="one more query; may be repeated")
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    parser.add_argument("--folder", type=Path, default=None, help="where data go and stay; left out: nowhere")
    parser.add_argument("--json", type=Path, default=None, help="a file for the figures")
    given = parser.parse_args(arguments)
    out = Output()
    began_s = int(time.time()) - SPAN_DAYS * 86_400
    lives = Lives(load_topology(given.topology), int(given.interactions / INTERACTIONS_PER_TASK), began_s)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as scratch:
        figures = measure(given.folder or Path(scratch), lives, given.times, given.also, out)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    for title in ("tables", "queries"):
        rows = figures[title]
        out.table(
            list(rows[0]), [list(row.values()) for row in rows], f"{title}, {figures['interactions']} interactions"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
