"""Summaries that models make: asked for beside the agents' calls, refused by name, shown once the log has them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from agents.context import Contexts
from agents.contract import EMPTY_CONTEXT
from agents.conversation import Conversation
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.memory.canonical import window_hash
from agents.memory.fold import refold
from agents.memory.model import NO_DIRECTIVES, Directives, Interaction, Key, Summary
from agents.memory.modelled import summary_of
from agents.memory.ports import Remembered
from agents.memory.window import window
from agents.noted import Noted
from agents.outcome import Outcome
from agents.recognition import AttemptId
from agents.recollection import Recollection
from agents.registry import summarisers
from agents.summarising import Summarising
from agents.version import maker_of
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from tests.support import summing_up
from tests.support.agents_attempts import attempt_of
from tests.support.agents_bench import make_topology
from tests.support.waiting import deadline_in

MINE = Conversation("mind", 0, "acme", "c")
CODE = "tests.support.summing_up"


def run_of(function: str) -> str:
    return "agents.builtin.brief:brief" if function == "brief" else f"{CODE}:{function}"


def topology_of(function: str, **policy: Any) -> Topology:
    return make_topology("", {"mind": {"summary": {"run": run_of(function), **policy}}, "plain": {}})


class Producer:
    """Takes records, and has them at the broker as soon as a test says so."""

    def __init__(self) -> None:
        self.sent, self.is_away = list[tuple[str, int, bytes, bytes]](), False

    def send(self, topic: str, partition: int, values: Any, keys: Any = None) -> None:
        self.sent += [(topic, partition, value, key) for value, key in zip(values, keys, strict=True)]

    def drained(self, timeout_s: float = 0.0) -> bool:
        del timeout_s
        return not self.is_away


class Told:
    def __init__(self) -> None:
        self.version, self.said = 0, dict[Key, Directives]()

    def say(self, key: Key, directives: Directives) -> None:
        self.said[key] = directives
        self.version += 1

    def of(self, key: Key) -> Directives:
        return self.said.get(key, NO_DIRECTIVES)


class Bench:
    """A host's memory and log without a host."""

    def __init__(self, topology: Topology, epoch: int = 3) -> None:
        self.codec, self.producer, self.told = Codec(FileRegistry.load(), 1 << 20), Producer(), Told()
        self.events = EventLog(topology, self.codec, self.producer)
        self.contexts = Contexts(topology, self.told, self.events.versions)
        self.memory = Recollection(self.contexts, None)
        self.inbox = Inbox("mind", topology.topics().inbox("mind"), 0, epoch=epoch)
        self.inboxes = {TopicPartition(self.inbox.topic, 0): self.inbox}
        self.summary = topology.agents["mind"].summary
        makers = {name: maker_of(each.summary) for name, each in topology.agents.items() if each.summary is not None}
        self.summarising = Summarising(topology, summarisers(topology), makers, self.events, self.memory, self.inboxes)
        self.log, self.offset = list[Interaction](), 0

    def ask(self, text: str = "", **fields: Any) -> str:
        """One call of the agent; what it was shown."""
        self.offset += 1
        shown = self.contexts.of(MINE)
        attempt = attempt_of(text=text or f"question {self.offset}", inbox=self.inbox, conversation=MINE)
        attempt.id = AttemptId(MINE.tenant, f"t{self.offset}", 1, "WORK")
        self.contexts.begin(MINE)
        done = self.contexts.note(MINE, attempt, Outcome("COMPLETED", f"answer {self.offset}", **fields))
        self.contexts.left(MINE)
        noted = Noted.of(self.contexts._held[MINE].unseen[-1])
        self.log.append(noted.interaction(MINE.key, self.inbox, self.contexts._held[MINE].version))
        assert done.ordinal == self.log[-1].ordinal
        return shown.text

    def notes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.codec.decode(
            [value for _, _, value, _ in self.producer.sent], "AgentEvent"
        ).batch.to_pylist()
        return found

    def models(self) -> list[Summary]:
        found = [summary_of(each["payload"], each["epoch"]) for each in self.notes()]
        assert None not in found
        return [each for each in found if each is not None]

    def outcomes(self) -> dict[str, float]:
        """How summaries of this agent ended, over all tests."""
        return {
            sample.labels["outcome"]: sample.value
            for metric in REGISTRY.collect()
            if metric.name == "pointsman_host_summaries"
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.labels["agent"] == "mind"
        }

    async def until(self, condition: Callable[[], bool]) -> None:
        deadline = deadline_in(10)
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass in time"
            await asyncio.sleep(0.005)

    @contextmanager
    def serving(self) -> Iterator[None]:
        tasks = [asyncio.ensure_future(each) for each in (self.events.run(), self.summarising.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.summarising.close()
            self.memory.close()


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    summing_up.LET_GO.clear()
    yield
    summing_up.LET_GO.set()


@pytest.mark.parametrize("function", ["brief", "brief_later"])
async def test_ten_interactions_are_summed_up_before_they_are_needed_and_shown_when_they_are(function: str) -> None:
    bench = Bench(topology_of(function, version="4"))
    with bench.serving():
        await bench.memory.ready([MINE])
        for _ in range(10):
            bench.ask(facts=("The budget is 5,000.",) if bench.offset == 3 else ())
        await bench.until(lambda: bool(bench.producer.sent))
        (note,) = bench.notes()
        (model,) = bench.models()
        assert (note["kind"], note["slip"]["reason"], note["epoch"]) == ("NOTE", "SUMMARISED", 3)
        assert (note["task"]["tenant"], note["task"]["conversation_id"], note["task"]["task_id"]) == ("acme", "c", "")
        assert bench.producer.sent[0][::3] == ("agents.mind.events.v1", b"c")
        assert (model.first, model.last, model.since) == (1, 10, 20)
        assert model.version.startswith(f"{run_of(function)} 4+")
        assert "In short: question 1" in model.text
        assert "The budget is 5,000." in model.text
        assert model.ids == tuple(each.id for each in bench.log)
        await bench.until(lambda: not bench.memory._arriving)
        shown = [bench.ask() for _ in range(12)]
        assert ["In short" in each for each in shown] == [False] * 10 + [True] * 2
        await bench.until(lambda: len(bench.producer.sent) == 2)
        expected = window(refold(MINE.key, bench.log, models=bench.models()))
        assert bench.contexts.of(MINE).hash == window_hash(expected)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raises", "RAISED"), ("leaves", "RAISED"), ("hangs", "TIMEOUT"), ("hangs_later", "TIMEOUT"),
        ("no_text", "NO_TEXT"), ("nothing", "NO_TEXT"), ("chatty", "TOO_LONG"), ("forgetful", "FACT_MISSING"),
    ],
)  # fmt: skip
async def test_what_is_refused_is_counted_with_its_reason_and_leaves_the_extractive_one(
    function: str, reason: str
) -> None:
    bench = Bench(topology_of(function, timeout_ms=50))
    before = bench.outcomes().get(reason, 0)
    with bench.serving():
        await bench.memory.ready([MINE])
        for _ in range(24):
            bench.ask(facts=("The budget is 5,000.",) if bench.offset in (3, 13) else ())
        await bench.until(lambda: bench.outcomes().get(reason, 0) >= before + 2)
        assert not bench.producer.sent
        assert bench.contexts.of(MINE).hash == window_hash(window(refold(MINE.key, bench.log)))


