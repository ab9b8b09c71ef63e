"""The host process: its clients, its agents, and its end.

I/O: Kafka, and the modules that the topology names.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from agents.calls import wall_us
from agents.directives import DirectivesView
from agents.host import Host
from agents.logrecall import LogRecall
from agents.memory.ports import Recall
from agents.readback import ReadBack
from agents.rebuild import Rebuilder
from agents.registry import Target, resolve, summarisers
from agents.regulation import SHARE
from agents.targets import Program
from agents.version import Declared, declared
from schemas.access import used_by
from schemas.codec import Codec
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Agent, Limits, Topology
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer, GroupConsumer
from streams.transport.fetches import can_fetch
from streams.transport.gathering import Gathering
from streams.transport.packed_consumer import GatheringConsumer
from streams.transport.packed_reader import reader
from streams.transport.pauses import PauseView, TopicPauses
from streams.transport.producer import Output
from streams.transport.slots import instance_of
from streams.transport.telemetry import get_logger
from streams.transport.turn_producer import producer_for
from streams.transport.vacating import vacate

log = get_logger("pointsman.host")

T = TypeVar("T")

CLOSE_S = 0.2
FIRST_S = 0.02
"""How long a poll waits for its first record: rebalances and the end of the process wait as long."""

LEFT_BEHIND_S = 0.1


def run_host(
    settings: Settings,
    topology: Topology,
    *,
    ready: Callable[[Mapping[str, object]], None],
    stop: threading.Event,
    remembers: Recall | None = None,
) -> None:
    """Serves the topology's agents until `stop` is set, then ends within 4 s; `ready` is called once, when it serves.
    Conversations that are not at hand are asked of `remembers` first, and without it of the agents' logs alone.

    Creates the topics that are missing. Raises ConfigurationError for an agent that cannot be called or topics that do
    not fit, UnreachableError where there is no broker, DeliveryError or TransportError when it cannot go on.
    """
    targets = resolve(topology)
    ensure_topics(settings, used_by("host", topology.topics()), topology)
    group = f"{topology.prefix}pointsman-host"
    registry, bytes_max = FileRegistry.load(), topology.limits.record_bytes_max
    codec = Codec(registry, bytes_max)
    producing = client_config(settings, topology, "producer", name="pointsman-host")
    producer = producer_for({**producing, "linger.ms": topology.limits.linger_ms})
    place = instance_of(settings.host_slot, topology.topics().inboxes)
    consumer = _member(settings, topology, group, place)
    history = _consumer(settings, topology, "pointsman-host-readback", lambda topic: topic)
    recall = _consumer(settings, topology, "pointsman-host-memory", lambda topic: topic)
    view = PauseView(settings, topology, Codec(registry, bytes_max))
    told = DirectivesView(settings, topology, Codec(registry, bytes_max))
    try:
        view.start()
        told.start()
        # What answers is the same for as long as this process lives: a change comes with the next one, and its claim.
        versions = {name: declared(agent) for name, agent in topology.agents.items()}
        announce(topology, targets, codec, producer, versions)
        pauses = TopicPauses(topology, codec, producer, view)
        read_back = ReadBack(topology, Codec(registry, bytes_max), history)
        logs = LogRecall(topology, Codec(registry, bytes_max), recall)
        with memory_reader(settings, topology) as memory:
            host = Host(
                topology, targets, codec, consumer, producer, read_back, pauses, versions, logs,
                remembers, told=told, rebuilder=memory, summarisers=summarisers(topology),
            )  # fmt: skip
            run_loop(host.run(ready, stop))
    finally:
        view.close()
        told.close()
        history.close(CLOSE_S)
        recall.close(CLOSE_S)
        producer.close(CLOSE_S)
    vacate(client_config(settings, topology, "consumer", group=group, instance=place, name="pointsman-host"))


@contextmanager
def memory_reader(settings: Settings, topology: Topology) -> Iterator[Rebuilder]:
    """Reads agents' memories out of the topics, with clients of its own."""
    inbox, log_ = (_consumer(settings, topology, f"pointsman-host-{each}", str) for each in ("inbox", "log"))
    try:
        yield Rebuilder(topology, Codec(FileRegistry.load(), topology.limits.record_bytes_max), inbox, log_)
    finally:
        inbox.close(CLOSE_S)
        log_.close(CLOSE_S)


def run_loop(serving: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, which would wait for an agent that does not heed its cancellation."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(serving)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            _, deaf = loop.run_until_complete(asyncio.wait(left, timeout=LEFT_BEHIND_S))
            if deaf:
                log.warning("calls that do not heed their cancellation are left behind", calls=len(deaf))
            loop.set_exception_handler(lambda _loop, _context: None)  # it would say the same of each, at length
        loop.close()


def announce(
    topology: Topology,
    targets: Mapping[str, Target],
    codec: Codec,
    producer: Output,
    versions: Mapping[str, Declared],
) -> None:
    """Publish a card of each agent. That of a program says what protects from it, and so does the log."""
    names = list(topology.agents)
    agents = list(topology.agents.values())
    protections = {name: target.protection for name, target in targets.items() if isinstance(target, Program)}
    for name, protection in protections.items():
        log.info("program", agent=name, protection=protection)
    columns: dict[str, object] = {
        "agent_id": names,
        "version": [versions[name].name for name in names],
        **{name: [getattr(agent, name) for agent in agents] for name in ("kind", "effect")},
        "description": [_description(agent, protections.get(name)) for name, agent in topology.agents.items()],
        "host_id": f"{socket.gethostname()}-{os.getpid()}",
        "announced_at": wall_us(),
    }
    values = codec.encode(table("AgentCard", columns, len(names)), "AgentCard")
    producer.send(topology.topics().cards, 0, values, [name.encode() for name in names])


def _description(agent: Agent, protection: str | None) -> str:
    return agent.description if protection is None else f"{agent.description} [{protection}]".lstrip()


def _member(settings: Settings, topology: Topology, group: str, instance: str | None) -> GroupConsumer:
    """Reads whole record batches, unless the operator wants of a consumer what only librdkafka does."""
    config = client_config(settings, topology, "consumer", group=group, instance=instance, name="pointsman-host")
    limits = topology.limits
    gathering = Gathering(limits.poll_ms / 1000, limits.turn_percent / 100)
    if can_fetch(config):
        return GatheringConsumer(config, _channel_of, _rows_max(limits), limits.batch_bytes_max, FIRST_S, gathering)
    return BatchConsumer(
        config,
        _channel_of,
        rows_max=_rows_max(limits),
        bytes_max=limits.batch_bytes_max,
        poll_s=FIRST_S,
        with_headers=True,
        gathering=gathering,
    )


def _channel_of(topic: str) -> str:
    del topic  # a member reads inboxes alone
    return "dispatches"


def _consumer(settings: Settings, topology: Topology, name: str, channel_of: Callable[[str], str]) -> BatchConsumer:
    """Of no group: reads what it is told to, up to an end."""
    return reader(
        client_config(settings, topology, "consumer", fetch="back", name=name),
        channel_of,
        rows_max=_rows_max(topology.limits),
        bytes_max=topology.limits.batch_bytes_max,
        poll_s=FIRST_S,
        with_headers=True,
    )


def _rows_max(limits: Limits) -> int:
    """What one poll brings is taken in whole: it must not fill the host with one agent's work."""
    return min(limits.batch_rows_max, max(limits.host_inflight_max // SHARE, 1))
