"""What every part of `pointsman dlq` works with: the dead topic as of now, and how its letters are read.

I/O: Kafka, the schema registry.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from console.cli.deployment import Deployment
from console.cli.failures import NotFoundError
from console.dlq.bodies import Bodies, Body
from console.dlq.selection import Selection
from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.registry import FileRegistry, JoinedRegistry
from streams.transport.dead_topic import DeadTopic, Letter, Markers
from streams.transport.foreign_ids import ForeignIds, foreign_ids
from streams.transport.topic_admin import TopicAdmin

SETTLE_S = 3.0
SETTLE_POLL_S = 0.05
READ_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Opened:
    """`topic` is read in passes: the markers first, then the letters, which are many and large."""

    deployment: Deployment
    topic: DeadTopic
    bodies: Bodies

    def select(self, selection: Selection) -> tuple[Markers, Iterator[tuple[Letter, Body | None]]]:
        """The markers, and the letters that are meant, in the order of each partition.

        A body is read where the selection needs it.
        """
        starts = selection.starts(self.topic.starts(selection.since_ms))
        markers = self.topic.markers(starts)
        meant = (
            letter
            for letter in self.topic.letters(starts)
            if selection.takes(letter, is_redriven=bool(markers.of(letter)))
        )
        if selection.tenant is None:
            return markers, ((letter, None) for letter in meant)
        return markers, self._of_tenant(meant, selection.tenant)

    def _of_tenant(self, letters: Iterable[Letter], tenant: str) -> Iterator[tuple[Letter, Body | None]]:
        for some in in_groups(letters, READ_AT_ONCE):
            for letter, body in zip(some, self.bodies.read(some), strict=True):
                if body.task[0] == tenant:
                    yield letter, body


def in_groups(letters: Iterable[Letter], most: int) -> Iterator[list[Letter]]:
    group: list[Letter] = []
    for letter in letters:
        group.append(letter)
        if len(group) >= most:
            yield group
            group = []
    if group:
        yield group


@contextmanager
def opened(deployment: Deployment) -> Iterator[Opened]:
    """Raises UnreachableError, NotFoundError where there is no dead topic, ConfigurationError."""
    settings, topology = deployment.settings, deployment.topology
    topics, registry = topology.topics(), FileRegistry.load()
    if topics.dead not in TopicAdmin(settings, topology).listed():
        text = f"The broker has no topic {topics.dead}, or hides it from this user. `pointsman topics apply` makes it."
        raise NotFoundError(text, code=ErrorCode.NO_TOPIC)
    with foreign_ids(settings, registry, topics) as foreign, DeadTopic(settings, topology) as topic:
        joined = registry if foreign is None else JoinedRegistry(registry, foreign.text)
        codec = Codec(joined, topology.limits.record_bytes_max)
        yield Opened(deployment, topic, Bodies(topics, codec, lambda ids: _settle(foreign, ids)))


def _settle(foreign: ForeignIds | None, ids: Iterable[int]) -> None:
    """Waits until the producers' registry has said what these ids mean, for a while; what it does not know is none."""
    if foreign is None:
        return
    wanted, deadline = set(ids), time.monotonic() + SETTLE_S
    while foreign.unsettled(wanted) and time.monotonic() < deadline:
        time.sleep(SETTLE_POLL_S)
