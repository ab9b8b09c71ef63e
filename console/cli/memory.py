"""`pointsman context show`, `facts` and `instruct`: what an agent is shown, and what people say about its memory.

What is shown is made as a host makes it: out of the agent's inbox and log, by the same fold. I/O: Kafka, the clock,
stdout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from agents.context import caps_of
from agents.directives import (
    INSTRUCTION,
    Directive,
    DirectivesView,
    instruction,
    pinning,
    publish,
    withdraw,
)
from agents.logrecall import LogRecall, only
from agents.memory.canonical import window_hash
from agents.memory.fold import refold, resolve
from agents.memory.model import Directives, Fact, Interaction, Key, Line, State, Summary, SummaryLine, Window
from agents.memory.ports import Remembered
from agents.memory.render import text
from agents.memory.window import facts_of, window
from console.cli.agent_list import require_agent
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Format, Output, Row
from console.cli.pausing import DELIVERED_S, codec_of, principal
from schemas.codes import ErrorCode
from schemas.errors import DeliveryError
from schemas.nearest import suggest
from streams.transport.admin import check_topics
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import Producer

LINES = ("tokens", "section", "role", "from", "text")
FACTS = ("id", "text", "pinned_by", "at", "task_id")
INSTRUCTIONS = ("id", "agent", "tenant", "text", "at", "by")
ROWS_MAX, BYTES_MAX, POLL_S = 10_000, 16 * 1024 * 1024, 0.05


class Counts(NamedTuple):
    """Interactions of a conversation: those that its window holds as they were said, those that its summary stands for,
    and those that people revoked, which are in neither."""

    verbatim: int
    summarised: int
    revoked: int


def show_context(deployment: Deployment, key: Key, *, form: Format, out: Output) -> ExitCode:
    """Prints the window as an agent's next call would be shown it. Raises NotFoundError, UnreachableError."""
    state, directives, held = memory_of(deployment, key)
    caps = caps_of(deployment.topology).get(key.agent_id)
    if caps is None:
        out.note(f"{key.agent_id} is shown no context: see `context` in the topology.")
        return ExitCode.OK
    shown = window(state, caps, directives)
    counts = counted(shown, held.interactions, directives.revoked)
    by_id = {each.id: each for each in held.interactions}
    makers = {line: each for each in state.models for line in each.lines}
    lines = [_line(line, by_id, _maker(line, shown, makers)) for line in shown.lines]
    if form is Format.TABLE:
        out.records(lines, LINES, form)
        out.note(_said(shown, counts))
        return ExitCode.OK
    whole = {
        "tenant": key.tenant,
        "agent": key.agent_id,
        "conversation": key.conversation_id,
        "interactions": shown.count,
        **counts._asdict(),
        "tokens": shown.tokens,
        "tokens_soft": caps.soft,
        "tokens_hard": caps.hard,
        "hash": window_hash(shown),
        "omitted": shown.omitted._asdict(),
        "lines": lines,
        "text": text(shown),
    }
    out.json(whole) if form is Format.JSON else out.json_line(whole)
    return ExitCode.OK


def counted(shown: Window, held: Iterable[Interaction], revoked: Collection[str]) -> Counts:
    """Of all that `held` has; a number that two hosts gave away counts once."""
    summarised = 0 if shown.summary is None or not shown.summary.lines else len(shown.summary.members)
    return Counts(len(shown.interactions), summarised, sum(each.id in revoked for each in resolve(held)))


def _said(shown: Window, counts: Counts) -> str:
    left_out = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in shown.omitted._asdict().items() if n)
    parts = [
        f"{shown.tokens} of {shown.caps.soft} tokens",
        f"{counts.verbatim + counts.summarised} of {shown.count} interactions"
        + (f" ({counts.summarised} as a summary)" if counts.summarised else ""),
        *([f"{counts.revoked} revoked"] if counts.revoked else []),
        window_hash(shown),
    ]
    return ", ".join(parts) + (f"; left out: {left_out}" if left_out else "")


