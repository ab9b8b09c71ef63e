"""A conversation that is not at hand, with a real broker and a real history: the same window, however it is read."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient

import agents.sources
from agents.memory.canonical import window_hash
from agents.memory.fold import refold
from agents.memory.model import Interaction, Key
from agents.memory.window import window
from console.memory.beside import with_summaries
from console.memory.lazily import RecallWhenAsked
from console.memory.recall import StoreRecall
from console.memory.summaries import row_of
from schemas.records import table
from streams.history.conversations import Conversations
from streams.history.door import Door
from streams.history.summaries import Summaries
from tests.support.agents_bench import Bench, make_topology, now_ms
from tests.support.history import Store, eventually
from tests.support.history_door import opened
from tests.support.memory_logs import logged

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

MIND = {"run": "tests.support.agents_sample:remembering", "timeout_ms": 60_000}
KEY = Key("default", "mind", "c")


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


@pytest.fixture
def deaf() -> Iterator[str]:
    """A ClickHouse that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def ask(bench: Bench, first: int, last: int) -> dict[str, Any]:
    """As producer and router write them; what the agent was shown with the last one."""
    tasks: list[dict[str, Any]] = [
        {"task_id": f"t{number}", "conversation_id": KEY.conversation_id, "text": f"matter {number}"}
        for number in range(first, last + 1)
    ]
    for task in tasks:
        task["submitted_at"] = now_ms() * 1000  # routers repeat it, and the history knows a question by it
    columns = {name: [task[name] for task in tasks] for name in tasks[0]}
    values = bench.codec.encode(table("TaskSubmitted", columns, len(tasks)), "TaskSubmitted")
    bench.producer.send(bench.topics.submitted, 0, values, [bench.key(task) for task in tasks])
    bench.dispatch(KEY.agent_id, *tasks)
    rows = bench.read(bench.topics.events(KEY.agent_id), lambda rows: f"t{last}" in [_task(row) for row in rows])
    shown: dict[str, Any] = json.loads(next(row["payload"] for row in rows if _task(row) == f"t{last}"))
    return shown


def _task(row: dict[str, Any]) -> str:
    return str(row["task"]["task_id"])


def hash_of(said: list[Interaction]) -> str:
    return window_hash(window(refold(KEY, said)))


def test_a_host_that_starts_again_shows_the_same_window_with_a_history_that_is_behind_or_away(
    broker: str, prefix: str, door: Door, deaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.sources, "SHORT_MAX", 0)  # as with logs that are long
    limits = {"snapshot_events": 0, "history_interval_ms": 100, "commit_interval_ms": 200}
    with Bench(broker, make_topology(prefix, {"mind": MIND}, limits=limits)) as bench:
        settings = bench.settings.model_copy(update={"clickhouse": door.url})
        history = RecallWhenAsked(settings, bench.topology, timeout_s=30)
        store = Store(settings, bench.topology)
        host = bench.host(history)
        ask(bench, 0, 24)
        patient = StoreRecall(bench.topology, Conversations(door.url, timeout_s=30))
        eventually(lambda: store.is_ready.is_set() and KEY in patient.recall(0, [KEY])[0])
        eventually(lambda: len(patient.recall(0, [KEY])[0][KEY].interactions) == 25)
        with_summaries(settings, bench.topology, lambda _: None, store.stop)({"clickhouse": door.url})
        with closing(Summaries(door.url)) as summaries:
            eventually(lambda: len(summaries.of([KEY])) == 2)
            assert summaries.of([KEY]) == [row_of(KEY, each) for each in refold(KEY, logged(bench, KEY)).chunks]
        store.end()
        ask(bench, 25, 29)
        host.stop()

        host = bench.host(RecallWhenAsked(settings.model_copy(update={"clickhouse": deaf}), bench.topology))
        assert ask(bench, 30, 30)["hash"] == hash_of(logged(bench, KEY)[:30]), "with the history away"
        host.stop()

        host = bench.host(history)
        assert ask(bench, 31, 31)["hash"] == hash_of(logged(bench, KEY)[:31]), "with the history behind"
        host.stop()

        whole = logged(bench, KEY)
        admin = AdminClient({"bootstrap.servers": broker})
        for place in (whole[19].event, whole[19].inbox):
            assert place is not None
            (deleted,) = admin.delete_records([ck.TopicPartition(*place)]).values()
            deleted.result(20)
        bench.host(history)
        shown = ask(bench, 32, 32)
        assert shown["hash"] == hash_of(whole), "with a log whose beginning only the history has"
        assert shown["hash"] != hash_of(logged(bench, KEY)[:-1])
        assert "matter 3 is settled." in shown["facts"]
