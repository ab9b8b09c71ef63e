"""What an agent is to the host: the values it gets, the answer it gives, and how it says that it cannot.

Two kinds are called in the process. A `python` agent is `async run(task, context) -> Answer`, which must not block, for
all share one event loop; or the same without `async`, which then runs in a thread. A `batch` agent is
`run_batch(RecordBatch) -> RecordBatch`, in a thread as well, for rules that work in columns. The other kinds, `http`
and `command`, get and give the same values as JSON: `agents.wire`. I/O: none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import pyarrow as pa

from agents.memory.model import ToolCall
from schemas.ids import fact_id
from schemas.reasons import ErrorClass

NO_LABELS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Task:
    """One request, as an agent sees it.

    `payload` is the parsed JSON of the request, None where it has none. `deadline_ms` is absolute, in milliseconds
    since the epoch. `stage` is WORK for the first answer and REGROUND for the one re-run that must cite. `traceparent`
    is the W3C trace context of the request. `data_class` is PUBLIC, INTERNAL, PERSONAL or SENSITIVE: the request's,
    else the default of its tenant.
    """

    task_id: str
    text: str
    tenant: str = "default"
    conversation_id: str | None = None
    payload: object = None
    intent: str = ""
    language: str | None = None
    deadline_ms: int = 0
    stage: str = "WORK"
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS)  # Python 3.11 takes none unhashable
    traceparent: str | None = None
    data_class: str = "INTERNAL"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this task at this stage, so that a second run can be recognised outside."""
        return fact_id(self.tenant, self.task_id, self.stage)


@dataclass(frozen=True, slots=True)
class Interaction:
    """What this agent was asked before in this conversation, and what came of it.

    `status` is the kind of the outcome: COMPLETED, FAILED or REFUSED. `at` is its time in microseconds since the
    epoch. `from_agent` names the agent whose words it was asked in, where the orchestrator handed over another's:
    "unknown" where a task came out of another one, and nothing says whose words it has; empty where nobody's.
    """

    task_id: str
    asked: str
    answered: str | None
    status: str
    at: int
    tool_calls: tuple[ToolCall, ...] = ()
    from_agent: str = ""


class Known(NamedTuple):
    """All that a context holds. `tokens` of `text`, about; `hash` of all that it is made from."""

    interactions: tuple[Interaction, ...] = ()
    summary: str = ""
    facts: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    text: str = ""
    messages: tuple[Mapping[str, str], ...] = ()
    tokens: int = 0
    hash: str = ""


class Context:
    """What this agent knows of the conversation so far, and nothing of any other: docs/context.md.

    `interactions` are the last ones, oldest first; `summary` stands for those before; `facts` are those that are
    pinned, `instructions` what people told this agent. `text` is all of it for a prompt, `messages` the same as chat
    models take it. Each is made when it is looked at: an agent that asks for none pays nothing.
    """

    def __init__(self, interactions: tuple[Interaction, ...] = (), *, known: Known | None = None) -> None:
        self._known = known or Known(interactions)

    @property
    def interactions(self) -> tuple[Interaction, ...]:
        return self._known.interactions

    @property
    def summary(self) -> str:
        return self._known.summary

    @property
    def facts(self) -> tuple[str, ...]:
        return self._known.facts

    @property
    def instructions(self) -> tuple[str, ...]:
        return self._known.instructions

    @property
    def text(self) -> str:
        return self._known.text

    @property
    def messages(self) -> tuple[Mapping[str, str], ...]:
        return self._known.messages

    @property
    def tokens(self) -> int:
        return self._known.tokens

    @property
    def hash(self) -> str:
        return self._known.hash

    def __repr__(self) -> str:
        return "Context(...)"  # nothing that was said may come into a log through a repr


EMPTY_CONTEXT = Context()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent found.

    `confidence` is 0 to 1; None takes the `confidence_when_unstated` of the topology. `vote_key` is what a panel
    compares, where the text is free: two agents that found the same value give the same key. `payload` is anything
    that JSON can hold. `citations` name the sources, `facts` are to be remembered for this conversation, `tool_calls`
    are remembered with the answer.
    """

    text: str
    confidence: float | None = None
    vote_key: str | None = None
    payload: object = None
    citations: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    cost_microusd: int = 0
    tool_calls: tuple[ToolCall, ...] = ()


class AgentFailed(Exception):  # noqa: N818  what happened to the agent, not what is wrong with the program
    """The agent tried and did not succeed; nothing was done. `error_class` tells the orchestrator how to react."""

    def __init__(self, message: str = "", error_class: str = ErrorClass.INTERNAL) -> None:
        self.error_class = str(error_class)
        super().__init__(message)


class AgentOverloaded(AgentFailed):
    """The agent has no room now. The next agent is asked, and this one's breaker is not counted against."""

    def __init__(self, message: str = "", error_class: str = ErrorClass.OVERLOADED) -> None:
        super().__init__(message, error_class)


class AgentWrongInput(AgentFailed):
    """No agent could do this: the request itself is wrong."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message, ErrorClass.WRONG_INPUT)


class AgentRefused(Exception):  # noqa: N818  as above
    """The agent will not do this; another may."""


@dataclass(frozen=True, slots=True)
class Span:
    """Ten interactions of one conversation that a summary is to stand for, oldest first, without what was revoked.

    `facts` are what their answers pinned: a summary that does not state each of them word for word is refused, and so
    is one of more than `tokens_max` tokens. `extractive` is what stands for them otherwise.
    """

    interactions: tuple[Interaction, ...]
    facts: tuple[str, ...]
    tokens_max: int
    extractive: str

    def __repr__(self) -> str:
        return "Span(...)"  # as of a Context


Summariser: TypeAlias = Callable[[Span], Awaitable[str] | str]
"""Each line of what it gives is one that a window keeps, or leaves out where there is no room."""

PythonAgent: TypeAlias = Callable[[Task, Context], Awaitable[Answer] | Answer]
BatchAgent: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]

# What a batch agent is given; one row per dispatch.
BATCH_INPUT = pa.schema(
    [
        pa.field("task_id", pa.string(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("conversation_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("payload", pa.string()),
        pa.field("intent", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
    ]
)

BATCH_CONTEXT = pa.field("context", pa.string(), nullable=False)
"""One more, of a batch agent whose `context` is true in the topology: that of `agents.wire.context_fields`, as JSON."""

# What it may give back, in the order of its input; columns it leaves out are null or empty. A row with an
# `error_class` failed (the class REFUSED: refused), a row without an answer and without a class failed as INTERNAL.
BATCH_OUTPUT = pa.schema(
    [
        pa.field("answer", pa.string()),
        pa.field("confidence", pa.float64()),
        pa.field("vote_key", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("citations", pa.list_(pa.string())),
        pa.field("facts", pa.list_(pa.string())),
        pa.field("error_class", pa.string()),
        pa.field("error", pa.string()),
        pa.field("tokens_in", pa.int64()),
        pa.field("tokens_out", pa.int64()),
        pa.field("cost_microusd", pa.int64()),
    ]
)
BATCH_REFUSED = "REFUSED"
