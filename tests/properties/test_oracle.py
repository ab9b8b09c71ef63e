"""Whatever happens in whatever order, the oracle keeps the promises that hold for every task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loadtest.oracle import Action, Dispatch, Oracle, Result
from schemas.topology import Topology, parse_topology
from tests.support.examples import examples

TOPOLOGY = """
limits: {duplicate_horizon_ms: 10000000}
agents:
  a: {run: "m:f", effect: read, accuracy: 0.7}
  b: {run: "m:f", effect: idempotent, timeout_ms: 2000}
  c: {run: "m:f", effect: read, accuracy: 0.95}
  d: {run: "m:f", effect: read, grounded: true}
  w: {run: "m:f", effect: write}
  f: {run: "m:f", effect: read}
routes:
  x: {agents: [a, w, b, c, d], fallback: {agent: f, answer: "none"}}
  y: {agents: [w, a, b], fallback: {answer: "none"}, low_value_answer: "see {intent}"}
  z: {agents: [a, b], fallback: {agent: f}}
default_route: x
"""
AGENTS = "abcdwf"
NOW_MS = 1_000_000


def topology() -> Topology:
    return parse_topology(TOPOLOGY, "test")


@dataclass
class World:
    """An oracle, and all that it has said."""

    oracle: Oracle
    now_ms: int = NOW_MS
    submitted: set[str] = field(default_factory=set)
    sent: list[Dispatch] = field(default_factory=list)
    ended: list[Result] = field(default_factory=list)

    def hear(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Dispatch):
                assert action.task_id in {key[1] for key in self.oracle.in_flight}
                self.sent.append(action)
            elif isinstance(action, Result):
                self.ended.append(action)

    def do(self, step: tuple[Any, ...]) -> None:
        verb, *rest = step
        if verb == "submit":
            number, stated = rest
            self.submitted.add(f"t{number}")
            self.hear(self.oracle.submit({"task_id": f"t{number}", "text": "", **stated}, self.now_ms))
        elif verb == "breaker":
            agent, state = rest
            self.oracle.set_breaker(agent, state)
        elif verb == "wait":
            self.now_ms += rest[0]
            self.hear(self.oracle.tick(self.now_ms))
        elif self.sent:
            which, outcome = rest
            slip = self.sent[which % len(self.sent)]
            event = {
                "event_id": f"{slip.task_id}/{slip.attempt}/{outcome['kind']}",
                "slip": {"agent_id": slip.agent_id, "attempt": slip.attempt, "stage": slip.stage},
                "task": {"task_id": slip.task_id, "tenant": slip.tenant},
                **outcome,
            }
            self.hear(self.oracle.outcome(event, self.now_ms))


submissions = st.tuples(
    st.just("submit"),
    st.integers(0, 9),
    st.fixed_dictionaries(
        {
            "intent": st.sampled_from(["x", "y", "z", "unknown"]),
            "confidence": st.sampled_from([0.3, 0.6, 0.9, 0.95, 7.0]),
            "value_tier": st.sampled_from(["UNKNOWN", "LOW", "MEDIUM", "HIGH"]),
            "deadline_ms": st.sampled_from([None, None, NOW_MS + 3000, NOW_MS + 20_000]),
        }
    ),
)
completed = st.fixed_dictionaries(
    {
        "kind": st.just("COMPLETED"),
        "answer": st.sampled_from(["one", "two", None]),
        "confidence": st.sampled_from([0.9, 0.8, None, 0.4, float("nan")]),
        "citations": st.sampled_from([["page"], []]),
        "cost_microusd": st.just(1),
    }
)
failed = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["FAILED", "REFUSED", "STARTED"]),
        "error_class": st.sampled_from([None, "TIMEOUT", "QUOTA", "WRONG_INPUT", "UNKNOWN_OUTCOME"]),
    }
)
outcomes = st.tuples(st.just("outcome"), st.integers(0, 50), completed | completed | failed)
breakers = st.tuples(
    st.just("breaker"),
    st.sampled_from(AGENTS),
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(["OPEN", "CLOSED", "HALF_OPEN"]),
            "epoch": st.integers(1, 3),
            "probe_partitions": st.sampled_from([[0], [1]]),
        }
    ),
)
waits = st.tuples(st.just("wait"), st.sampled_from([0, 1, 700, 5300]))
steps = st.lists(submissions | outcomes | outcomes | breakers | waits, max_size=60)


@examples(200)
@given(steps)
def test_promises(steps: list[tuple[Any, ...]]) -> None:
    world = World(Oracle(topology()))
    for step in steps:
        world.do(step)
    world.do(("wait", 86_400_000))

    assert world.oracle.in_flight == ()
    assert Counter(result.task_id for result in world.ended) == Counter(world.submitted)

    sent_of: dict[str, list[Dispatch]] = {task_id: [] for task_id in world.submitted}
    for dispatch in world.sent:
        sent_of[dispatch.task_id].append(dispatch)
        assert dispatch.routed_at_ms < dispatch.deadline_ms
        assert 0 < dispatch.timeout_ms <= dispatch.deadline_ms - dispatch.routed_at_ms
        assert dispatch.agent_id not in dispatch.chain
        assert dispatch.agent_id != "w" or not dispatch.panel
        assert (dispatch.stage == "REGROUND") == (dispatch.reason == "REGROUND")
    for task_id, sent in sent_of.items():
        assert [dispatch.attempt for dispatch in sent] == list(range(1, len(sent) + 1)), task_id
        assert max(Counter((dispatch.agent_id, dispatch.stage) for dispatch in sent).values(), default=0) <= 1, task_id
    probes = Counter((dispatch.agent_id, dispatch.probe_epoch) for dispatch in world.sent if dispatch.probe_epoch)
    assert max(probes.values(), default=0) <= 1
    for result in world.ended:
        assert result.attempts == len(sent_of[result.task_id])
        assert set(result.agents) <= {dispatch.agent_id for dispatch in sent_of[result.task_id]}
        assert not {vote.agent_id for vote in result.votes} & {"w"}
        if result.status == "COMPLETED" and result.reason != "RULE":
            assert result.answer is not None
            assert result.confidence is not None
            assert result.confidence >= 0.7
