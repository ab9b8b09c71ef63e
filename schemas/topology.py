"""The typed topology: which agents exist, which chain of them serves which intent, and every limit and policy.

Shapes and ranges are checked here; what one part asks of another is `schemas.topology_checks`. I/O: one file, at start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, model_validator

from schemas.codes import FaultCode
from schemas.errors import Fault, TopologyError
from schemas.topics import DAY_MS, HOUR_MS, Topics
from schemas.topology_agent import MIB, NUMBER_MAX, Agent, Names, Section, Whole
from schemas.topology_build import build
from schemas.topology_checks import check
from schemas.topology_defaults import Defaults, Tenant
from schemas.topology_history import HistoryPolicy
from schemas.topology_syntax import place_of
from schemas.topology_yaml import TEXT_BYTES_MAX, Document, KeyPath, Origin, path_text, read_yaml

__all__ = ["NUMBER_MAX", "Agent", "Topology", "load_topology", "parse_topology"]  # the first two live next door

# What `Topology.version` covers, of agents and limits only these.
DECIDING_AGENT_FIELDS = {"effect", "timeout_ms", "accuracy", "confidence_when_unstated", "grounded"}
DECIDING_SECTIONS = {"defaults", "tenants", "bands", "answers", "consensus", "breaker", "default_route"}
DECIDING_LIMITS = {
    "finished_tasks_max",
    "duplicate_horizon_ms",
    "deadline_max_ms",
    "depth_max",
    "timeout_grace_ms",
    "dispatch_wait_ms",
}


class Limits(Section):
    """Every bound of the deployment; the unit ends each name."""

    record_bytes_max: Whole = Field(262_144, ge=1024, description="Largest record taken in; larger is dead-lettered.")
    inflight_tasks_max: Whole = Field(
        100_000, ge=1, description="Unfinished tasks per partition; at the bound, reading of new tasks pauses."
    )
    inflight_bytes_max: Whole = Field(256 * MIB, ge=1, description="Bytes of unfinished tasks per partition, likewise.")
    finished_tasks_max: Whole = Field(
        200_000, ge=1, description="Finished task ids remembered per partition, to recognise duplicates."
    )
    duplicate_horizon_ms: Whole = Field(60_000, ge=1, description="Time for which a finished task id is remembered.")
    deadline_max_ms: Whole = Field(86_400_000, ge=1, description="Farthest deadline that a task may state.")
    depth_max: Whole = Field(32, ge=0, description="Greatest depth in a causal tree.")
    clock_skew_margin_ms: Whole = Field(
        10_000, ge=0, description="How much earlier recovery starts reading, for brokers whose clocks differ."
    )
    spill_after_ms: Whole = Field(
        30_000,
        ge=1,
        description="Age at which an unfinished task is spilled, so that recovery does not read back to it.",
    )
    spill_after_tasks: Whole = Field(
        50_000, ge=1, description="Submissions of its partition after which an unfinished task is spilled, too."
    )
    batch_rows_max: Whole = Field(20_000, ge=1, description="Records handed to a processor at once.")
    batch_bytes_max: Whole = Field(16 * MIB, ge=1, description="Bytes handed to a processor at once.")
    poll_ms: Whole = Field(
        100,
        ge=1,
        description="Longest wait of worker and host for a batch to fill; the less their turns cost, the less.",
    )
    turn_percent: int = Field(
        60,
        ge=1,
        le=100,
        description="Share of a core that turns of a worker or host may take before they wait for more to come, up to "
        "`poll_ms`; less where several of them share few cores.",
    )
    linger_ms: Whole = Field(1, ge=0, description="How long a producer waits for company before it sends.")
    commit_interval_ms: Whole = Field(
        500, ge=1, description="Time between two commits: a host's, and with at_least_once a worker's, too."
    )
    transaction_interval_ms: Whole = Field(
        100, ge=1, description="Time between two commits of a worker with exactly_once; nothing is seen before."
    )
    transaction_timeout_ms: Whole = Field(
        10_000, ge=1_000, description="Time after which the broker aborts what a worker that is gone left open."
    )
    timeout_grace_ms: Whole = Field(
        300, ge=0, description="Waited beyond an attempt's timeout for the host's own verdict."
    )
    dispatch_wait_ms: Whole = Field(
        15_000,
        ge=0,
        description="How long a dispatch may lie unread where its host is behind or gone before its time runs; half of "
        "what is left until the deadline at most.",
    )
    health_interval_ms: Whole = Field(200, ge=1, description="Time between two counts sent to the breaker.")
    drain_ms: Whole = Field(8_000, ge=0, description="Time that running work gets at shutdown.")
    host_inflight_max: Whole = Field(20_000, ge=1, description="Attempts that one host has in hand at the same time.")
    context_interactions: int = Field(
        10,
        ge=0,
        le=10,
        description="Last interactions of the conversation that an agent is shown verbatim, after a summary of those "
        "before; 0: agents are shown nothing.",
    )
    context_tokens: Whole = Field(
        4_000, ge=0, description="Tokens that the context of a call is made to fit, where the agent states none."
    )
    context_tokens_max: Whole = Field(
        8_000, ge=0, description="Tokens that no context exceeds, not even by instructions and pinned facts."
    )
    context_bytes_max: Whole = Field(
        256 * MIB, ge=0, description="Memory of conversations that one host keeps at hand; others are read again."
    )
    snapshot_events: Whole = Field(
        10_000,
        ge=0,
        description="Dispatches of one partition of an agent's inbox between two snapshots of its memory, at least; 0: "
        "none are written.",
    )
    dead_share_max: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Share of a topic's records that may be dead-lettered; above it, it is paused.",
    )
    dead_records_min: Whole = Field(
        200, ge=1, description="Records of a topic that a process has to have read lately before that share counts."
    )
    redrives_max: Whole = Field(
        3, ge=0, description="Times that a dead letter is redriven; one that came back as often stays where it is."
    )
    history_rows_max: Whole = Field(200_000, ge=1, description="Rows in one insert into the history.")
    history_interval_ms: Whole = Field(
        1_000, ge=1, description="Time between two inserts into the history; twice that at a high rate."
    )
    history_buffer_bytes_max: Whole = Field(
        256 * MIB, ge=1, description="Bytes the store holds while the history does not answer; then it stops reading."
    )


Delivery = Literal["at_least_once", "exactly_once"]


class TopicPolicy(Section):
    """How the deployment's topics are made; `pointsman topics plan` compares it with the broker."""

    replication: int | None = Field(
        None, ge=1, le=32_767, description="Copies of each partition; null: the broker's default. In production 3."
    )
    min_insync_replicas: int | None = Field(
        None,
        ge=1,
        le=32_767,
        description="Copies that must have a record before it counts as written; null: the broker's. In production 2.",
    )
    tasks_retention_ms: Whole = Field(
        7 * DAY_MS, ge=HOUR_MS, description="Time for which submissions and results are kept."
    )
    logs_retention_ms: Whole = Field(
        30 * DAY_MS,
        ge=HOUR_MS,
        description="Time for which agents' logs, orchestrator events and dead letters are kept.",
    )


