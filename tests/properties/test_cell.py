"""The cell decides as its naive scalar twin does, and a fold of the logs decides as the cell that never stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from loadtest import oracle
from loadtest.oracle import Oracle
from schemas.topology import Topology
from streams.core.cell import Cell
from streams.core.effects import Dispatch, Effects, Note, Result
from streams.core.intake import Heard, Intake
from streams.core.policy import Policy
from streams.core.recovery import Fold
from streams.core.task import Slip
from tests.support import scenes
from tests.support.examples import examples
from tests.support.scenes import T0_MS

PARTITION = 2
TOPOLOGY = scenes.topology()
POLICY = Policy.compile(TOPOLOGY)

TASK_IDS = st.sampled_from([f"t{number}" for number in range(8)])
NAN = float("nan")


class Breaker(NamedTuple):
    phase: str
    epoch: int
    probe_partitions: tuple[int, ...] = ()


tasks = st.fixed_dictionaries(
    {
        "task_id": TASK_IDS,
        "text": st.sampled_from(
            ["revenue of May", "our margin", "the contract", "file an incident", "chat", "by the way", "hello"]
        ),
    },
    optional={
        "tenant": st.sampled_from(["default", *scenes.TENANTS]),
        "intent": st.sampled_from(["money", "papers", "deeds", "talk", "asides", "nonsense"]),
        "confidence": st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.8, 0.81, 1.0, 1.5, NAN]),
        "value_tier": st.sampled_from(["UNKNOWN", "LOW", "MEDIUM", "HIGH"]),
        "deadline_ms": st.sampled_from([0, 1, T0_MS + 500, T0_MS + 2_500, T0_MS + 60_000, 2**63 - 1]),
        "budget_microusd": st.sampled_from([-1, 0, 10]),
        "depth": st.sampled_from([-1, 0, 33]),
        "submitted_at": st.sampled_from([-1, 0, T0_MS * 1000, 2**63 - 1]),
        "conversation_id": st.just("c"),
        "labels": st.just({"team": "x"}),
    },
)
SOUND = {"budget_microusd", "depth", "submitted_at"}
sound_tasks = tasks.map(lambda task: {name: value for name, value in task.items() if name not in SOUND})
answers = st.fixed_dictionaries(
    {"kind": st.sampled_from(["COMPLETED"] * 4 + ["FAILED", "REFUSED", "STARTED", "NOTE"])},
    optional={
        "answer": st.sampled_from(["yes", "Yes ", "no", "maybe", None]),
        "vote_key": st.sampled_from(["1", "2", None]),
        "confidence": st.sampled_from([0.9, 0.95, 0.7, 0.5, NAN, -1.0, None]),
        "citations": st.sampled_from([[], ["page 2"]]),
        "error_class": st.sampled_from(
            ["INTERNAL", "TIMEOUT", "OVERLOADED", "QUOTA", "WRONG_INPUT", "UNKNOWN_OUTCOME", "NEW", None]
        ),
        "cost_microusd": st.just(7),
        "tokens_in": st.just(3),
        "tokens_out": st.just(2),
        "ordinal": st.sampled_from([0, 1]),
    },
)
breakers = st.builds(
    Breaker,
    st.sampled_from(["CLOSED", "OPEN", "HALF_OPEN"]),
    st.integers(1, 3),
    st.sampled_from([(), (PARTITION,), (0, 1)]),
)
steps = st.one_of(
    st.tuples(st.just("submit"), st.lists(tasks, min_size=1, max_size=4)),
    st.tuples(st.just("submit"), st.lists(sound_tasks, min_size=1, max_size=4)),
    st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 30), answers), min_size=1, max_size=6)),
    st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 30), answers), min_size=1, max_size=6)),
    st.tuples(st.just("wait"), st.sampled_from([1, 49, 700, 1_300, 2_299, 2_300, 5_000, 30_000])),
    st.tuples(st.just("breaker"), st.tuples(st.sampled_from(list(scenes.AGENTS)), breakers)),
    st.tuples(st.just("pause"), st.frozensets(st.sampled_from(list(scenes.AGENTS)))),
    st.tuples(st.just("behind"), st.frozensets(st.sampled_from(list(scenes.AGENTS)))),
)


class Behind:
    """Whose hosts have read nothing of what was routed after some time."""

    def __init__(self) -> None:
        self.since_ms: dict[str, int] = {}

    def is_over(self, agent_id: str, routed_ms: int) -> bool:
        return routed_ms <= self.since_ms.get(agent_id, routed_ms)

    def has_begun(self, agent_id: str, routed_ms: int) -> bool:
        return self.is_over(agent_id, routed_ms)

    def unread(self, agent_id: str, routed_ms: int) -> bool:
        return not self.is_over(agent_id, routed_ms)


class World:
    """A cell and its twin, side by side; remembers what the topics would hold."""

    def __init__(self, topology: Topology) -> None:
        self.now_ms = T0_MS
        self.cell, self.oracle = Cell(POLICY, PARTITION), Oracle(topology, PARTITION)
        self.tasks: dict[tuple[str, str], dict[str, Any]] = {}
        self.dispatches: list[Dispatch] = []
        self.events: list[dict[str, Any]] = []
        self.notes: list[Note] = []
        self.results: list[Result] = []
        self.breakers: dict[str, Breaker] = {}
        self.paused: frozenset[str] = frozenset()
        self.hosts = Behind()
        self.offset = 0
        self.appended_ms: dict[tuple[str, str], int] = {}

    def take(self, step: tuple[str, Any]) -> tuple[Effects, list[oracle.Action]]:
        """Applies one step to both and gives what each decided."""
        kind, argument = step
        if kind == "submit":
            decided = self._submit(argument)
        elif kind == "answer":
            decided = self._answer(argument)
        elif kind == "wait":
            self.now_ms += argument
            decided = (
                self.cell.tick(self.now_ms, hosts=self.hosts),
                self.oracle.tick(self.now_ms, self.hosts.unread),
            )
        elif kind == "behind":
            self.hosts.since_ms = dict.fromkeys(argument, self.now_ms - 1)
            decided = Effects(), []
        elif kind == "pause":
            self.paused = argument
            self.cell.observe_paused(argument)
            self.oracle.set_paused(argument)
            decided = Effects(), []
        else:
            agent, breaker = argument
            self.breakers[agent] = breaker
            self.cell.observe_breakers(self.breakers)
            state = {"state": breaker.phase, "epoch": breaker.epoch, "probe_partitions": list(breaker.probe_partitions)}
            self.oracle.set_breaker(agent, state)
            decided = Effects(), []
        effects = decided[0].one_by_one()
        self.remember(effects)
        return effects, decided[1]

    def remember(self, effects: Effects) -> None:
        self.dispatches += effects.dispatches
        self.notes += effects.notes
        self.results += effects.results

    def _submit(self, batch: list[dict[str, Any]]) -> tuple[Effects, list[oracle.Action]]:
        for row, task in enumerate(batch):
            key = (task.get("tenant", "default"), task["task_id"])
            self.tasks.setdefault(key, task)
            self.appended_ms.setdefault(key, T0_MS + self.offset + row)
        mine = self.cell.submit(intake(batch, self.offset, self.now_ms), self.now_ms)
        self.offset += len(batch)
        return mine, [action for task in batch for action in self.oracle.submit(task, self.now_ms)]

    def _answer(self, batch: list[tuple[int, dict[str, Any]]]) -> tuple[Effects, list[oracle.Action]]:
        if not self.dispatches:
            return Effects(), []
        records = []
        for index, answer in batch:
            slip, task = self.addressed(self.dispatches[-1 - index % len(self.dispatches)])
            records.append(scenes.event(slip, task, **answer))
        self.events += records
        mine = self.cell.collect(Heard.read(scenes.events(records)), self.now_ms)
        return mine, [action for record in records for action in self.oracle.outcome(record, self.now_ms)]

    def addressed(self, dispatch: Dispatch) -> tuple[Slip, dict[str, Any]]:
        """The slip, and the first submission of its task."""
        return dispatch.slip, self.tasks[_key(dispatch)]

    def recover(self, shuffled: Sequence[int]) -> tuple[Cell, Effects]:
        """A new cell made from the logs, each topic folded in the order that `shuffled` gives."""
        cell = Cell(POLICY, PARTITION)
        cell.observe_breakers(self.breakers)
        cell.observe_paused(self.paused)
        fold = Fold(cell)
        # Each fact as if it was appended the moment its task was.
        asked_ms = [self.appended_ms[_key(d)] for d in self.dispatches]
        ended_ms = [self.appended_ms[r.id] for r in self.results]
        asked = [(d, self.addressed(d)[1]) for d in self.dispatches]
        facts = [
            lambda: fold.dispatches(scenes.dispatch_facts(asked, asked_ms)),
            lambda: fold.events(scenes.events(self.events)),
            lambda: fold.notes(scenes.note_facts(self.notes)),
            lambda: fold.results(scenes.result_facts(self.results), ended_ms),
        ]
        for index in shuffled:
            facts[index]()
        return cell, fold.resume(self.now_ms)


def intake(batch: list[dict[str, Any]], offset: int, now_ms: int) -> Intake:
    return Intake.read(POLICY, scenes.submissions(batch, offset), now_ms)


def _key(dispatch: Dispatch) -> tuple[str, str]:
    tenant, task_id = dispatch.datum.decode().split("/")
    return tenant, task_id


def mine(effects: Effects) -> Counter[tuple[Any, ...]]:
    """The cell's decisions in a shape that both have."""
    return Counter(
        [
            *(("dispatch", d.datum.decode(), *_slip(d.slip)) for d in effects.dispatches),
            *(("note", n.kind, n.reason, *n.id, n.agent_id) for n in effects.notes),
            *(("result", *_result(r)) for r in effects.results),
        ]
    )


