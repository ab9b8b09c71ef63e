"""What memory is made of: interactions, facts, instructions, summaries, and the window that an agent is shown.

All are values. Nothing here, and nothing in this package that is pure, has a clock, randomness or I/O. I/O: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from schemas.ids import fact_id

HEADINGS = 32
"""Tokens of the headings of a window that is rendered as text."""

RECENT = 10
"""Interactions that are shown verbatim."""

CHUNK = 10
"""Interactions that one summary stands for; at most RECENT, so that it is made while all of them are still there."""

SUMMARISED = 100
"""Interactions before the verbatim ones that summaries stand for."""


class Key(NamedTuple):
    """Whose memory. Agents share none, nor do tenants, nor conversations: ids need not differ between them."""

    tenant: str
    agent_id: str
    conversation_id: str


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Source(NamedTuple):
    """Whose words they are, where the orchestrator handed over another's: an agent, and the task or event they were
    taken from."""

    agent_id: str
    reference: str


class ToolCall(NamedTuple):
    """A call and its result, one thing: no window holds one without the other. `arguments` and `result` are text,
    mostly JSON; a call that never returned has None."""

    call_id: str
    name: str
    arguments: str = ""
    result: str | None = None


class ForeignInteraction(ValueError):  # noqa: N818  what it is
    """An interaction of one memory was about to be folded into another. A fault of the program; state is untouched."""


class Diverged(Exception):  # noqa: N818  what happened
    """A newer host wrote other interactions in the place of ones that are folded already: fold anew, from the log."""


def interaction_id(key: Key, task_id: str, attempt: int, stage: str) -> str:
    """The same for every copy of a dispatch and of its outcome, whichever host wrote it."""
    return fact_id(key.tenant, key.agent_id, key.conversation_id, task_id, attempt, stage)


@dataclass(frozen=True, slots=True)
class Interaction:
    """What an agent was asked, and what it did: its inbox and its log together.

    `ordinal` counts the interactions of this memory from 1, without gaps; 0 lets the fold count. `epoch` is that of the
    host that wrote the outcome. Times are in microseconds since the epoch, costs in millionths of a dollar. `status` is
    COMPLETED, FAILED or REFUSED. `source` marks words that are another agent's. `facts` are pinned. `inbox` and `event`
    are where it can be read; the host that runs the agent does not know the latter, so nothing depends on either.
    """

    key: Key
    task_id: str
    asked: str
    answer: str | None = None
    status: str = "COMPLETED"
    attempt: int = 1
    stage: str = "WORK"
    ordinal: int = 0
    epoch: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    facts: tuple[str, ...] = ()
    error: str | None = None
    asked_at: int = 0
    at: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_microusd: int = 0
    agent_version: str = ""
    source: Source | None = None
    inbox: Place | None = field(default=None, compare=False)
    event: Place | None = field(default=None, compare=False)
    event_id: str = field(default="", compare=False)
    sizes: tuple[int, ...] = field(default=(), compare=False, repr=False)  # estimated tokens of its lines, once known
    _id: str = field(default="", init=False, compare=False, repr=False)  # once somebody asked for it

    @property
    def id(self) -> str:
        if not self._id:
            object.__setattr__(self, "_id", interaction_id(self.key, self.task_id, self.attempt, self.stage))
        return self._id


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to be remembered for good. `origin` is the id of the interaction that it came from, empty where a
    person pinned it. The same text in the same memory is the same fact, from wherever it came."""

    id: str
    text: str
    origin: str = ""
    ordinal: int = 0
    at: int = 0
    by: str = ""

    @classmethod
    def of(cls, key: Key, text: str, *, origin: str = "", ordinal: int = 0, at: int = 0, by: str = "") -> Fact:
        text = " ".join(text.split())
        return cls(fact_id(*key, "FACT", text), text, origin, ordinal, at, by)


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a person told an agent: for all its conversations, or those of one tenant where `tenant` is not empty."""

    id: str
    agent_id: str
    text: str
    at: int = 0
    by: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Directives:
    """What people said about one memory. It is no part of the fold but laid over it, so the order in which it and the
    interactions arrive does not matter. `unpinned` are ids of facts, `revoked` of interactions."""

    instructions: tuple[Instruction, ...] = ()
    pinned: tuple[Fact, ...] = ()
    unpinned: frozenset[str] = frozenset()
    revoked: frozenset[str] = frozenset()


NO_DIRECTIVES = Directives()

SummaryKind = Literal["extractive", "model"]


class SummaryLine(NamedTuple):
    """One line, and the ids of the interactions that it is taken from. `weight` ranks lines of different chunks,
    `ordinal` is that of the interaction, or of the last of them; `tokens` are estimated."""

    text: str
    origins: tuple[str, ...]
    ordinal: int = 0
    weight: float = 0.0
    tokens: int = 0
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What stands for the interactions `first` to `last` (ordinals): `members` are their ordinals and ids, without
    those that were revoked. `version` names the way it was made, so that it can be made again and compared.

    A model's cannot be made again, so it is an event of the agent's log: `epoch` is that of the host that wrote it, and
    windows after `since` interactions and more show it. `place` is where it can be read; nothing depends on that."""

    kind: SummaryKind
    version: str
    first: int
    last: int
    members: tuple[tuple[int, str], ...]
    lines: tuple[SummaryLine, ...]
    epoch: int = 0
    since: int = 0
    place: Place | None = field(default=None, compare=False)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(id_ for _, id_ in self.members)

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


@dataclass(frozen=True, slots=True)
class State:
    """One memory, folded. Bounded whatever the length of the conversation: `recent` are the last RECENT interactions,
    `chunks` the summaries of the chunks that reach into the SUMMARISED before them, `models` model-made ones of some
    of the same chunks, `facts` the newest distinct ones that fit into the hard cap. `count` is the last ordinal."""

    key: Key
    count: int = 0
    epoch: int = 0
    recent: tuple[Interaction, ...] = ()
    chunks: tuple[Summary, ...] = ()
    models: tuple[Summary, ...] = ()
    facts: tuple[Fact, ...] = ()


class Caps(NamedTuple):
    """Tokens of a window: `soft` is what it is made to fit; `hard` is never exceeded, not even by facts. `recent`: how
    many interactions are shown verbatim at most, up to RECENT."""

    soft: int = 4_000
    hard: int = 8_000
    recent: int = RECENT


Section = Literal["instruction", "fact", "summary", "interaction"]


class Line(NamedTuple):
    """One line of a window: where it stands, what it costs, and the ids of what it comes from."""

    section: Section
    role: str
    text: str
    tokens: int
    origins: tuple[str, ...]
    source: Source | None = None


class Omitted(NamedTuple):
    """What did not fit: instructions and facts beyond the hard cap, verbatim interactions that stand in the summary
    instead, calls of tools with their results, and characters cut out of the last interaction."""

    instructions: int = 0
    facts: int = 0
    interactions: int = 0
    tool_calls: int = 0
    characters: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """What an agent is shown. `interactions` are those shown verbatim, oldest first, without what was left out of them;
    `summary` stands for those before them, up to SUMMARISED and RECENT in all, None where there are none. `tokens`
    covers all lines and the headings between them."""

    key: Key
    caps: Caps
    count: int
    instructions: tuple[Instruction, ...]
    facts: tuple[Fact, ...]
    summary: Summary | None
    interactions: tuple[Interaction, ...]
    lines: tuple[Line, ...]
    omitted: Omitted

    @property
    def tokens(self) -> int:
        return HEADINGS + sum(line.tokens for line in self.lines) if self.lines else 0
