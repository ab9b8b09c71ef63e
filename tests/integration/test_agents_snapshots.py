"""An agent that is taken over from its snapshot, on a real broker: what it remembers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import agents.snapshots
from agents.inbox import Inbox
from agents.logrecall import LogRecall
from agents.memory.snapshot import Part, Refused, Snapshot, of_record, pack, to_record, unpack
from agents.process import memory_reader
from agents.rebuild import Rebuilt
from schemas.epochs import LogEpochs
from tests.support.agents_bench import Bench, make_topology
from tests.support.fleet import wait_for
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

WAIT_S = 60.0
EVERY = 20


@pytest.fixture
def bench(broker: str, prefix: str) -> Iterator[Bench]:
    with Bench(
        broker, make_topology(prefix, {"echo": {"timeout_ms": 120_000}}, limits={"snapshot_events": EVERY})
    ) as bench:
        yield bench


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Rebuilt]:
    """What hosts of this process took over."""
    heard: list[Rebuilt] = []
    tell = agents.snapshots.tell

    def hear(inbox: Inbox, rebuilt: Rebuilt) -> None:
        heard.append(rebuilt)
        tell(inbox, rebuilt)

    monkeypatch.setattr(agents.snapshots, "tell", hear)
    return heard


def tasks(first: int, n: int) -> list[dict[str, Any]]:
    return [
        {"task_id": f"t{number}", "conversation_id": "c", "text": f"question {number}"}
        for number in range(first, first + n)
    ]


def snapshots(bench: Bench) -> list[Part]:
    """All parts that are in the topic, as they were written."""
    messages = read_topic(bench.settings.broker, bench.topics.snapshots)
    return [part for message in messages if (value := message.value()) and (part := of_record(value))]


def whole(bench: Bench) -> Rebuilt:
    """What the whole log says, from its beginning."""
    with memory_reader(bench.settings, bench.topology) as reader:
        return reader.rebuild("echo", 0, LogEpochs(), ())


def earlier(event: dict[str, Any]) -> list[str]:
    found = json.loads(event["payload"])["earlier"]
    assert isinstance(found, list)
    return found


def ask(bench: Bench, number: int) -> list[str]:
    """What the agent remembers when it is asked once more."""
    bench.dispatch("echo", *tasks(number, 1))
    events = bench.events("echo", number + 1)
    return earlier(next(event for event in events if event["task"]["task_id"] == f"t{number}"))


def test_a_host_that_is_killed_is_followed_by_one_that_remembers_and_says_the_hash(
    bench: Bench, told: list[Rebuilt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.process(tmp_path)
    bench.dispatch("echo", *tasks(0, 45))
    bench.events("echo", 45)
    wait_for(lambda: bool(snapshots(bench)), WAIT_S, "a snapshot")
    bench.dispatch("echo", *tasks(45, 5))
    bench.events("echo", 50)
    first.kill()
    expected = whole(bench).memory

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the snapshot and the rest of the log say it all")

    monkeypatch.setattr(LogRecall, "read", never)
    bench.host()
    assert ask(bench, 50) == [f"question {number}" for number in range(40, 50)]
    (rebuilt,) = told
    assert rebuilt.found.snapshot is not None
    assert rebuilt.found.refused == ()
    assert 0 < rebuilt.events < 50, "the rest of the log alone was read"
    assert rebuilt.memory.hash() == expected.hash()
    assert [state.count for state in rebuilt.memory.states().values()] == [50]


@pytest.mark.parametrize("why", [Refused.HASH, Refused.EPOCH, Refused.BEYOND])
def test_one_that_is_wrong_is_refused_and_the_log_is_read_instead(
    bench: Bench, told: list[Rebuilt], why: Refused
) -> None:
    first = bench.host()
    bench.dispatch("echo", *tasks(0, 25))
    bench.events("echo", 25)
    wait_for(lambda: bool(snapshots(bench)), WAIT_S, "a snapshot")
    first.stop()
    told.clear()
    written = snapshots(bench)[-1]
    held = unpack([written])
    assert isinstance(held, Snapshot)
    # Newer than the true one, and of other memories.
    forged = replace(held, states={key: data.replace(b"question", b"forgery!") for key, data in held.states.items()})
    position = held.position._replace(log=10_000) if why is Refused.BEYOND else held.position
    position = position._replace(inbox=position.inbox + 1)
    (part,) = pack(replace(forged, position=position, epoch=held.epoch + 7 * (why is Refused.EPOCH)), 100_000)
    value = to_record(part._replace(states=part.states + 1) if why is Refused.HASH else part)
    bench.producer.send(bench.topics.snapshots, 0, [value], [b"echo/forged/0/0"])
    bench.producer.flush(10)
    expected = whole(bench).memory.hash()
    bench.host()
    assert ask(bench, 25) == [f"question {number}" for number in range(15, 25)]
    (rebuilt,) = told
    assert [reason for _, reason in rebuilt.found.refused] == [why]
    assert rebuilt.found.snapshot is not None, "the true one"
    assert rebuilt.memory.hash() == expected