def _slip(slip: Slip) -> tuple[Any, ...]:
    return (
        slip.agent_id,
        slip.attempt,
        slip.seat,
        slip.stage,
        slip.reason,
        slip.band,
        slip.panel,
        slip.chain,
        slip.intent,
        slip.confidence,
        slip.value_tier,
        slip.probe_epoch,
        slip.timeout_ms,
        slip.routed_at,
        slip.cost_microusd,
        slip.tokens,
    )


def _result(result: Result) -> tuple[Any, ...]:
    return (
        *result.id,
        result.status,
        result.reason,
        result.intent,
        result.answer,
        result.payload,
        result.confidence if result.confidence is None else round(result.confidence, 9),
        result.agents,
        tuple((v.seat, v.agent_id, v.key, v.confidence, round(v.weight, 9)) for v in result.votes),
        result.dissent,
        result.attempts,
        result.cost_microusd,
        result.tokens,
        result.identity.conversation_id,
        result.identity.labels,
        result.identity.submitted_at,
        result.decided_at,
    )


def twins(actions: list[oracle.Action]) -> Counter[tuple[Any, ...]]:
    return Counter(_twin(action) for action in actions)


def _twin(action: oracle.Action) -> tuple[Any, ...]:
    if isinstance(action, oracle.Note):
        return ("note", action.kind, action.reason, action.tenant, action.task_id, action.agent_id)
    if isinstance(action, oracle.Dispatch):
        a = action
        return (
            *("dispatch", f"{a.tenant}/{a.task_id}", a.agent_id, a.attempt, a.seat, a.stage, a.reason, a.band, a.panel),
            *(a.chain, a.intent, a.confidence, a.value_tier, a.probe_epoch, a.timeout_ms, a.routed_at_ms * 1000),
            *(a.cost_microusd, a.tokens),
        )
    r = action
    return (
        *("result", r.tenant, r.task_id, r.status, r.reason, r.intent, r.answer, r.payload),
        r.confidence if r.confidence is None else round(r.confidence, 9),
        r.agents,
        tuple((v.seat, v.agent_id, v.key, v.confidence, round(v.weight, 9)) for v in r.votes),
        *(r.dissent, r.attempts, r.cost_microusd, r.tokens, r.conversation_id, tuple(r.labels.items())),
        *(r.submitted_at, r.decided_at_ms * 1000),
    )


