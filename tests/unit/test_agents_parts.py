"""The parts of the host that do no I/O: turns, recognition, outcomes, threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.contract import BATCH_OUTPUT, AgentFailed, Answer
from agents.lanes import Lanes
from agents.outcome import Outcome, UnusableAnswer, from_answer, from_batch, from_error
from agents.recognition import IN_HAND, RECENT_MAX, AttemptId, Logged, Memory, Recognition
from agents.work import Room
from streams.transport.telemetry import HOST_INFLIGHT
from streams.transport.threads import DaemonPool
from tests.support.agents_bench import make_topology, until


@dataclass(eq=False)
class Item:
    number: int
    conversation: Hashable | None = None


# Turns.


@given(st.data(), st.integers(1, 4), st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=30))
def test_lanes_keep_order_bound_and_count(data: st.DataObject, bound: int, conversations: list[str | None]) -> None:
    """Against the definition: whatever the order of adding and ending, none is lost and none overtakes."""
    lanes: Lanes[Item] = Lanes(bound)
    to_add = [Item(i, conversation) for i, conversation in enumerate(conversations)]
    running: list[Item] = []
    begun: list[Item] = []
    started: Item | None
    while to_add or len(lanes):
        choices = ["add"] * bool(to_add) + ["start"] + ["end"] * bool(running)
        match data.draw(st.sampled_from(choices)) if to_add else ("end" if running else "start"):
            case "add":
                lanes.add(to_add.pop(0))
            case "end":
                lanes.done(running.pop(data.draw(st.integers(0, len(running) - 1))))
        while (started := lanes.next()) is not None:
            running.append(started)
            begun.append(started)
        assert len(running) == lanes.running <= bound
        in_conversation = [item.conversation for item in running if item.conversation is not None]
        assert len(set(in_conversation)) == len(in_conversation), "one at a time per conversation"
    assert sorted(item.number for item in begun) == list(range(len(conversations)))
    for conversation in "abc":
        numbers = [item.number for item in begun if item.conversation == conversation]
        assert numbers == sorted(numbers)


def test_dropped_items_make_way_for_the_next_of_their_conversation() -> None:
    lanes: Lanes[Item] = Lanes(1)
    items = [Item(0, "a"), Item(1, "b"), Item(2, "b"), Item(3, "a"), Item(4)]
    for item in items:
        lanes.add(item)
    assert lanes.next() is items[0]
    assert lanes.drop(lambda item: item.number in {1, 3}) == 2
    assert (lanes.waiting, len(lanes)) == (2, 3)
    lanes.done(items[0])
    order = []
    while (left := lanes.next()) is not None:
        order.append(left.number)
        lanes.done(left)
    assert sorted(order) == [2, 4]
    assert len(lanes) == 0


def test_each_waiting_item_is_asked_for_once_whether_it_is_wanted() -> None:
    """Whoever asks may take it apart: a second answer about what was taken apart is another one."""
    lanes: Lanes[Item] = Lanes(1)
    for number, conversation in enumerate(["a", "a", "b", None]):
        lanes.add(Item(number, conversation))
    asked: list[int] = []

    def unwanted(item: Item) -> bool:
        asked.append(item.number)
        return asked.count(item.number) == 1

    assert lanes.drop(unwanted) == 4
    assert sorted(asked) == [0, 1, 2, 3]
    assert lanes.next() is None
    assert len(lanes) == 0


# Recognition.


def attempt(number: int) -> AttemptId:
    return AttemptId("default", f"t{number}", 1, "WORK")


S = 1_000_000
MEMORY = Memory(writes=True, outcomes_max=3, horizon_us=50 * S, kept_us=100 * S)


def test_an_attempt_is_new_once() -> None:
    known = Recognition()
    assert known.meet(attempt(1), 0, 0) is None
    assert known.meet(attempt(1), 1, 0) is IN_HAND
    known.ended(attempt(1), 0)
    assert known.meet(attempt(1), 2, 0) is IN_HAND
    assert known.meet(attempt(1)._replace(stage="REGROUND"), 3, 0) is None


def test_one_that_was_given_up_is_new_again() -> None:
    known = Recognition()
    known.meet(attempt(1), 0, 0)
    known.forget(attempt(1))
    assert known.meet(attempt(1), 0, 0) is None


def test_the_log_of_an_earlier_host_is_known_until_the_inbox_is_read_past_it() -> None:
    logged = {attempt(1): Logged("COMPLETED", "yes", 5), attempt(2): Logged("STARTED"), attempt(3): Logged("FAILED")}
    known = Recognition(logged, until=10)
    assert known.meet(attempt(1), 7, 0) == Logged("COMPLETED", "yes", 5)
    assert known.meet(attempt(1), 8, 0) is IN_HAND, "the second time it is a repeat as any other"
    assert not known.meet_all([attempt(4).key], 9), "one by one, as long as there is anything to recognise"
    assert known.meet(attempt(2), 9, 0) == Logged("STARTED")
    assert known.meet(attempt(2), 9, 0) is IN_HAND
    assert known.meet_all([attempt(5).key], 10) == {attempt(5).key}
    assert known.meet(attempt(3), 11, 0) is IN_HAND, "and it is remembered beyond that"


def test_what_was_begun_is_known_however_late_it_comes_again_where_it_must_not_run_twice() -> None:
    logged = {attempt(1): Logged("STARTED")}
    for memory, found in ((MEMORY, Logged("STARTED")), (MEMORY._replace(writes=False), None)):
        known = Recognition(logged, until=10, memory=memory)
        known.meet(attempt(2), 10, 0)
        assert known.meet(attempt(1), 11, 0) == found


def test_what_is_remembered_is_bounded() -> None:
    known = Recognition()
    for number in range(RECENT_MAX + 1):
        known.meet(attempt(number), number, 0)
        known.ended(attempt(number), number)
    assert known.meet(attempt(0), RECENT_MAX + 1, 0) is None
    assert known.meet(attempt(2), RECENT_MAX + 2, 0) is IN_HAND


def test_nothing_is_remembered_for_longer_than_its_dispatch_may_come_again() -> None:
    known = Recognition(memory=MEMORY)
    known.ended(attempt(1), 0)
    known.ended(attempt(2), 100 * S)
    assert known.meet(attempt(1), 0, 0) is IN_HAND
    known.ended(attempt(3), 100 * S + 1)
    assert known.meet(attempt(1), 0, 0) is None


def test_a_dispatch_that_is_routed_long_after_the_outcome_is_that_of_a_new_task_of_the_same_id() -> None:
    """Rule R1.4: beyond its horizon a repeated id is a new task, and waits for an answer of its own."""
    logged = {attempt(2): Logged("COMPLETED", "yes", 10 * S)}
    for late, found in ((60 * S, IN_HAND), (60 * S + 1, None)):
        known = Recognition(logged, until=5, memory=MEMORY)
        known.ended(attempt(1), 10 * S)
        assert known.meet(attempt(1), 0, late) is found
        assert known.meet(attempt(2), 1, late) == (None if found is None else logged[attempt(2)])


def test_an_agent_that_writes_is_asked_once_for_a_task_whatever_two_workers_call_the_attempt() -> None:
    again = attempt(1)._replace(attempt=2)
    began = Logged("STARTED")
    in_hand, done, read_back, other = (Recognition(memory=MEMORY) for _ in range(4))
    in_hand.meet(attempt(1), 0, 0)
    assert in_hand.meet(again, 1, 0) == began
    done.meet(attempt(1), 0, 0)
    done.ended(attempt(1), 10 * S)
    assert done.meet(again, 1, 60 * S) == began
    assert done.meet(again, 2, 60 * S) is IN_HAND
    for kind in ("STARTED", "COMPLETED"):
        read_back = Recognition({attempt(1): Logged(kind, None, 10 * S)}, until=5, memory=MEMORY)
        assert read_back.meet(again, 1, 60 * S) == began
    done.ended(again, 10 * S)
    assert done.meet(attempt(1)._replace(attempt=3), 3, 60 * S + 1) is None, "a new task"
    reads = Recognition(memory=MEMORY._replace(writes=False))
    reads.meet(attempt(1), 0, 0)
    assert reads.meet(again, 1, 0) is None
    other.meet(attempt(1), 0, 0)
    assert other.meet(again._replace(tenant="another"), 1, 0) is None


def test_what_a_host_remembers_follows_from_its_topology() -> None:
    topology = make_topology("", {"reader": {"timeout_ms": 5_000}, "writer": {"effect": "write", "timeout_ms": 9_000}})
    assert Memory.of(topology.agents["reader"], topology.limits) == Memory(False, 10_000, 50 * S, 75 * S)
    assert Memory.of(topology.agents["writer"], topology.limits) == Memory(True, 200_000, 50 * S, 79 * S)
    tight = topology.limits.model_copy(update={"duplicate_horizon_ms": 4_000, "finished_tasks_max": 7})
    assert Memory.of(topology.agents["reader"], tight) == Memory(False, 7, 2 * S, 19 * S)


# Outcomes.


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("text", "the agent returned str, not an Answer"),
        (Answer(None), "text is NoneType, not str"),  # type: ignore[arg-type]
        (Answer("x", True), "confidence is bool, not a number"),
        (Answer("x", 10**400), "confidence is too large a number"),
        (Answer("x", vote_key=5), "vote_key is int, not str"),  # type: ignore[arg-type]
        (Answer("x", citations="abc"), "citations is str, not a tuple of str"),  # type: ignore[arg-type]
        (Answer("x", facts=(1,)), "facts is int, not str"),  # type: ignore[arg-type]
        (Answer("x", tokens_in=-1), "tokens_in is no count"),
        (Answer("x", cost_microusd=2**63), "cost_microusd is no count"),
        (Answer("x", payload={1, 2}), "payload is nothing that JSON can hold"),
        (Answer("x", payload=float("nan")), "payload is nothing that JSON can hold"),
    ],
)
def test_an_unusable_answer_is_said_to_be_one(answer: object, why: str) -> None:
    with pytest.raises(UnusableAnswer, match=f"^{why}$"):
        from_answer(answer)


@pytest.mark.parametrize("texts", [("a", "b"), ["a", "b"], {"a": 1, "b": 2}.keys(), (each for each in "ab")])
def test_texts_and_numbers_of_an_answer_may_be_of_any_kind(texts: Any) -> None:
    outcome = from_answer(Answer("x", Fraction(1, 2), citations=texts, tool_calls=[]))  # type: ignore[arg-type]
    assert (outcome.confidence, outcome.citations, outcome.tool_calls) == (0.5, ("a", "b"), None)
    with pytest.raises(UnusableAnswer, match="citations is dict"):
        from_answer(Answer("x", citations={"a": 1}))  # type: ignore[arg-type]


def test_what_a_host_has_in_hand_is_told_when_somebody_asks() -> None:
    room = Room(10)
    room.take(3)
    room.take(-1)
    assert [sample.value for metric in HOST_INFLIGHT.collect() for sample in metric.samples] == [2]


def test_an_error_tells_its_class_and_never_more_than_it_may() -> None:
    assert from_error(AgentFailed("x", "QUOTA"), may_have_acted=True)[:1] == ("FAILED",)
    assert from_error(AgentFailed("x", "QUOTA"), may_have_acted=True).error_class == "QUOTA"
    bug = ValueError("\udc80" + "x" * 1000)
    assert from_error(bug, may_have_acted=True).error_class == "UNKNOWN_OUTCOME"
    outcome = from_error(bug, may_have_acted=False)
    assert outcome.error_class == "INTERNAL"
    assert outcome.error is not None
    assert len(outcome.error.encode()) == 500


def batch(**columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def test_a_batch_may_leave_columns_out_and_give_them_in_any_type() -> None:
    rows = batch(confidence=pa.array([1, None], pa.int8()), answer=pa.array(["a", "b"], pa.large_string()))
    assert from_batch(rows, 2, may_have_acted=False) == [
        Outcome("COMPLETED", "a", confidence=1.0),
        Outcome("COMPLETED", "b"),
    ]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "the agent returned list, not a RecordBatch"),
        (batch(answer=pa.array(["a"])), "the agent returned 1 rows for 2"),
        (batch(answer=pa.array([["a"], ["b"]])), "column answer cannot be read as string"),
        (batch(answer=pa.array([b"\xff", b"b"])), "column answer cannot be read as string"),
        (batch(citations=pa.array([["a", None], []])), "column citations holds a null"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(rows: object, why: str) -> None:
    with pytest.raises(UnusableAnswer, match=f"^{why}$"):
        from_batch(rows, 2, may_have_acted=False)


def test_the_columns_of_a_batch_are_those_of_an_outcome() -> None:
    assert set(BATCH_OUTPUT.names) <= set(Outcome._fields)


# Threads.


@dataclass
class Gate:
    """Calls that wait until they are let go."""

    open: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pass_through(self) -> int:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.open.wait(10)
        with self.lock:
            self.running -= 1
        return threading.get_ident()


def test_a_pool_runs_no_more_than_it_may_and_never_what_was_cancelled() -> None:
    pool, gate = DaemonPool("test", 2), Gate()
    ran: list[int] = []
    first = [pool.submit(gate.pass_through) for _ in range(2)]
    until(lambda: gate.running == 2)
    waiting = pool.submit(ran.append, 1)
    later = pool.submit(ran.append, 2)
    assert waiting.cancel()
    time.sleep(0.05)
    assert not ran
    gate.open.set()
    later.result(10)
    assert (ran, gate.most) == ([2], 2)
    assert len({future.result(10) for future in first}) == 2
    pool.close()


def test_a_pool_says_where_a_call_stands_that_does_not_come_back() -> None:
    pool, gate = DaemonPool("test", 1), Gate()
    stuck = pool.submit(gate.pass_through)
    until(lambda: gate.running == 1)
    assert list(pool.overdue(60.0)) == []
    time.sleep(0.01)
    ((seconds, where),) = pool.overdue(0.005)
    assert seconds > 0.005
    assert "pass_through" in where
    assert list(pool.overdue(0.005)) == [], "it was told"
    gate.open.set()
    stuck.result(10)
    until(lambda: pool._running == {})
    assert pool.submit(lambda: 5).result(10) == 5
    pool.close()


def test_a_pool_hands_an_error_on_and_lives() -> None:
    pool = DaemonPool("test", 1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(10)
    assert pool.submit(lambda: 5).result(10) == 5
    pool.close()