class Bands(Section):
    """How sure of the intent one must be; both bounds are exclusive."""

    single_above: float = Field(0.8, ge=0, le=1, description="Above this confidence one agent is asked.")
    panel_above: float = Field(
        0.5, ge=0, le=1, description="Above this confidence a panel is asked; at or below it, the fallback agent."
    )


class Answers(Section):
    """What counts as an answer."""

    confidence_min: float = Field(0.7, ge=0, le=1, description="An answer less sure than this counts as none.")


class ConsensusPolicy(Section):
    """How a panel is made and when it agrees."""

    panel_size: Whole = Field(2, ge=1, description="Agents asked where the intent is uncertain.")
    high_value_panel_size: Whole = Field(3, ge=1, description="Agents asked where the task's value tier is HIGH.")
    quorum: Whole = Field(2, ge=1, description="Agents who must give the same answer.")
    accept_share: float = Field(
        0.625, gt=0, le=1, description="Share of all weight, votes still out included, that the answer must hold."
    )


class BreakerPolicy(Section):
    """When an agent is taken out of service, and how it comes back."""

    consecutive_failures: Whole = Field(5, ge=1, description="Failures in a row, fleet-wide, that trip.")
    failure_rate: float = Field(0.5, gt=0, le=1, description="Share of failures in the window that trips.")
    slow_rate: float = Field(0.9, gt=0, le=1, description="Share of slow outcomes in the window that trips.")
    slow_ms: Whole | None = Field(5_000, ge=1, description="An outcome that took longer is slow; null: none is.")
    window_ms: Whole = Field(10_000, ge=1, description="Length of the window for both rates.")
    volume_min: Whole = Field(20, ge=1, description="Outcomes in the window below which no rate trips.")
    open_ms: Whole = Field(60_000, ge=1, description="Time out of service after the first trip.")
    open_growth: float = Field(2.0, ge=1, description="Factor on that time for each trip that follows a failed probe.")
    open_ms_max: Whole = Field(600_000, ge=1, description="Longest time out of service.")
    jitter: float = Field(0.1, ge=0, lt=1, description="Share by which that time is drawn longer or shorter.")
    probes: Whole = Field(2, ge=1, description="Trial dispatches that must all succeed before the agent is back.")
    probe_ttl_ms: Whole = Field(5_000, ge=1, description="Time after which an unused probe goes to another partition.")