@examples(400)
@given(st.lists(steps, min_size=1, max_size=12))
def test_the_cell_decides_as_its_scalar_twin(script: list[tuple[str, Any]]) -> None:
    world = World(TOPOLOGY)
    for step in script:
        cells, twin = world.take(step)
        assert mine(cells) == twins(twin)
    assert set(world.cell.tasks) == set(world.oracle.in_flight)
    if world.now_ms - T0_MS > TOPOLOGY.limits.duplicate_horizon_ms:
        return  # beyond the horizon a repeat is a new task
    ends = Counter(result.id for result in world.results)
    assert not [task for task, count in ends.items() if count > 1], "C1"


@examples(300)
@given(st.lists(steps, min_size=1, max_size=10), st.permutations(range(4)))
def test_after_a_clean_stop_recovery_has_nothing_to_say(script: list[tuple[str, Any]], order: list[int]) -> None:
    world = World(TOPOLOGY)
    for step in script:
        world.take(step)
    world.take(("wait", 0))
    recovered, effects = world.recover(order)
    # A breaker that closed since may let a seat be filled that was given up for want of anyone to ask; so may a person.
    if not world.breakers and not any(kind == "pause" for kind, _ in script):
        assert not effects, "C3"
    assert set(recovered.tasks) <= set(world.cell.tasks)


