"""What happens in one simulated run, drawn from its seed: tasks, what agents do with them, and what goes wrong.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, NamedTuple

from loadtest.invariants import Mode
from schemas.topology import Topology
from streams.processors.worker import DRAIN_S
from tests.simulation.agents import Part
from tests.simulation.faults import FAULTS_S, PROFILES, Fault
from tests.simulation.fetching import PATIENCE_S, Room
from tests.simulation.wire import Weather

TASKS_S = 5.0
"""Submissions come within this time."""

EARLY_S = 0.5

FEW, MANY = (3, 10), (20, 30)
"""How many tasks a run has, from and to: most of them, and those of a profile that needs many."""

BOUND_S = 25.0
"""A session that has to end, a group that has to agree, logs that have to be read, and what an agent may take."""

READING_S = 0.8
"""A fetch, a batch and its turn, and the next look at the clock."""

WATCHED_S = 3.0
"""While a worker is there to look at the clock."""

REST_S = 70.0
"""When everything must be at rest."""

STORE_SHARE = 0.15
"""How many deployments keep a history, beside those in which all that goes wrong is the store's."""

TURNS_SHARE = 0.5
"""How many deployments that are not transactional have the producer of turns, beside those in which all goes wrong that
can go wrong for it."""

FETCHES_SHARE = 0.5
"""How many deployments read whole record batches by the product's own fetches."""

ROOMS = (Room(4_000_000, 1_048_576), Room(4_000_000, 1_048_576), Room(6_000, 2_000), Room(4_000, 700))
"""Of an answer: all that there is; a few batches; or hardly more than one."""

BAD_LINES_SHARE = 0.4
"""In how many of these connections are cut, and leaders move, where turns do not bring it."""

WRITERS = frozenset({"scribe"})


def topology(delivery: Mode, alpha_ms: int = 1_500, **limits: int) -> Topology:
    """Three agents, two routes, two partitions. `alpha_ms`: what one of them may take."""
    agents: dict[str, dict[str, Any]] = {
        "alpha": {"effect": "read", "timeout_ms": alpha_ms},
        "beta": {"effect": "idempotent", "costly": True},
        # Longer than a session: whoever takes over finds its work begun, and not yet overdue.
        "scribe": {"effect": "write", "timeout_ms": 15_000},
    }
    bounds = {
        "poll_ms": 300,
        "commit_interval_ms": 300,
        "health_interval_ms": 600,
        "clock_skew_margin_ms": 2_000,
        "drain_ms": 1_000,
        "transaction_interval_ms": 250,
        "history_interval_ms": 400,
        "transaction_timeout_ms": 5_000,
        "snapshot_events": 1,
    }
    return Topology.model_validate(
        {
            "partitions": 2,
            "delivery": delivery.value,
            "agents": {
                name: {"run": "tests.simulation.agents:act", "timeout_ms": 1_500, "options": {"agent": name}, **agent}
                for name, agent in agents.items()
            },
            "routes": {
                "money": {
                    "agents": ["alpha", "beta"],
                    "phrases": ["revenue"],
                    "fallback": {"answer": "nobody knows"},
                    "low_value_answer": "a rule says so",
                    "deadline_ms": max(6_000, 2 * alpha_ms),
                },
                "deeds": {"agents": ["scribe", "alpha"], "phrases": ["write"], "deadline_ms": 20_000},
            },
            "default_route": "money",
            "breaker": {"consecutive_failures": 4, "open_ms": 2_000, "probes": 1},
            "limits": {**bounds, **limits},
        }
    )


BOUNDS: tuple[tuple[int, Mapping[str, int]], ...] = (
    *((4, {}), (1, {"inflight_tasks_max": 3, "host_inflight_max": 4}), (1, {"context_interactions": 0})),
    *((2, {"transaction_timeout_ms": 10_000}), (1, {"alpha_ms": 15_000})),
)
"""How often each is drawn: room for all; everything waits for everything; agents remember nothing; transactions outlive
sessions; and so do attempts, which are still open when their host's successor, and then the host itself, go on."""

LITTLE_ROOM, LONG_TRANSACTIONS, LONG_ATTEMPTS = 1, 3, 4

SPILLS_SHARE = 0.4
SPILLING: Mapping[str, int] = {"spill_after_ms": 400, "spill_after_tasks": 2, "clock_skew_margin_ms": 50}
"""What an unfinished task is spilled after, where tasks are spilled. There all clocks are alike, and the margin is
narrow: recovery finds little that it does not have to find."""

FEW_ROWS_SHARE = 0.5
FEW_ROWS: Mapping[str, int] = {"batch_rows_max": 3}
"""Of what is handed on at once, where record batches are read whole: many of them are cut in parts."""

FORGETS_SHARE = 0.25
FORGETFUL: Mapping[str, int] = {
    "duplicate_horizon_ms": 1_000,
    "commit_interval_ms": 4_000,
    "clock_skew_margin_ms": 50,
}
"""Where finished tasks are forgotten sooner than a killed worker is back, and cuts are far apart: most of what was done
before is read again. Ids come once there, and all clocks are alike."""


