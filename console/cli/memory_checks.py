"""`pointsman context verify` and `context revoke`: whether memory is the same everywhere, and what is taken out of it.

I/O: Kafka, ClickHouse, the clock, stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import ndiff
from typing import TextIO

from agents.context import caps_of
from agents.directives import revocation
from agents.memory.canonical import window_hash
from agents.memory.fold import reach, refold, resolve
from agents.memory.model import NO_DIRECTIVES, Caps, Directives, Interaction, Key, State, Window
from agents.memory.modelled import missing
from agents.memory.ports import Remembered, SourceAway
from agents.memory.render import text
from agents.memory.window import window
from console.cli.confirm import confirm
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.memory import memory_of, say
from console.cli.output import Format, Output, Row
from console.cli.pausing import principal
from console.memory.recall import StoreRecall, read_so_far
from console.memory.summaries import row_of
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from streams.history.conversations import Conversations
from streams.history.summaries import StoredSummary, Summaries

ASKED = ("task_id", "asked", "answer")
REVOKED = ("task_id", "id", "why", "by")
COUNTS = ("interactions", "revoked", "behind", "summaries", "models")
VERIFIED = ("conversation", *COUNTS, "same", "log_hash", "history_hash")
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two windows of one memory after the same number of interactions, how many of these are revoked and so in neither,
    and how many more the log has.

    `begins` is the first interaction that the log still holds, where it does not reach back far enough; else 1.
    """

    log: Window
    history: Window
    revoked: int
    behind: int
    begins: int = 1

    @property
    def same(self) -> bool:
        return window_hash(self.log) == window_hash(self.history)

    def differences(self) -> list[str]:
        """Lines that only one has: `-` the log, `+` the history; where both read alike, that they differ elsewhere."""
        if self.same:
            return []
        if self.begins > 1:
            return [f"the log holds interactions from {self.begins} on: its retention took what the context began with"]
        lines = ndiff(text(self.log).splitlines(), text(self.history).splitlines())
        found = [line for line in lines if line[0] in "-+"]
        return found or ["the text is the same; times, costs or versions behind it are not"]


def compare(
    key: Key, log: Remembered, history: Remembered, caps: Caps, directives: Directives = NO_DIRECTIVES
) -> Comparison:
    """After as many interactions as both have. What the history lacks at its end is no difference."""
    kept = [resolve(side.interactions) for side in (log, history)]
    ends = [each[-1].ordinal if each else 0 for each in kept]
    upto = min(ends)
    windows = []
    for side in (log, history):
        seen = [each for each in side.interactions if each.ordinal <= upto]
        models = [each for each in side.models if each.since <= upto]
        state = refold(key, seen, facts_before=side.facts_before, models=models, revoked=directives.revoked)
        windows.append(window(state, caps, directives))
    begins = kept[0][0].ordinal if kept[0] else 1
    revoked = sum(each.id in directives.revoked for each in kept[0] if each.ordinal <= upto)
    return Comparison(windows[0], windows[1], revoked, ends[0] - upto, begins if begins > reach(upto) else 1)


def verify_context(deployment: Deployment, key: Key, *, form: Format, out: Output) -> ExitCode:
    """Prints whether the history's memory is the log's. Raises NotFoundError, UnreachableError, QueryError."""
    state, directives, remembered = memory_of(deployment, key)
    caps = caps_of(deployment.topology).get(key.agent_id, Caps())
    places = {each.event.partition for each in remembered.interactions if each.event is not None}
    where = (deployment.settings.clickhouse, *deployment.settings.clickhouse_login)
    with closing(Conversations(*where, TIMEOUT_S)) as reader, closing(Summaries(*where)) as summaries:
        try:
            stored, through = StoreRecall(deployment.topology, reader).recall(min(places, default=0), [key])
        except SourceAway as away:
            raise (away.__cause__ or away) from None
        summed_up = [each for each in summaries.of([key]) if not directives.revoked.intersection(each.members)]
    known = read_so_far(stored.get(key, Remembered()), through.get(key.agent_id, 0))
    found = compare(key, remembered, known, caps, directives)
    ours = [] if found.begins > 1 else [row_of(key, each) for each in state.chunks]
    differs = [*found.differences(), *differing(ours, summed_up), *unfit(state, remembered.interactions)]
    row: Row = {
        "tenant": key.tenant,
        "agent": key.agent_id,
        "conversation": key.conversation_id,
        "interactions": found.log.count,
        "revoked": found.revoked,
        "behind": found.behind,
        "log_hash": window_hash(found.log),
        "history_hash": window_hash(found.history),
        "models": len(state.models),
        "summaries": len({each.first for each in ours} & {each.first for each in summed_up}),
        "same": not differs,
        "differs": differs,
    }
    if form is Format.TABLE:
        out.records([row], VERIFIED, form)
        for line in differs:
            out.note(line)
    else:
        out.json(row) if form is Format.JSON else out.json_line(row)
    return ExitCode.FAILED if differs else ExitCode.OK