async def test_what_is_revoked_while_a_model_is_at_it_is_not_written_and_made_again_without() -> None:
    bench = Bench(topology_of("hangs"))
    with bench.serving():
        await bench.memory.ready([MINE])
        for number in range(10):
            bench.ask("poison" if number == 4 else "water")
        before = bench.outcomes().get("REVOKED", 0)
        bench.told.say(MINE.key, Directives(revoked=frozenset({bench.log[4].id})))
        summing_up.LET_GO.set()
        await bench.until(lambda: bench.outcomes().get("REVOKED", 0) == before + 1)
        assert not bench.producer.sent
        assert bench.contexts.put(MINE, Remembered(tuple(bench.log)))  # as before its next call
        assert "poison" not in bench.ask("next")
        await bench.until(lambda: bool(bench.producer.sent))
        (model,) = bench.models()
        assert bench.log[4].id not in model.ids
        assert len(model.ids) == 9
        assert "poison" not in model.text


async def test_a_summary_that_was_made_is_gone_once_something_of_it_is_revoked() -> None:
    bench = Bench(topology_of("brief"))
    with bench.serving():
        await bench.memory.ready([MINE])
        for number in range(25):
            bench.ask("poison" if number == 4 else "water")
        await bench.until(lambda: len(bench.producer.sent) == 2)
        bench.told.say(MINE.key, Directives(revoked=frozenset({bench.log[4].id})))
        assert bench.contexts.put(MINE, Remembered(tuple(bench.log), (), tuple(bench.models())))
        shown = bench.contexts.of(MINE).text
        assert "poison" not in shown
        await bench.until(lambda: len(bench.producer.sent) == 3)
        again = bench.models()[-1]
        assert (again.first, len(again.ids), again.since) == (1, 9, 27)
        assert "poison" not in again.text


