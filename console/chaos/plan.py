"""What a plan of chaos says: the load, the processes, what goes wrong and when, and what is expected of the deployment.

A plan is a YAML file, checked as a topology is: every fault at once, each with its line and the nearest right word.
I/O: reads plan files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from console.chaos.kinds import AGENTS, KINDS, FaultName
from schemas.codes import ErrorCode, FaultCode
from schemas.errors import Fault, TopologyError
from schemas.nearest import suggest
from schemas.topology import Delivery
from schemas.topology_agent import Section
from schemas.topology_build import build
from schemas.topology_yaml import TEXT_BYTES_MAX, Document, KeyPath, read_yaml

SUFFIX = ".yaml"
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Share = Annotated[float, Field(gt=0, le=1)]
# Keys of a step that every kind of fault takes.
COMMON = frozenset({"fault", "on", "at_s", "jitter_s", "for_s", "weight"})


class PlanError(TopologyError):
    """Every fault of a plan file at once."""

    error_code = ErrorCode.FAULTY_PLAN


class Step(Section):
    """One fault."""

    fault: FaultName = Field(description="What goes wrong.")
    on: str | None = Field(None, description="To whom: a kind of process, one of them, a link or an agent.")
    at_s: Seconds | None = Field(None, description="When, from the start of the load; in the order `listed` alone.")
    jitter_s: Seconds = Field(0.0, description="So much later at most, by the seed.")
    for_s: Seconds | None = Field(None, description="How long; null: as its kind usually does.")
    weight: int = Field(1, ge=1, le=1_000, description="How often it is drawn, against the others.")
    delay_ms: Annotated[float, Field(ge=0, le=60_000)] | None = Field(None, description="delay: how late bytes pass.")
    share: Share | None = Field(None, description="agent-*: the share of tasks.")
    slow_ms: Annotated[float, Field(ge=0, le=60_000)] | None = Field(None, description="agent-slow: before an answer.")
    records: Annotated[int, Field(ge=1, le=1_000)] | None = Field(None, description="corrupt: for each topic.")
    every_s: Annotated[float, Field(gt=0, le=600)] | None = Field(None, description="rebalance: between two members.")
    by_s: Annotated[float, Field(ge=-86_400, le=86_400)] | None = Field(None, description="clock-jump: how far.")

    @property
    def lasts_s(self) -> float:
        return KINDS[self.fault].for_s if self.for_s is None else self.for_s

    @property
    def target(self) -> str:
        return self.on or KINDS[self.fault].targets[0]


class Expected(Section):
    """What a run must keep to, beside the invariants."""

    faults_min: int = Field(1, ge=0, description="Faults that must have been injected.")
    recovery_p99_s: Seconds | None = Field(None, description="Of the recovery times, which are measured per fault.")
    late_s: Seconds = Field(90.0, description="How long after its deadline the result of a task may come.")
    rss_growth_share: Annotated[float, Field(gt=0, le=10)] | None = Field(
        None, description="How much of its memory a process may gain from the run's first third to its last."
    )
    files_growth: int | None = Field(None, ge=0, description="How many more open files, likewise.")


class Plan(Section):
    """A whole plan; `name` is its file's."""

    description: str = Field(pattern=r"\S", description="What it is for, in a line.")
    delivery: Delivery = Field("at_least_once", description="As in a topology.")
    partitions: int = Field(4, ge=1, le=64, description="Of every task topic.")
    workers: int = Field(1, ge=1, le=16, description="How many.")
    hosts: int = Field(1, ge=1, le=16, description="How many.")
    slots: bool = Field(
        True, description="Whether workers, hosts and store have slots: static members, sessions of 30 s."
    )
    rate: Annotated[float, Field(gt=0, le=100_000)] = Field(100.0, description="Tasks a second.")
    mix: Mapping[str, Annotated[float, Field(ge=0, le=1_000)]] = Field(
        default_factory=dict, description="Routes by weight; empty: lookup above all."
    )
    repeats: Annotated[float, Field(ge=0, lt=1)] = Field(0.02, description="Share of tasks that are submitted twice.")
    deadline_s: Annotated[float, Field(gt=0, le=3_600)] = Field(30.0, description="Of each task.")
    warm_up_s: Seconds = Field(5.0, description="Load before the first fault.")
    duration_s: Seconds = Field(30.0, description="Load at least so long.")
    tail_s: Seconds = Field(6.0, description="Load after the last fault is over.")
    settle_s: Seconds = Field(180.0, description="Time that everything gets to come to rest afterwards.")
    order: Literal["listed", "shuffled", "drawn"] = Field(
        "listed", description="Each at its time; each once in an order by the seed; or drawn by weight."
    )
    every_s: Annotated[float, Field(gt=0, le=3_600)] = Field(
        10.0, description="From one fault to the next, where they have no time of their own."
    )
    faults: Annotated[tuple[Step, ...], Field(strict=False)] = Field(description="What goes wrong.")
    expect: Expected = Field(default_factory=Expected, description="What must hold, beside the invariants.")