def differing(ours: Sequence[StoredSummary], stored: Sequence[StoredSummary]) -> list[str]:
    """Lines that only one side's summary of the same chunk has. What is not stored yet is no difference."""
    held = {(each.first, each.maker): each for each in stored}
    found = []
    for each in ours:
        other = held.get((each.first, each.maker), each)
        if other != each:
            name = f"summary of {each.first} to {each.last}"
            lines = [line for line in ndiff(each.lines, other.lines) if line[0] in "-+"]
            found += [f"{line[0]} {name}: {line[2:]}" for line in lines] or [f"{name}: not of the same interactions"]
    return found


def unfit(state: State, interactions: Sequence[Interaction]) -> list[str]:
    """What summaries that models made lack. No model is asked: their range is the fold's, or they are not taken."""
    by_id = {each.id: each for each in interactions}
    found = []
    for each in state.models:
        members = [by_id[id_] for id_ in each.ids if id_ in by_id]
        name = f"summary of {each.first} to {each.last} by {each.version}"
        found += [f"{name}: the fact {fact.text!r} is not in it" for fact in missing(each, members)]
    return found


def chosen(interactions: Sequence[Interaction], which: Sequence[str]) -> list[Interaction]:
    """Those whose task, event or own id is named, each once. Raises NotFoundError where one names none."""
    found: dict[str, Interaction] = {}
    for name in which:
        named = [each for each in interactions if name in {each.task_id, each.event_id, each.id}]
        if not named:
            hint = suggest(name, [each.task_id for each in interactions])
            text_ = f"no interaction of this conversation is, or is of, {name}{hint}"
            raise NotFoundError(text_, code=ErrorCode.NO_MEMORY)
        found |= {each.id: each for each in named}
    return list(found.values())


def revoke(
    deployment: Deployment,
    key: Key,
    which: Sequence[str],
    *,
    why: str,
    yes: bool = False,
    form: Format,
    out: Output,
    answers: TextIO | None = None,
) -> ExitCode:
    """Says that nothing may be derived from them any more; shows them and asks first, for no command takes it back.

    Raises NotFoundError, UnreachableError, DeliveryError; UsageError where nobody says yes.
    """
    _, _, remembered = memory_of(deployment, key)
    found = chosen(remembered.interactions, which)
    if not yes:
        _ask(key, found, out, answers or sys.stdin)
    now, said_by = time.time_ns() // 1_000, principal()
    say(deployment, [revocation(key, [each.id for each in found], reason=why, at=now, by=said_by)])
    said_at = datetime.fromtimestamp(now / 1e6, UTC)
    rows: list[Row] = [
        {
            "id": each.id,
            "task_id": each.task_id,
            "agent": key.agent_id,
            "conversation": key.conversation_id,
            "why": why,
            "by": said_by,
            "at": said_at,
        }
        for each in found
    ]
    out.records(rows, REVOKED, form)
    return ExitCode.OK


def _ask(key: Key, found: Sequence[Interaction], out: Output, answers: TextIO) -> None:
    """Raises UsageError unless somebody says yes."""
    rows: list[Row] = [{name: getattr(each, name) for name in ASKED} for each in found]
    confirm(
        f"Take this out of all that {key.agent_id} remembers of {key.conversation_id}? No command takes it back.",
        nobody=f"Nobody can be asked here: look at `pointsman context show {key.agent_id} {key.conversation_id}`, then "
        "add --yes.",
        no="Nothing was revoked.",
        out=out,
        answers=answers,
        show=lambda: Output(out.err, out.err).records(rows, ASKED, Format.TABLE),
    )
