"""What it takes to bring a cold conversation to hand: a history full of interactions, and memories read out of it.

`python -m console.bench_recall --interactions 1000000` fills an engine of its own, in this process, with conversations
of `--each` interactions, one of 60,000 among them, and reads some that are drawn at random, and folds and renders them.
A tenth of it comes in small blocks. What is merged then is waited for. Then summaries are made. I/O: the embedded
engine, a loopback socket, stdout.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.memory.extractive import VERSION
from agents.memory.fold import refold
from agents.memory.model import CHUNK, Key
from agents.memory.window import window
from console.bench_history import merged
from console.memory.recall import StoreRecall
from console.memory.summaries import REACH, Maker
from schemas.topology import Agent, Route, Topology
from streams.history.conversations import Conversations
from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.migrations import migrate
from streams.history.queries import connect
from streams.history.summaries import Summaries
from streams.transport.garbage import calm_collector

LONG = 60_000
BLOCK = 100_000
SMALL_BLOCKS = 20
PARTITIONS = 4
TOPOLOGY = Topology(
    agents={"a": Agent(run="m:f", effect="read")}, routes={"all": Route(agents=("a",))}, default_route="all"
)
LOG = TOPOLOGY.topics().events("a")

# Ids are digests, so that the interactions of a conversation lie as far apart as they can in tables by task.
_TASKS = """
INSERT INTO pointsman.tasks_log
    (tenant, task_id, conversation_id, text, submitted_at, topic, partition, offset, appended_at)
SELECT 'acme', lower(hex(MD5(toString(number)))), {conversation}, concat('Question ', toString(number), ': ',
    repeat(hex(MD5(toString(number))), 4), '?'), {submitted}, 't', {partition}, number, now64(3)
FROM numbers({first}, {rows})
"""
_EVENTS = """
INSERT INTO pointsman.agent_events_log
    (tenant, task_id, event_id, kind, agent_id, attempt, stage, conversation_id, ordinal, epoch, answer, facts,
    submitted_at, started_at, finished_at, topic, partition, offset, appended_at)
SELECT 'acme', lower(hex(MD5(toString(number)))), lower(hex(MD5(concat('e', toString(number))))), 'COMPLETED', 'a', 1,
    'WORK', {conversation}, {ordinal}, 1, concat('Answer ', toString(number), ' is ',
    repeat(hex(MD5(toString(number))), 4), '.'), if(number % 50 = 0, [concat('Fact ', toString(number))], []),
    {submitted}, now64(6), now64(6), '{log}', {partition}, number, now64(3)
FROM numbers({first}, {rows})
"""


def fill(client: Any, interactions: int, each: int) -> int:
    """Returns how many conversations there are beside the long one. They grow side by side, as they do in life."""
    conversations = max((interactions - LONG) // each, 1)
    step = f"number - {LONG}"
    words = {
        "conversation": f"if(number < {LONG}, 'long', concat('c', toString(({step}) % {conversations})))",
        "ordinal": f"if(number < {LONG}, number + 1, intDiv({step}, {conversations}) + 1)",
        "partition": f"if(number < {LONG}, 0, (({step}) % {conversations}) % {PARTITIONS})",
        "log": LOG,
        "submitted": f"toDateTime64({int(time.time())}, 6, 'UTC')",
    }
    first = 0
    while first < interactions:
        left = interactions - first
        rows = min(BLOCK, left) if left > interactions // 10 else max(interactions // 10 // SMALL_BLOCKS, 1)
        for sql in (_TASKS, _EVENTS):
            client.command(sql.format(first=first, rows=min(rows, left), **words))
        first += rows
    return conversations


def measure(recall: StoreRecall, keys: Sequence[tuple[Key, int]]) -> tuple[list[float], list[float]]:
    """Milliseconds of wall time until the window is there, and of this process's CPU, for each."""
    walls, cpus = [], []
    for key, partition in keys:
        started, spent = time.perf_counter(), time.process_time()
        memories, _ = recall.recall(partition, [key])
        found = memories[key]
        window(refold(key, found.interactions, facts_before=found.facts_before))
        walls.append((time.perf_counter() - started) * 1e3)
        cpus.append((time.process_time() - spent) * 1e3)
    return walls, cpus