class Phrase(Section):
    """Words that betray an intent."""

    phrase: str = Field(pattern=r"\S", description="Matched as whole words, whatever the case.")
    confidence: float = Field(0.9, gt=0, le=1, description="How sure this phrase alone makes the router.")

    @model_validator(mode="before")
    @classmethod
    def _bare_text(cls, value: Any) -> Any:
        return {"phrase": value} if isinstance(value, str) else value


class Fallback(Section):
    """What a route ends in when its chain has no answer: an agent, a text, or the agent and then the text."""

    agent: str | None = Field(None, description="Asked when the intent is too uncertain, and last in the chain.")
    answer: str | None = Field(None, description="The answer when nobody has one.")


class Route(Section):
    """How tasks of one intent are served; the intent's name is its key in `routes`."""

    agents: Names = Field(min_length=1, description="The chain: the first serves, the next step in when it fails.")
    phrases: Annotated[tuple[Phrase, ...], Field(strict=False)] = Field(
        (), description="Phrases by which a task without a stated intent is recognised: text, or phrase and confidence."
    )
    panel: Names | None = Field(
        None, description="Who sits in panels, in order; null: the chain's agents that do not write."
    )
    deadline_ms: Whole | None = Field(None, ge=1, description="Time a task may take; null: the default.")
    fallback: Fallback = Field(default_factory=Fallback, description="Where the chain ends.")
    low_value_answer: str | None = Field(
        None, description="Answers tasks of value tier LOW by rule, no agent asked; {intent} is filled in."
    )
    description: str = Field("", description="What the intent means, for people.")

    @property
    def plan(self) -> tuple[str, ...]:
        """The whole chain: the route's agents in order, then the fallback agent where it is not among them."""
        last = self.fallback.agent
        return self.agents if last is None or last in self.agents else (*self.agents, last)