async def test_no_call_sees_a_conversation_without_a_summary_that_its_log_has_by_then() -> None:
    bench = Bench(topology_of("brief"))
    with bench.serving():
        await bench.memory.ready([MINE])
        bench.producer.is_away = True
        for _ in range(19):
            bench.ask()
        await bench.until(lambda: bool(bench.producer.sent))
        await asyncio.wait_for(bench.memory.ready([MINE]), 10)  # nothing of it is shown yet
        shown = [bench.ask(), bench.ask(), bench.ask()]
        assert not any("In short" in each for each in shown)
        waiting = asyncio.ensure_future(bench.memory.ready([MINE]))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        bench.producer.is_away = False
        await asyncio.wait_for(waiting, 10)
        assert "In short" in bench.ask()


async def test_a_conversation_that_went_to_another_host_is_written_about_by_that_one() -> None:
    bench = Bench(topology_of("hangs"))
    with bench.serving():
        await bench.memory.ready([MINE])
        for _ in range(10):
            bench.ask()
        before = bench.outcomes().get("LOST", 0)
        bench.inboxes.clear()
        summing_up.LET_GO.set()
        await bench.until(lambda: bench.outcomes().get("LOST", 0) == before + 1)
    assert not bench.producer.sent


async def test_what_an_earlier_host_had_no_time_for_is_made_when_the_conversation_is_read() -> None:
    first, second = Bench(topology_of("raises")), Bench(topology_of("brief"), epoch=4)
    with first.serving():
        await first.memory.ready([MINE])
        for _ in range(33):
            first.ask()
    with second.serving():
        assert second.contexts.put(MINE, Remembered(tuple(first.log)))
        assert second.contexts.of(MINE) is not EMPTY_CONTEXT
        await second.until(lambda: len(second.producer.sent) == 3)
        assert [(each.first, each.since, each.epoch) for each in second.models()] == [
            (1, 35, 4),
            (11, 35, 4),
            (21, 40, 4),
        ]
    third = Bench(topology_of("brief"), epoch=5)
    with third.serving():
        assert third.contexts.put(MINE, Remembered(tuple(first.log), (), tuple(second.models())))
        assert third.contexts.of(MINE).text
        await asyncio.sleep(0.1)
        assert not third.producer.sent, "what is there is not made again"


async def test_who_has_no_model_is_asked_nothing() -> None:
    bench = Bench(topology_of("brief"))
    with bench.serving():
        other = MINE._replace(agent_id="plain")
        await bench.memory.ready([other])
        for number in range(10):
            attempt = attempt_of(text=str(number), inbox=Inbox("plain", "p", 0), conversation=other)
            bench.contexts.note(other, attempt, Outcome("COMPLETED", "x"))
        await asyncio.sleep(0.05)
    assert not bench.producer.sent


async def test_who_ends_it_in_the_moment_in_which_a_model_answers_is_heard() -> None:
    bench = Bench(topology_of("brief"))
    await bench.memory.ready([MINE])
    for _ in range(10):
        bench.ask()
    ending = asyncio.create_task(bench.summarising.run())

    async def answered(*_: object) -> str:
        asyncio.get_running_loop().call_soon(ending.cancel)
        return "In short."

    bench.summarising._agents["mind"]._pool.run = answered  # type: ignore[method-assign,assignment]
    try:
        assert await asyncio.wait({ending}, timeout=deadline_in(5) - time.monotonic()) == ({ending}, set())
    finally:
        bench.summarising.close()
        bench.memory.close()