def _maker(line: Line, shown: Window, makers: Mapping[SummaryLine, Summary]) -> Summary | None:
    """The model's summary that a line is of; None for what no model made."""
    of_summary = shown.summary.lines if line.section == "summary" and shown.summary is not None else ()
    found = (each for each in of_summary if (each.text, each.origins) == (line.text, line.origins))
    return next((makers[each] for each in found if each in makers), None)


def _line(line: Line, by_id: dict[str, Interaction], model: Summary | None = None) -> Row:
    """What it says, what it costs, who made it, and where each of its origins stands in the logs."""
    found = [by_id[origin] for origin in line.origins if origin in by_id]
    return {
        "section": line.section,
        "role": line.role,
        "tokens": line.tokens,
        "text": line.text,
        "from": _from([each.task_id for each in found], model),
        "source": None if line.source is None else line.source.agent_id,
        "maker": None if model is None else model.version,
        "note": None if model is None or model.place is None else "{}:{}:{}".format(*model.place),
        "origins": list(line.origins),
        "tasks": [each.task_id for each in found],
        "inbox": ["{}:{}:{}".format(*each.inbox) for each in found if each.inbox is not None],
        "events": ["{}:{}:{}".format(*each.event) for each in found if each.event is not None],
    }


def _from(tasks: Sequence[str], model: Summary | None) -> str:
    if model is None:
        return ", ".join(tasks)
    return f"{model.version}, of interactions {model.first} to {model.last}"


def list_facts(deployment: Deployment, key: Key, *, form: Format, out: Output) -> ExitCode:
    """Prints what is pinned: by answers, and by people. Raises NotFoundError, UnreachableError."""
    state, directives, held = memory_of(deployment, key)
    by_id = {each.id: each for each in held.interactions}
    out.records([_fact(fact, by_id) for fact in reversed(facts_of(state, directives))], FACTS, form)
    return ExitCode.OK


def pin_fact(deployment: Deployment, key: Key, said: str, *, form: Format, out: Output) -> ExitCode:
    """Pins a text in one conversation. Raises UnreachableError, DeliveryError."""
    require_agent(deployment, key.agent_id)
    now = time.time_ns() // 1_000
    fact = Fact.of(key, said, at=now, by=principal())
    say(deployment, [pinning(key, fact, at=now, by=principal(), pinned=True)])
    return _told(_fact(fact, {}), FACTS, form, out)


