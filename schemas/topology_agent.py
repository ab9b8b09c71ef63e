"""One agent of the topology: its kind, how it is reached or run, and what it may take; what all sections share.

Which keys belong to which kind is `schemas.topology_checks`. I/O: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1024 * 1024
# No number of a topology comes near it: 34 years in milliseconds, 1 TiB. Sums of such stay within 64 bits.
NUMBER_MAX = 2**40
TIMEOUT_MS_MAX = 2**31 - 1  # a slip carries it in 32 bits
RESPONSE_BYTES_MAX = 64 * MIB  # it is held in memory, once for each call that runs

# Where `concurrency` is not stated.
RUNNING_MAX = 64
RUNNING_MAX_OF_COMMAND = 4  # each is a process

CODE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
SUMMARY_TOKENS_MAX = 1_600  # what the extractive summary of as many interactions may take

Effect = Literal["read", "idempotent", "write"]
Kind = Literal["python", "batch", "http", "command"]
Scalar = str | int | float | bool | None
# Only where no other bound is stated: of two, Pydantic takes the last, which is this one.
Whole = Annotated[int, Field(le=NUMBER_MAX)]
# Strict models take no list for a tuple; a file has nothing but lists.
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """What all parts share: frozen once read, no unknown key, no value of a neighbouring type, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Granted(Section):
    """A header's or variable's value: text that stands here, or what a variable of the host's environment holds."""

    value: str | None = Field(None, pattern=r"^[^\x00-\x1f\x7f]*$", description="The text itself; never a secret.")
    env: str | None = Field(
        None, pattern=r"^[A-Za-z_]\w*$", description="The variable of the host's environment that holds it."
    )
    prefix: str = Field(
        "", pattern=r"^[^\x00-\x1f\x7f]*$", description="Put before what the variable holds, such as `Bearer `."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_text(cls, value: Any) -> Any:
        return {"value": value} if isinstance(value, str) else value


class Summarising(Section):
    """How a model sums up what this agent said: code of its own, asked beside the agent's calls and never for them."""

    run: str = Field(
        pattern=CODE,
        description="The code, as module:function, importable by the host; it gets ten interactions and gives text.",
    )
    version: str = Field(
        "1", min_length=1, description="Version of its prompt and model; each summary has it, with a digest."
    )
    timeout_ms: int = Field(30_000, ge=1, le=TIMEOUT_MS_MAX, description="Time that one summary may take.")
    tokens_max: int = Field(
        400,
        ge=16,
        le=SUMMARY_TOKENS_MAX,
        description="Tokens of one; a longer one is refused, and the extractive one stands.",
    )
    concurrency: int = Field(2, ge=1, le=64, description="Summaries that one host has made at the same time.")
    options: Mapping[str, Scalar] = Field(
        default_factory=dict, description="Keyword arguments passed to the code; never secrets."
    )


class Agent(Section):
    """One AI agent; its name is its key in `agents`."""

    kind: Kind = Field(
        "python",
        description="python: a function, one task a call; batch: a function, a record batch a call; http: a service, "
        "one request a task; command: a program of its own, one line a task.",
    )
    run: str | None = Field(
        None,
        pattern=CODE,
        description="python, batch: the code, as module:function; importable by the host.",
    )
    url: str | None = Field(
        None,
        pattern=r"^https?://[^/@\s?#]+([/?][^\s#]*)?$",
        description="http: where tasks are posted to; no credentials in it.",
    )
    headers: Mapping[str, Granted] = Field(
        default_factory=dict,
        description="http: more headers of each request: text, or {env: NAME} for what a variable of the host holds.",
    )
    connect_timeout_ms: Whole = Field(2_000, ge=1, description="http: time that connecting may take.")
    command: Names | None = Field(
        None,
        min_length=1,
        description="command: the program and its arguments. A program without a slash is looked up on the host's "
        "PATH, a relative one from `cwd`.",
    )
    cwd: str | None = Field(
        None,
        min_length=1,
        description="command: its working directory, from the host's; null: the host's own.",
    )
    env: Mapping[str, Granted] = Field(
        default_factory=dict,
        description="command: variables of its environment, which holds little else: text, or {env: NAME}.",
    )
    network: bool = Field(default=False, description="command: whether a sandbox lets it use the network.")
    sandbox: Literal["auto", "required", "off"] = Field(
        "auto", description="command: bubblewrap where it works; required: nothing else will do; off: never."
    )
    memory_mib_max: Whole = Field(
        1_024, ge=16, description="command: private memory that each of its processes may hold."
    )
    files_max: Whole = Field(256, ge=16, description="command: files that each of its processes may have open.")
    response_bytes_max: int = Field(
        MIB, ge=1_024, le=RESPONSE_BYTES_MAX, description="http, command: the longest answer that is read."
    )
    effect: Effect = Field(
        description="What calling it does to the world: read (nothing), idempotent (the same when repeated under its "
        "key), write (neither: never in a panel, never repeated when its outcome is unknown)."
    )
    timeout_ms: int = Field(5_000, ge=1, le=TIMEOUT_MS_MAX, description="Time that one attempt may take.")
    concurrency: Whole | None = Field(
        None,
        ge=1,
        description=f"Attempts that one host runs of it at the same time; null: {RUNNING_MAX}, of kind command "
        f"{RUNNING_MAX_OF_COMMAND}, for each is a process.",
    )
    accuracy: float = Field(0.8, gt=0.5, lt=0.999, description="Share of right answers: the weight of its vote.")
    confidence_when_unstated: float = Field(
        0.75, ge=0, le=1, description="Confidence of an answer for which it states none."
    )
    grounded: bool = Field(default=False, description="Whether an answer without citations counts as none.")
    costly: bool = Field(
        default=False, description="Whether STARTED is logged before the call; a write agent's always is."
    )
    context: bool | None = Field(
        None, description="Whether it is shown its conversation so far; null: yes, unless it is of kind batch."
    )
    context_tokens: Whole | None = Field(
        None, ge=0, description="Tokens that the context of a call is made to fit; null: limits.context_tokens."
    )
    summary: Summarising | None = Field(
        None, description="Who sums up what it said ten interactions ago and more; null: lines of it, without a model."
    )
    version: str = Field(
        "1",
        min_length=1,
        description="Version of its code, prompt and model, as people count; its log has it, with a digest.",
    )
    description: str = Field("", description="What it does, for people.")
    options: Mapping[str, Scalar] = Field(
        default_factory=dict,
        description="Keyword arguments passed to its code, or sent with each request; never secrets.",
    )

    @property
    def logs_start(self) -> bool:
        """STARTED must be in the log before the call."""
        return self.costly or self.effect == "write"

    @property
    def remembers(self) -> bool:
        """It is shown its conversation so far."""
        return self.kind != "batch" if self.context is None else self.context

    @property
    def running_max(self) -> int:
        """Calls that one host runs of it at the same time. Of a batch agent there is one call, and so many threads."""
        if self.concurrency is not None:
            return self.concurrency
        return RUNNING_MAX_OF_COMMAND if self.kind == "command" else RUNNING_MAX