@cache
def topology_of(
    mode: Mode, number: int, *, spills: bool = False, few_rows: bool = False, forgets: bool = False
) -> Topology:
    """The same one each time; `number` is that of its bounds."""
    limits = dict(BOUNDS[number][1])
    for more, is_drawn in ((SPILLING, spills), (FEW_ROWS, few_rows), (FORGETFUL, forgets)):
        limits |= more if is_drawn else {}
    return topology(mode, **limits)


class Submitted(NamedTuple):
    """One record put on the submitted topic; `task` is None for garbage."""

    at: float
    task: Mapping[str, Any] | None
    key: bytes | None
    value: bytes | None = None


@dataclass(frozen=True)
class Scenario:
    """All of one run but the order of what happens at the same time, which the same seed decides."""

    seed: int
    profile: str
    topology: Topology
    slots: tuple[tuple[str, str], ...]
    submissions: tuple[Submitted, ...]
    parts: Mapping[tuple[str, str], Part]
    faults: tuple[Fault, ...]
    weather: Weather
    skew_s: float
    has_slots: bool
    has_turns: bool = False
    """Whether the producer of turns is the product's own; else it is librdkafka's, which some deployments ask for."""
    lost_inserts_share: float = 0.0
    fetches: Room | None = None
    """Room of an answer, where record batches are read whole; else librdkafka's consumer reads, as some ask for."""

    @property
    def mode(self) -> Mode:
        return Mode(self.topology.delivery)

    @property
    def last_s(self) -> float:
        """When the last of its faults is over, and the last submission there."""
        return max([0.0, *(each.at + each.for_s for each in self.faults), *(each.at for each in self.submissions)])

    @property
    def healed_s(self) -> float:
        """When nothing goes wrong any more that a worker has to wait for."""
        return 0.0 if self.profile == "absent" else FAULTS_S

    @property
    def reading_s(self) -> float:
        """T1: what it may take to read an outcome that stands in the log."""
        slow = self.weather.slow_share or self.weather.preempted_share
        # A cut holds the event loop while what was sent is not delivered, and what is read waits as long.
        held_s = DRAIN_S if self.weather.stuck_share else 0.0
        hangs_s = PATIENCE_S if self.fetches and (self.weather.lost_answers_share or self.weather.cut_share) else 0.0
        return READING_S + held_s + 2 * hangs_s + (3 * self.weather.slow_max_s if slow else 0.0) + 2 * self.skew_s

    @property
    def bound_s(self) -> float:
        """P1: how long after that, or after its deadline, a task may still wait for its result."""
        if self.profile != "absent":
            return BOUND_S
        return (
            WATCHED_S + 2 * self.weather.slow_max_s + (2 * self.weather.stuck_max_s if self.weather.stuck_share else 0)
        )


def draw(seed: int, profile: str | None = None) -> Scenario:
    """With `profile`, the seed's run among those of one kind."""
    rng = Random(seed)
    drawn = rng.choices(tuple(PROFILES), [weight for weight, _ in PROFILES.values()])[0]
    profile = profile or drawn
    slots = [("worker", "w1")] + [("worker", "w2")] * (rng.random() < 0.6 and profile != "regained")
    slots += [("host", "h1")] + [("host", "h2")] * (rng.random() < 0.3)
    has_store = rng.random() < STORE_SHARE or profile == "store"
    slots += [("store", "s1")] * has_store + [("store", "s2")] * (has_store and rng.random() < 0.2)
    weather = Weather()
    if rng.random() < 0.4:
        weather.slow_share = rng.choice((0.02, 0.1))
        weather.slow_max_s = rng.choice((0.2, 0.8))
    if rng.random() < 0.3:
        weather.preempted_share = 0.02
    if rng.random() < 0.3:
        weather.full_share = 0.2
    if rng.random() < 0.25:
        weather.stuck_share = rng.choice((0.03, 0.15))
    faults = PROFILES[profile][1](rng, len(slots), weather)
    submissions = _submissions(
        rng,
        EARLY_S if profile == "early" else TASKS_S,
        many=profile in ("writes", "deals", "full", "late", "regained", "halves", "takeovers"),
        writes_only=profile in ("writes", "deals"),
        panels_only=profile == "halves",
    )
    mode, bounds = _mode_and_bounds(rng, profile)
    found = Scenario(
        seed=seed,
        profile=profile,
        topology=topology_of(mode, bounds),
        slots=tuple(slots),
        submissions=tuple(sorted(submissions, key=lambda each: each.at)),
        parts=_parts(rng, submissions),
        faults=tuple(sorted(faults)),
        weather=weather,
        skew_s=rng.choice((0.0, 0.0, 0.3, 1.0)),
        has_slots=rng.random() < 0.5,
        lost_inserts_share=rng.choice((0.0, 0.1, 0.5)) if has_store else 0.0,
    )
    spills = rng.random() < SPILLS_SHARE
    if spills:
        found = replace(found, skew_s=0.0)
    has_turns = profile == "turns" or (mode is Mode.AT_LEAST_ONCE and rng.random() < TURNS_SHARE)
    found = replace(found, has_turns=has_turns)
    few_rows = False
    if rng.random() < FETCHES_SHARE:
        found = replace(found, fetches=rng.choice(ROOMS))
        few_rows = rng.random() < FEW_ROWS_SHARE
        if not has_turns and rng.random() < BAD_LINES_SHARE:
            weather.cut_share, weather.moves_share = rng.choice((0.0, 0.05, 0.2)), rng.choice((0.0, 0.05, 0.2))
    forgets = profile == "crashes" and rng.random() < FORGETS_SHARE
    if forgets:
        found = replace(found, submissions=_without_repeats(found.submissions), skew_s=0.0)
    return replace(found, topology=topology_of(mode, bounds, spills=spills, few_rows=few_rows, forgets=forgets))