def unpin_fact(deployment: Deployment, key: Key, which: str, *, form: Format, out: Output) -> ExitCode:
    """Takes a fact away, by its id or its text, however often answers state it. Raises NotFoundError."""
    state, directives, held = memory_of(deployment, key)
    wanted = Fact.of(key, which).id
    pinned = facts_of(state, directives)
    fact = next((each for each in pinned if each.id in {which, wanted}), None)
    if fact is None:
        raise NotFoundError(
            f"no such fact is pinned{suggest(which, [each.text for each in pinned])}", code=ErrorCode.NO_MEMORY
        )
    say(deployment, [pinning(key, fact, at=time.time_ns() // 1_000, by=principal(), pinned=False)])
    return _told(_fact(fact, {each.id: each for each in held.interactions}), FACTS, form, out)


def instruct(
    deployment: Deployment, agent_id: str, said: str, *, tenant: str | None, form: Format, out: Output
) -> ExitCode:
    """Tells an agent something that holds until it is withdrawn. Raises NotFoundError, UnreachableError."""
    require_agent(deployment, agent_id)
    word = instruction(agent_id, said, at=time.time_ns() // 1_000, by=principal(), tenant=tenant)
    say(deployment, [word])
    return _told(_instruction(word), INSTRUCTIONS, form, out)


def list_instructions(deployment: Deployment, agent_id: str | None, *, form: Format, out: Output) -> ExitCode:
    """Prints what people told agents, or one of them."""
    found = [each for each in _standing(deployment) if agent_id in {None, each.agent_id}]
    out.records([_instruction(each) for each in found], INSTRUCTIONS, form)
    return ExitCode.OK


def withdraw_instruction(deployment: Deployment, which: str, *, form: Format, out: Output) -> ExitCode:
    """Takes an instruction back, by its id or the beginning of it. Raises NotFoundError."""
    found = [each for each in _standing(deployment) if each.id.startswith(which)]
    if len(found) != 1:
        said = f"{len(found)} instructions begin with {which}: `pointsman context instructions` has their ids"
        raise NotFoundError(said, code=ErrorCode.NO_MEMORY)
    say(deployment, found, back=True)
    return _told(_instruction(found[0]), INSTRUCTIONS, form, out)


def _told(row: Row, columns: Sequence[str], form: Format, out: Output) -> ExitCode:
    if form is Format.TABLE:
        out.records([row], columns, form)
    else:
        out.json(row) if form is Format.JSON else out.json_line(row)
    return ExitCode.OK


def _fact(fact: Fact, by_id: dict[str, Interaction]) -> Row:
    origin = by_id.get(fact.origin)
    return {
        "id": fact.id,
        "text": fact.text,
        "pinned_by": fact.by or None,
        "at": datetime.fromtimestamp(fact.at / 1e6, UTC),
        "task_id": origin and origin.task_id,
        "origin": fact.origin or None,
    }


def _instruction(word: Directive) -> Row:
    return {
        "id": word.id,
        "agent": word.agent_id,
        "tenant": word.tenant,
        "text": word.text,
        "at": datetime.fromtimestamp(word.at / 1e6, UTC),
        "by": word.by,
    }


def _standing(deployment: Deployment) -> list[Directive]:
    """All instructions, oldest first."""
    with _view(deployment) as view:
        found = [each for each in view.snapshot().values() if each.kind == INSTRUCTION]
    return sorted(found, key=lambda each: (each.at, each.id))


def memory_of(deployment: Deployment, key: Key) -> tuple[State, Directives, Remembered]:
    """One memory out of the logs, and what people said about it. Raises NotFoundError where there is nothing."""
    require_agent(deployment, key.agent_id)
    with _view(deployment) as view:
        directives = view.of(key)
    with _logs(deployment) as logs:
        parts = [logs(key, partition) for partition in range(deployment.topology.partitions)]
    interactions = tuple(each for part in parts for each in part.interactions)
    facts = tuple(fact for part in parts for fact in part.facts_before)
    if not interactions and not directives.pinned:
        text_ = f"{key.agent_id} has no conversation {key.conversation_id} with tenant {key.tenant} in its log"
        raise NotFoundError(f"{text_}; another tenant's takes --tenant", code=ErrorCode.NO_MEMORY)
    models = tuple(each for part in parts for each in part.models)
    state = refold(key, interactions, facts_before=facts, models=models, revoked=directives.revoked)
    return state, directives, Remembered(interactions, facts, models)


@contextmanager
def _view(deployment: Deployment) -> Iterator[DirectivesView]:
    check_topics(deployment.settings, [deployment.topology.topics().memory], deployment.topology)
    with closing(DirectivesView(deployment.settings, deployment.topology, codec_of(deployment))) as view:
        view.read_once()
        yield view


@contextmanager
def _logs(deployment: Deployment) -> Iterator[Callable[[Key, int], Remembered]]:
    config = client_config(deployment.settings, deployment.topology, "consumer", fetch="back", name="pointsman-context")
    consumer = BatchConsumer(config, lambda name: name, rows_max=ROWS_MAX, bytes_max=BYTES_MAX, poll_s=POLL_S)
    logs = LogRecall(deployment.topology, codec_of(deployment), consumer)
    with closing(consumer):
        yield lambda key, partition: logs.read(key.agent_id, partition, only([key])).memories.get(key, Remembered())


def say(deployment: Deployment, words: Sequence[Directive], *, back: bool = False) -> None:
    """Raises UnreachableError, DeliveryError."""
    topic = deployment.topology.topics().memory
    check_topics(deployment.settings, [topic], deployment.topology)
    producer = Producer(client_config(deployment.settings, deployment.topology, "producer", name="pointsman-memory"))
    with closing(producer):
        if back:
            withdraw(producer, topic, words)
        else:
            publish(producer, codec_of(deployment), topic, words)
        if not producer.drained(DELIVERED_S):
            raise DeliveryError(topic, len(producer), "the broker did not answer in time")