def show(name: str, walls: Sequence[float], cpus: Sequence[float]) -> None:
    ordered = sorted(walls)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"{name}: {len(walls)} windows, p50 {p50:.1f} ms, p99 {p99:.1f} ms, CPU {sum(cpus) / len(cpus):.1f} ms each")


def ask(client: Any) -> None:
    """Prints what people wait for who ask the views; the median of three."""
    for name, sql in _VIEWS.items():
        took = []
        for _ in range(3):
            started = time.perf_counter()
            read = client.query(sql.format(one=_ONE)).summary.get("read_rows")
            took.append((time.perf_counter() - started) * 1e3)
        print(f"{name}: {sorted(took)[1]:.0f} ms, {read} rows read")


def make(client: Any, recall: StoreRecall, summaries: Summaries) -> None:
    """Prints what it takes to make the summaries of some conversations, to see that none is due, and to ask the views.
    They are removed again, so that a folder that is kept holds the same rows at each call."""
    started, spent = time.perf_counter(), time.process_time()
    made = Maker(recall, summaries).step()
    wall, cpu = time.perf_counter() - started, time.process_time() - spent
    print(f"summaries: {made} made, {wall:.1f} s, CPU {cpu / max(made, 1) * 1e3:.1f} ms each")
    started = time.perf_counter()
    due = summaries.due(datetime.fromtimestamp(time.time() + 60, UTC), VERSION, CHUNK, REACH)
    print(f"to see that {len(due)} are due: {(time.perf_counter() - started) * 1e3:.0f} ms")
    ask(client)
    client.command("TRUNCATE TABLE pointsman.conversation_summaries")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where data go, and stay; by default a temporary one")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(asked.folder or Path(folder) / "data")
        door = Door(engine, 0)
        client = connect(door.url)
        conversations = max((asked.interactions - LONG) // asked.each, 1)
        migrate(client)
        if not client.query("SELECT 1 FROM pointsman.tasks_log LIMIT 1").result_rows:
            fill(client, asked.interactions, asked.each)
        print("rows and parts, as they were filled:", *client.query(_PARTS).result_rows)
        merged(client)
        print("rows and parts, once nothing is merged any more:", *client.query(_PARTS).result_rows)
        recall = StoreRecall(TOPOLOGY, Conversations(door.url, timeout_s=30))
        drawn = random.Random(asked.seed)  # noqa: S311 - a draw that can be repeated
        numbers = [drawn.randrange(conversations) for _ in range(asked.windows)]
        cold = [(Key("acme", "a", f"c{number}"), number % PARTITIONS) for number in numbers]
        measure(recall, cold[:5])
        calm_collector()  # as a host does
        show("cold", *measure(recall, cold))
        show(f"of {LONG} interactions", *measure(recall, [(Key("acme", "a", "long"), 0)] * max(asked.windows // 10, 1)))
        make(client, recall, Summaries(door.url))
        door.close()
        engine.close()


_VIEWS = {
    "interactions of one conversation": "SELECT * FROM pointsman.interactions WHERE {one} ORDER BY ordinal",
    "interactions, counted": "SELECT count() FROM pointsman.interactions",
    "summaries of one conversation": "SELECT * FROM pointsman.summaries WHERE {one} ORDER BY first",
    "summaries, counted": "SELECT count() FROM pointsman.summaries",
}
_ONE = "tenant = 'acme' AND agent_id = 'a' AND conversation_id = 'c5'"
_PARTS = """
SELECT table, sum(rows), count() FROM system.parts
WHERE active AND database = 'pointsman' AND startsWith(table, 'conversation_') GROUP BY table ORDER BY table
"""

if __name__ == "__main__":
    main()
