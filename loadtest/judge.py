"""Whether what was decided about one task is what the rules say: the oracle is given the facts, and must say the same.

Not all that the worker knew is in the topics: in which order it read logs of different agents, and which breaker states
it had seen when it decided. So a decision counts as right if some order, and some states that had been published by
then, lead the oracle to it; what it decided with no such story is wrong. Repeats of a record are taken as one.
I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from loadtest.oracle import OUTCOMES, Action, Dispatch, Note, Oracle, Result
from schemas.topology import Topology

Record: TypeAlias = Mapping[str, Any]
# Decided by the clock alone.
BY_TIME = frozenset({"TIMED_OUT", "DEADLINE", "WRITE_UNCERTAIN"})
SEEN_AHEAD_MS = 2_000  # clocks of broker and worker may differ
TRIES_MAX = 2_000
PLACES = 9  # of decimals, where sums of floats are compared


@dataclass(frozen=True)
class Facts:
    """All records of one task, each kind in the order of its partition; times are microseconds since the epoch."""

    submissions: Sequence[Record]
    dispatches: Sequence[Record]
    events: Sequence[Record]
    notes: Sequence[Record]
    results: Sequence[Record]


@dataclass(frozen=True)
class Breakers:
    """When each breaker was first said not to be closed, in milliseconds since the epoch; those that never were are
    not named."""

    moved_ms: Mapping[str, int] = field(default_factory=dict)


class _Step(NamedTuple):
    """What happens to the oracle. `number` is of the submission or the outcome."""

    kind: str
    number: int
    now_ms: int
    states: tuple[tuple[str, str, int], ...] = ()  # agent, state, epoch; agents that are left out are closed


def wrong(topology: Topology, facts: Facts, breakers: Breakers | None = None, partition: int = 0) -> str | None:
    """Why the decisions about a task are wrong; None where they are right."""
    if not facts.submissions:
        return "there is no submission"
    trial = _Trial(topology, facts, breakers or Breakers(), partition)
    if (why := trial.shape()) is not None:
        return why
    if trial.explains():
        return None
    return f"no order of its outcomes leads the oracle there; {trial.difference()}"


class _Trial:
    def __init__(self, topology: Topology, facts: Facts, breakers: Breakers, partition: int) -> None:
        self._topology, self._facts, self._breakers, self._partition = topology, facts, breakers, partition
        unique = {event["event_id"]: event for event in reversed(facts.events) if event["kind"] in OUTCOMES}
        self._outcomes = list(reversed(unique.values()))
        notes = {each["event_id"]: each for each in facts.notes}
        said = [*((_of_dispatch(each["slip"]), each["slip"]["routed_at"] // 1000) for each in facts.dispatches)]
        said += [(_of_result(each), each["decided_at"] // 1000) for each in facts.results]
        # A copy of a dispatch or a result says nothing new.
        timed = [*{what: (what, at) for what, at in reversed(said)}.values()]
        timed += [(_of_note(each), each["at"] // 1000) for each in notes.values()]
        self.wanted: Counter[Hashable] = Counter(what for what, _ in timed)
        self._times = sorted({at for _, at in timed}) or [0]
        self._wanted_at = [Counter[Hashable](what for what, when in timed if when == at) for at in self._times]
        intents = {each["slip"]["intent"] for each in facts.dispatches}
        # Only agents that this task could meet.
        self._met = {agent for name in intents if name in topology.routes for agent in topology.routes[name].plan}
        # Where each attempt has an outcome that counted, nothing was decided by the clock.
        late = any(each["kind"] == "LATE_VOTE" or each["reason"] in BY_TIME for each in facts.notes)
        self._by_time = late or len(self._outcomes) < len(facts.dispatches)
        self._tries = 0

    def shape(self) -> str | None:
        """What a look at each record alone tells."""
        first = self._facts.submissions[0]
        if not self._facts.results:
            return "there is no result"
        for result in self._facts.results:
            for name in ("conversation_id", "submitted_at", "traceparent"):
                if result[name] != first[name]:
                    return f"its result has another {name} than its submission"
            if dict(result["labels"]) != dict(first["labels"]):
                return "its result has other labels than its submission"
            if result["route_version"] != self._topology.version:
                return f"its result was decided by version {result['route_version']} of the topology"
        for dispatch in self._facts.dispatches:
            slip = dispatch["slip"]
            if slip["agent_id"] not in self._topology.agents:
                return f"{slip['agent_id']} was asked and is no agent"
            stated = first["deadline_ms"]
            left_ms = (slip["deadline_default_ms"] if stated is None else stated) - slip["routed_at"] // 1000
            if slip["timeout_ms"] != min(self._topology.agents[slip["agent_id"]].timeout_ms, max(left_ms, 1)):
                return f"{slip['agent_id']} was given {slip['timeout_ms']} ms"
        return None

    def explains(self) -> bool:
        """Whether some story leads to what was decided: each thing at its time or, where a crash cut a turn in half,
        all as if at the first."""
        if self._goes_on([], self._times, self._wanted_at):
            return True
        self._tries = 0
        return self._goes_on([], self._times[:1], [self.wanted])

    def _goes_on(self, steps: list[_Step], times: Sequence[int], wanted: Sequence[Counter[Hashable]]) -> bool:
        """Whether some continuation of these steps says at each of these times what is wanted, and nothing else."""
        for step in self._possible(steps, times[0]):
            self._tries += 1
            if self._tries > TRIES_MAX:
                return False
            said = Counter[Hashable](_said(action) for action in self._play([*steps, step]))
            fits = said <= wanted[0] and (said or step.kind != "tick")
            if fits and self._goes_on([*steps, step], times, [wanted[0] - said, *wanted[1:]]):
                return True
        if wanted[0]:
            return False
        return self._goes_on(steps, times[1:], wanted[1:]) if times[1:] else self._all_taken(steps)

    def _all_taken(self, steps: Sequence[_Step]) -> bool:
        taken = Counter(step.kind for step in steps)
        return taken["outcome"] == len(self._outcomes) and taken["submit"] == len(self._facts.submissions)

    def _possible(self, steps: Sequence[_Step], now_ms: int) -> Iterator[_Step]:
        """What may happen next, at this time."""
        taken = {step.number for step in steps if step.kind == "outcome"}
        asked = sum(step.kind == "submit" for step in steps)
        happenings = [("submit", asked)] if asked < len(self._facts.submissions) else []
        if asked:
            happenings += [("outcome", number) for number in range(len(self._outcomes)) if number not in taken]
            happenings += [("tick", 0)] if self._by_time else []
        for kind, number in happenings:
            for states in self._states(now_ms):
                yield _Step(kind, number, now_ms, states)

    def _states(self, now_ms: int) -> Iterator[tuple[tuple[str, str, int], ...]]:
        """What the breakers may have been; all closed first.

        Of an agent that was asked by then a slip tells it, and whoever was asked earlier is not asked again.
        """
        probes, asked = [], set()
        for slip in (each["slip"] for each in self._facts.dispatches):
            if slip["routed_at"] // 1000 <= now_ms:
                asked.add(slip["agent_id"])
                if slip["routed_at"] // 1000 == now_ms and slip["probe_epoch"]:
                    probes.append((slip["agent_id"], "HALF_OPEN", slip["probe_epoch"]))
        open_ones = [
            (agent, "OPEN", 0)
            for agent, since_ms in self._breakers.moved_ms.items()
            if since_ms <= now_ms + SEEN_AHEAD_MS and agent in self._met and agent not in asked
        ]
        floor = [
            (slip["agent_id"], "OPEN", 0)
            for slip in (each["slip"] for each in self._facts.dispatches)
            if slip["reason"] == "BREAKER_FLOOR" and slip["agent_id"] in self._breakers.moved_ms
        ]
        for chosen in product(*((None, each) for each in open_ones)):
            yield (*probes, *floor, *(each for each in chosen if each is not None))

    def _play(self, steps: Sequence[_Step]) -> list[Action]:
        """What the oracle says to the last of these steps."""
        oracle, said = Oracle(self._topology, self._partition), list[Action]()
        for step in steps:
            known = {agent: (state, epoch) for agent, state, epoch in step.states}
            for agent in self._breakers.moved_ms:
                state, epoch = known.get(agent, ("CLOSED", 0))
                oracle.set_breaker(agent, {"state": state, "epoch": epoch, "probe_partitions": (self._partition,)})
            if step.kind == "submit":
                said = oracle.submit(self._facts.submissions[step.number], step.now_ms)
            elif step.kind == "outcome":
                said = oracle.outcome(self._outcomes[step.number], step.now_ms)
            else:
                said = oracle.tick(step.now_ms)
        return said

    def difference(self) -> str:
        """For a person: what was decided, and what the oracle says if all comes in the order of the logs."""
        steps = [_Step("submit", 0, self._times[0])]
        said = [*self._play(steps)]
        for number in range(len(self._outcomes)):
            steps.append(_Step("outcome", number, self._times[-1]))
            said += self._play(steps)
        expected = Counter[Hashable](_said(action) for action in said)
        missing, surplus = expected - self.wanted, self.wanted - expected
        return f"it says {sorted(map(str, missing))} where the topics have {sorted(map(str, surplus))}"


def _of_dispatch(slip: Record) -> tuple[Hashable, ...]:
    return (
        "dispatch",
        *(slip[name] for name in ("agent_id", "attempt", "seat", "stage", "reason", "band")),
        *(tuple(slip["panel"]), tuple(slip["chain"]), slip["intent"], round(slip["confidence"], PLACES)),
        *(slip[name] for name in ("value_tier", "probe_epoch", "cost_microusd", "tokens")),
    )


def _of_note(note: Record) -> tuple[Hashable, ...]:
    return "note", note["kind"], note["reason"], note["agent_id"]


def _of_result(result: Record) -> tuple[Hashable, ...]:
    votes = tuple(
        (vote["agent_id"], vote["vote"], round(vote["confidence"], PLACES), round(vote["weight"], PLACES))
        for vote in result["votes"]
    )
    confidence = result["confidence"]
    return (
        "result",
        *(result[name] for name in ("status", "reason", "intent", "answer", "payload")),
        *(None if confidence is None else round(confidence, PLACES), tuple(result["agents"]), votes),
        *(tuple(result["dissent"]), result["attempts"], result["cost_microusd"], result["tokens"]),
    )


def _said(action: Action) -> tuple[Hashable, ...]:
    """An action of the oracle, as the record of it is named above."""
    if isinstance(action, Dispatch):
        names = ("agent_id", "attempt", "seat", "stage", "reason", "band", "panel", "chain", "intent")
        rest = ("value_tier", "probe_epoch", "cost_microusd", "tokens")
        fields = (*(getattr(action, name) for name in names), round(action.confidence, PLACES))
        return "dispatch", *fields, *(getattr(action, name) for name in rest)
    if isinstance(action, Note):
        return "note", action.kind, action.reason, action.agent_id
    assert isinstance(action, Result)
    votes = tuple(
        (vote.agent_id, vote.key, round(vote.confidence, PLACES), round(vote.weight, PLACES)) for vote in action.votes
    )
    confidence = None if action.confidence is None else round(action.confidence, PLACES)
    head = ("result", action.status, action.reason, action.intent, action.answer, action.payload, confidence)
    return *head, action.agents, votes, action.dissent, action.attempts, action.cost_microusd, action.tokens