calm = st.one_of(
    st.tuples(st.just("submit"), st.lists(sound_tasks, min_size=1, max_size=4)),
    st.tuples(st.just("answer"), st.lists(st.tuples(st.integers(0, 30), answers), min_size=1, max_size=6)),
)


@examples(300)
@given(st.lists(calm, min_size=1, max_size=8), st.permutations(range(4)), st.lists(calm, min_size=1, max_size=6))
def test_a_fold_in_any_order_decides_as_the_cell_that_never_stopped(
    before: list[tuple[str, Any]], order: list[int], after: list[tuple[str, Any]]
) -> None:
    world = World(TOPOLOGY)
    for step in before:
        world.take(step)
    world.cell, effects = world.recover(order)
    assert not effects
    for step in after:
        cells, twin = world.take(step)
        assert mine(cells) == twins(twin), "C3"
    cells, twin = world.take(("wait", 120_000))
    assert mine(cells) == twins(twin), "C3"


@examples(200)
@given(st.lists(calm, min_size=1, max_size=8), st.permutations(range(4)), st.data())
def test_whatever_a_crash_cuts_off_recovery_ends_every_task_once(
    before: list[tuple[str, Any]], order: list[int], data: st.DataObject
) -> None:
    """The last turn's output reaches each topic only up to some point: all that was accepted ends all the same."""
    world = World(TOPOLOGY)
    for step in before[:-1]:
        world.take(step)
    kept = len(world.dispatches), len(world.notes), len(world.results)
    world.take(before[-1])
    topics: tuple[list[Any], ...] = (world.dispatches, world.notes, world.results)
    for topic, start in zip(topics, kept, strict=True):
        del topic[data.draw(st.integers(start, len(topic))) :]
    recovered, effects = world.recover(order)
    world.remember(effects)
    world.cell = recovered
    if before[-1][0] == "submit":  # its offset was not committed: it is read again
        world.remember(recovered.submit(intake(before[-1][1], world.offset, world.now_ms), world.now_ms).one_by_one())
    for elapsed in (10_000, 30_000, 60_000, 90_000):
        world.remember(recovered.tick(world.now_ms + elapsed))
    ends = Counter(result.id for result in world.results)
    assert ends == Counter(world.tasks.keys()), "C1"


@examples(200)
@given(st.lists(calm, max_size=6), st.lists(sound_tasks, min_size=1, max_size=4), st.permutations(range(4)))
def test_a_submission_that_is_read_again_is_no_duplicate_of_itself(
    before: list[tuple[str, Any]], last: list[dict[str, Any]], order: list[int]
) -> None:
    world = World(TOPOLOGY)
    for step in (*before, ("submit", last)):
        world.take(step)
    noted = {note.event_id for note in world.notes}
    recovered, _ = world.recover(order)
    again = recovered.submit(intake(last, world.offset - len(last), world.now_ms), world.now_ms)
    assert not again.dispatches
    assert not again.departed
    assert not again.results
    assert {note.event_id for note in again.notes} <= noted
    later = recovered.submit(intake(last, world.offset, world.now_ms), world.now_ms)
    assert [note.kind for note in later.notes] == ["DUPLICATE"] * len(last)