def _mode_and_bounds(rng: Random, profile: str) -> tuple[Mode, int]:
    mode = rng.choice(tuple(Mode))
    bounds = rng.choices(range(len(BOUNDS)), [weight for weight, _ in BOUNDS])[0]
    if profile == "takeovers":
        mode, bounds = Mode.EXACTLY_ONCE, LONG_TRANSACTIONS
    elif profile == "zombies":
        bounds = LONG_ATTEMPTS
    elif profile == "full":
        bounds = LITTLE_ROOM
    elif profile == "turns":
        mode = Mode.AT_LEAST_ONCE
    elif profile in ("late", "regained"):
        mode, bounds = Mode.AT_LEAST_ONCE, 0
    return mode, bounds


# ---------------------------------------------------------------------- tasks


def _submissions(
    rng: Random, within_s: float, *, many: bool = False, writes_only: bool = False, panels_only: bool = False
) -> list[Submitted]:
    count = rng.randint(*(MANY if many else FEW))
    burst = rng.random() < 0.3 and within_s > EARLY_S
    found = []
    for number in range(count):
        at = rng.uniform(1.0, 1.2) if burst else rng.uniform(0.02 * within_s, within_s)
        task: dict[str, Any] = {"task_id": f"t{number}", "intent": rng.choice(("money", "money", "deeds"))}
        if writes_only:
            task["intent"] = "deeds"
        elif rng.random() < 0.1:
            del task["intent"]
            task["text"] = "our revenue"
        if rng.random() < 0.5:
            task["conversation_id"] = rng.choice(("c1", "c2"))
        task["value_tier"] = rng.choices(("UNKNOWN", "HIGH", "LOW"), (6, 3, 1))[0]
        if panels_only:
            task |= {"intent": "money", "value_tier": "HIGH"}
        if rng.random() < 0.15:
            task["confidence"] = rng.choice((0.3, 0.7, 7.0))
        key = str(task.get("conversation_id", task["task_id"])).encode()
        found.append(Submitted(at, task, key))
        for _ in range(2):
            if rng.random() < 0.12:
                found.append(Submitted(at + rng.choice((0.0, 0.05, 2.0, 7.0)), task, key))
    for _ in range(rng.choice((0, 0, 1, 2))):
        found.append(Submitted(rng.uniform(0.2, TASKS_S), None, *_garbage(rng)))
    return found


def _without_repeats(submissions: Iterable[Submitted]) -> tuple[Submitted, ...]:
    """The first of each id, and what has none."""
    found: dict[object, Submitted] = {}
    for number, each in enumerate(submissions):
        found.setdefault(number if each.task is None else each.task["task_id"], each)
    return tuple(found.values())


def _garbage(rng: Random) -> tuple[bytes | None, bytes | None]:
    return rng.choice(
        (
            (b"k", None),
            (b"k", b""),
            (b"k", b"\x07 not a record"),
            (b"k", b"\x00\x00\x00\xff\xffdatum"),
            (b"wrong", b'{"task_id": "x", "text": "its key is not its own"}'),
            (None, b'{"task_id": "y", "text": "it has no key"}'),
        )
    )


_HOW = (
    *(("answers", 60), ("fails", 8), ("breaks", 5), ("hangs", 6), ("is late", 6), ("is overloaded", 3)),
    *(("refuses", 3), ("cannot", 3), ("doubts", 6)),
)


def _parts(rng: Random, submissions: list[Submitted]) -> dict[tuple[str, str], Part]:
    """What each agent does with each task; sometimes one of them fails whatever it is asked."""
    names = ("alpha", "beta", "scribe")
    sick = rng.choice(names) if rng.random() < 0.15 else None
    found = {}
    for task_id in sorted({each.task["task_id"] for each in submissions if each.task is not None}):
        for agent in names:
            how = "fails" if agent == sick else rng.choices([h for h, _ in _HOW], [w for _, w in _HOW])[0]
            after_s = {"hangs": 30.0, "is late": rng.uniform(1.3, 2.4)}.get(how, rng.choice((0.0, 0.05, 0.3, 0.8)))
            if agent in WRITERS and rng.random() < 0.4:
                after_s = rng.uniform(1.0, 5.0)
            confidence = 0.3 if how == "doubts" else rng.choice((0.95, 0.8, None))
            found[task_id, agent] = Part(how, after_s, rng.choice(("yes", "yes", "yes", "no")), confidence)
    return found