class Topology(Section):
    """One deployment."""

    prefix: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]*$",
        max_length=64,
        description="Put before every topic name, as in `eu.`: the trust domain.",
    )
    partitions: int = Field(4, ge=1, le=1_000, description="Partitions of every task topic; fixed once deployed.")
    kafka: Mapping[str, str | int | bool] = Field(
        default_factory=dict, description="librdkafka settings for every client; secrets belong in a file of their own."
    )
    topic_policy: TopicPolicy = Field(default_factory=TopicPolicy, description="How the topics are made.")
    history_policy: HistoryPolicy = Field(default_factory=HistoryPolicy, description="How long the history keeps it.")
    delivery: Delivery = Field(
        "at_least_once",
        description="exactly_once: what a worker writes and what it has read are committed in one transaction.",
    )
    defaults: Defaults = Field(default_factory=Defaults, description="What tasks get that state nothing.")
    tenants: Mapping[str, Tenant] = Field(
        default_factory=dict, description="Tenants whose tasks get other defaults, by name."
    )
    limits: Limits = Field(default_factory=Limits, description="Bounds.")
    bands: Bands = Field(default_factory=Bands, description="From confidence in the intent to the way it is served.")
    answers: Answers = Field(default_factory=Answers, description="What counts as an answer.")
    consensus: ConsensusPolicy = Field(default_factory=ConsensusPolicy, description="Panels.")
    breaker: BreakerPolicy = Field(default_factory=BreakerPolicy, description="Breakers.")
    agents: Mapping[str, Agent] = Field(min_length=1, description="The agents, by name.")
    routes: Mapping[str, Route] = Field(min_length=1, description="The intents, by name; on a tie the earlier wins.")
    default_route: str = Field(description="Takes tasks whose intent nothing tells.")

    _origin: Origin = PrivateAttr(default_factory=lambda: Origin("the topology", Document()))

    @property
    def source(self) -> str:
        """The file that it was read from."""
        return self._origin.source

    def fault(self, code: FaultCode, path: KeyPath, message: str) -> Fault:
        """A fault at a key path, with its line and column in the file that this was read from."""
        return self._origin.document.fault(code, path, message)

    def topics(self) -> Topics:
        return Topics(tuple(self.agents), self.partitions, self.prefix, self.topic_policy)

    def defaults_of(self, tenant: str) -> Defaults:
        """What a task of this tenant gets where neither it nor its route says otherwise."""
        own = self.tenants.get(tenant)
        return self.defaults.model_copy(update=own.model_dump(exclude_none=True)) if own else self.defaults

    def voters(self, intent: str) -> tuple[str, ...]:
        """Agents that may sit in this route's panels, in order of preference."""
        route = self.routes[intent]
        if route.panel is not None:
            return route.panel
        return tuple(name for name in route.agents if self.agents[name].effect != "write")

    @cached_property
    def version(self) -> str:
        """12 hexadecimal digits over all that decides where a task goes and when its answer counts.

        How agents run, names of topics and sizes of buffers are no part of it; the order of routes is.
        """
        parts = (
            self.model_dump(
                include={"defaults", "tenants", "bands", "answers", "consensus", "breaker", "default_route"}
            ),
            self.limits.model_dump(include=DECIDING_LIMITS),
            {name: agent.model_dump(include=DECIDING_AGENT_FIELDS) for name, agent in self.agents.items()},
            [(name, route.model_dump(exclude={"description"})) for name, route in self.routes.items()],
        )
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return blake2b(text.encode()).hexdigest()[:12]


class Reading(NamedTuple):
    """What a text says, and all that is wrong with it.

    Only without faults is `topology` what the text means; it has stand-ins at the key paths `doubtful`, and is None
    where too much is wrong for that.
    """

    source: str
    topology: Topology | None
    faults: tuple[Fault, ...]
    doubtful: frozenset[str]

    def sound(self) -> Topology:
        """Raises TopologyError with every fault."""
        if self.topology is None or self.faults:
            raise TopologyError(self.source, self.faults)
        return self.topology


def load_topology(path: Path) -> Topology:
    """Reads a file; raises TopologyError with everything that is wrong with it."""
    return read_topology(path).sound()


def parse_topology(text: str, source: str) -> Topology:
    """Reads YAML text; `source` names it in errors. Raises TopologyError with everything that is wrong with it."""
    return _read(text, source).sound()


def read_topology(path: Path) -> Reading:
    """Reads a file, however much is wrong with it; never raises."""
    try:
        with path.open("rb") as file:
            content = file.read(TEXT_BYTES_MAX + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        fault = Fault(FaultCode.UNREADABLE_FILE, "", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        fault = Fault(FaultCode.NOT_UTF8, "", f"is not UTF-8 at byte {error.start}", *place_of(before, len(before)))
    else:
        return _read(text, str(path))
    return Reading(str(path), None, (fault,), frozenset())


def _read(text: str, source: str) -> Reading:
    document = read_yaml(text)
    topology, faults, doubtful = build(Topology, document)
    if topology is not None:
        for code, path, message, depends_on in check(topology):
            # A rule that depends on a key whose value is at fault would speak of its stand-in.
            if not any(_within(path_text(each), doubtful) for each in (path, *depends_on)):
                faults.append(document.fault(code, path, message))
        topology._origin = Origin(source, document)  # noqa: SLF001  its own module
    return Reading(source, topology, tuple(faults), doubtful)


def _within(path: str, places: Iterable[str]) -> bool:
    """Whether the key path is one of the places or lies in it."""
    return any(path == place or path.startswith((f"{place}.", f"{place}[")) for place in places if place)
