"""A load test as data: how many tasks of what kind, when, to which agents, under which trouble, and what must hold.

The committed ones are `loadtest/scenarios/*.yaml`; a file of the user's own has the same keys. I/O: reads those files.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from loadtest.schedule import Schedule, Stage
from loadtest.thresholds import Threshold, parse
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.topology_yaml import read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=10_000_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]

# What must hold of every run, whatever else a scenario asks.
ALWAYS: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    (
        *("lost", "duplicated", "out_of_order", "wrong_decisions", "unasked", "asked_twice"),
        *("history_missing", "history_duplicated"),
    ),
    ("count==0",),
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Mix(_Part):
    """What the tasks are. Shares are of all tasks."""

    single: Share = Field(0.80, description="Sure of their intent: one agent is asked.")
    panel: Share = Field(0.15, description="Half sure: a panel of two.")
    fallback: Share = Field(0.05, description="Unsure: the fallback agent, or the fallback answer.")
    stated_intent: Share = Field(0.5, description="State their intent; of the others phrases tell it.")
    texts: int = Field(64, ge=1, le=10_000, description="Different texts of each route.")
    text_bytes: int = Field(80, ge=16, le=100_000, description="Length of each text.")
    conversations: int = Field(100_000, ge=1, le=1_000_000, description="Different conversations.")
    zipf: float = Field(0.99, ge=0, le=5, description="Exponent of their popularity; 0: all alike.")
    hot: Share = Field(0.0, description="Belong to one conversation, on top of what the exponent gives it.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.single + self.panel + self.fallback - 1) > 1e-9:  # noqa: PLR2004  rounding
            raise ValueError("single, panel and fallback must add up to 1")
        return self


class Agents(_Part):
    """Who answers: agents by rule, in batches, so that the pipeline is measured and not a model."""

    count: int | None = Field(None, ge=3, le=1_000, description="So many, three of them a route; null: the topology's.")
    fail: Share = Field(0.05, description="Of the attempts fail and cascade.")
    burst: int = Field(20, ge=1, description="Consecutive tasks that fail together.")
    error_class: str = Field("OVERLOADED", description="How they fail; OVERLOADED counts against no agent.")
    slow: Share = Field(0.02, description="Of the agents are slow, rounded to whole ones, the last of the topology.")
    slow_ms: int = Field(200, ge=0, le=60_000, description="How long each call of a slow one takes.")
    disagree: Share = Field(0.0, description="Of the answers differ from those of all other agents.")
    remember: Share = Field(
        0.0, description="Of the agents are of kind python and remember conversations; they look at no context."
    )


class Outage(_Part):
    """Trouble while tasks are sent: one process is away for a while. Seconds are those of the measured part."""

    process: Literal["worker", "host", "store"]
    how: Literal["kill", "stop", "pause"] = Field("stop", description="SIGKILL; SIGTERM; SIGSTOP, then SIGCONT.")
    at_s: Seconds
    for_s: Seconds


class Ramp(_Part):
    """Rates that rise until one cannot be sustained."""

    start: Rate
    factor: float = Field(1.25, gt=1, le=10)
    steps: int = Field(8, ge=1, le=50)
    step_s: float = Field(15.0, ge=2, le=3600)
    backlog_s_max: float = Field(2.0, gt=0, description="More tasks waiting than this time's: not sustained.")


class Scenario(_Part):
    """One load test. `rate` is in tasks a second; a task of the default mix makes about 4.6 events."""

    about: str
    rate: Rate
    duration_s: float = Field(ge=1, le=86_400, description="The measured part, which follows the warm-up.")
    warm_up_s: Seconds = Field(30.0, description="At the first rate, not measured: a JVM compiles for about so long.")
    stages: tuple[tuple[float, float], ...] = Field(
        (), description="[seconds, rate as a multiple] of the measured part; empty: all of it at the rate."
    )
    ramp: Ramp | None = None
    drain: bool = Field(
        default=False, description="Fill the topic first, then start worker and host, and measure them."
    )
    partitions: int | None = Field(None, ge=1, le=1_000)
    mix: Mix = Field(default_factory=Mix)
    agents: Agents = Field(default_factory=Agents)
    outages: tuple[Outage, ...] = ()
    thresholds: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("thresholds")
    @classmethod
    def _readable(cls, value: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for metric, expressions in value.items():
            for expression in expressions:
                parse(metric, expression)
        return value

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        if self.stages and abs(sum(seconds for seconds, _ in self.stages) - self.duration_s) > 1e-6:  # noqa: PLR2004
            raise ValueError("the seconds of the stages must add up to duration_s")
        if sum((bool(self.stages), self.ramp is not None, self.drain)) > 1:
            raise ValueError("stages, ramp and drain exclude each other")
        if self.drain and self.outages:
            raise ValueError("a drain has no outages: its tasks are sent before it is measured")
        return self

    def schedule(self) -> Schedule:
        """Warm-up and measured part as one. A drain has no warm-up: all of it is sent before."""
        if self.drain:
            return Schedule([Stage(self.duration_s, self.rate)])
        warm_up = [Stage(self.warm_up_s, self.rate if self.ramp is None else self.ramp.start)] if self.warm_up_s else []
        return Schedule([*warm_up, *self.measured_stages()])

    def measured_stages(self) -> list[Stage]:
        """What follows the warm-up."""
        if self.ramp is not None:
            rise = self.ramp
            return [Stage(rise.step_s, rise.start * rise.factor**step) for step in range(rise.steps)]
        if self.stages:
            return [Stage(seconds, self.rate * multiple) for seconds, multiple in self.stages]
        return [Stage(self.duration_s, self.rate)]

    def judged(self) -> list[Threshold]:
        """Its thresholds, and those that always hold."""
        merged = {**ALWAYS, **self.thresholds}
        return [parse(metric, expression) for metric, expressions in merged.items() for expression in expressions]

    def changed(self, rate: float | None, duration_s: float | None, warm_up_s: float | None) -> Scenario:
        """With another rate, duration or warm-up; stages are stretched, a ramp starts there, thresholds stay.

        Raises ConfigurationError where the values cannot be.
        """
        changes: dict[str, object] = {}
        if rate is not None:
            changes["rate"] = rate
            if self.ramp is not None:
                changes["ramp"] = self.ramp.model_copy(update={"start": rate}).model_dump()
        if warm_up_s is not None:
            changes["warm_up_s"] = warm_up_s
        if duration_s is not None:
            changes["duration_s"] = duration_s
            stretch = duration_s / self.duration_s
            changes["stages"] = tuple((seconds * stretch, multiple) for seconds, multiple in self.stages)
            changes["outages"] = tuple(
                {**outage.model_dump(), "at_s": outage.at_s * stretch, "for_s": outage.for_s * stretch}
                for outage in self.outages
            )
        return _validated({**self.model_dump(), **changes}, "the scenario with these flags")


def names() -> list[str]:
    """Of the committed scenarios."""
    return sorted(path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml"))


def load(name: str) -> Scenario:
    """A committed scenario, or the file of this path. Raises ConfigurationError: there is none, or it has faults."""
    if name in names():
        return _read((_folder() / f"{name}.yaml").read_text("utf-8"), name)
    path = Path(name)
    if not path.is_file():
        known = ", ".join(names())
        raise ConfigurationError(
            f"There is no scenario {name}. Known are {known}; or name a file.", code=ErrorCode.SCENARIO
        )
    return _read(path.read_text("utf-8"), name)


def _read(text: str, name: str) -> Scenario:
    data = read_yaml(text).data
    if not isinstance(data, dict):
        raise ConfigurationError(f"{name}: a scenario is a mapping of keys.", code=ErrorCode.SCENARIO)
    return _validated(data, name)


def _validated(data: Mapping[str, object], name: str) -> Scenario:
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in error.errors()]
        raise ConfigurationError(f"{name}: {'; '.join(faults)}", code=ErrorCode.SCENARIO) from error


def _folder() -> Path:
    return Path(str(files("loadtest") / "scenarios"))