def built_in() -> dict[str, str]:
    """The texts of the plans that come with the command, by name."""
    folder = files("console.chaos") / "plans"
    found = sorted((each for each in folder.iterdir() if each.name.endswith(SUFFIX)), key=lambda each: each.name)
    return {each.name.removesuffix(SUFFIX): each.read_text("utf-8") for each in found}


def parse_plan(text: str, source: str) -> Plan:
    """Raises PlanError with everything that is wrong with it."""
    document = read_yaml(text)
    built = build(Plan, document)
    faults = list(built.faults)
    if built.model is not None:
        faults += [each for each in _checked(built.model, document) if each.path not in built.doubtful]
    if faults or built.model is None:
        raise PlanError(source, tuple(faults))
    return built.model


def read_plan(path: Path) -> Plan:
    """Raises PlanError; OSError where the file cannot be read."""
    with path.open("rb") as file:
        content = file.read(TEXT_BYTES_MAX + 1)
    try:
        return parse_plan(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise PlanError(str(path), (Fault(FaultCode.NOT_UTF8, "", "is not UTF-8"),)) from error


def _checked(plan: Plan, document: Document) -> Iterator[Fault]:
    """What one key asks of another."""
    if not plan.faults:
        yield document.fault(FaultCode.EMPTY, ("faults",), "must not be empty: a plan without faults shows nothing")
    for number, step in enumerate(plan.faults):
        at: KeyPath = ("faults", number)
        yield from (
            document.fault(FaultCode.KEY_OF_ANOTHER_KIND, (*at, key), f"is no key of {step.fault}{suggest(key, own)}")
            for own in [sorted(COMMON | KINDS[step.fault].keys)]
            for key in sorted(step.model_fields_set - set(own))
        )
        if step.on is not None and not _is_target(step, plan):
            choices = _choices(step, plan)
            said = f"{step.fault} cannot be done to {step.on}{suggest(step.on, choices)}"
            yield document.fault(FaultCode.NOT_A_CHOICE, (*at, "on"), said)
        if plan.order == "listed" and step.at_s is None:
            yield document.fault(FaultCode.MISSING_KEY, (*at, "at_s"), "is missing, and the order is listed")
        if plan.order != "listed" and step.at_s is not None:
            said = f"has no meaning where the order is {plan.order}"
            yield document.fault(FaultCode.KEY_OF_ANOTHER_KIND, (*at, "at_s"), said)


def _choices(step: Step, plan: Plan) -> list[str]:
    kinds = KINDS[step.fault].targets
    numbered = {"worker": plan.workers, "host": plan.hosts}
    singles = [f"{kind}-{n + 1}" for kind in kinds if kind in numbered for n in range(numbered[kind])]
    return [*(AGENTS if kinds == ("agent",) else ()), *kinds, *singles]


def _is_target(step: Step, plan: Plan) -> bool:
    return step.on in _choices(step, plan)
