"""What a host would remember that took an agent over: from any snapshot what the whole log gives: P7. I/O: none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from agents.memory.snapshot import Part, Refused, of_record
from agents.rebuild import Rebuilder, Rebuilt
from schemas.epochs import LogEpochs
from streams.transport.batch import Batch, TopicPartition
from tests.simulation.evidence import Evidence
from tests.simulation.facts import Facts, Found

if TYPE_CHECKING:
    from tests.simulation.run import Run


class Offline:
    """A consumer of what a run has left behind."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def watermarks(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, int]]:
        found = {}
        for topic, number in tps:
            records = self._evidence.records(topic, number)
            found[TopicPartition(topic, number)] = (0, records[-1].offset + 1 if records else 0)
        return found

    def read_to_end(self, starts: Mapping[Any, int], until: Mapping[Any, int]) -> Iterator[Batch]:
        for (topic, number), start in starts.items():
            batch = self._evidence.batch(topic, number, until[topic, number])
            rest = batch.take((batch.offsets >= start).nonzero()[0])
            if len(rest):
                yield rest


def of_memory(run: Run, facts: Facts) -> Found:
    """Of every snapshot that any host has written; and of one with a head that somebody has tampered with."""
    del facts
    evidence, rng = run.evidence, Random(run.scenario.seed)
    offline: Any = Offline(evidence)
    rebuilder = Rebuilder(evidence.topology, evidence.codec, offline, offline)
    wrong = []
    for number in range(evidence.topology.partitions):
        groups: dict[object, list[Part]] = {}
        for record in evidence.records(evidence.topics.snapshots, number):
            part = None if record.value is None else of_record(record.value)
            if part is not None:
                groups.setdefault(part.head, []).append(part)
        for parts in groups.values():
            agent = parts[0].agent_id
            whole = _rebuilt(rebuilder, evidence, agent, number, ())
            begun = _rebuilt(rebuilder, evidence, agent, number, parts)
            if Refused.DIVERGED in dict(begun.found.refused).values():
                wrong.append(f"{agent}[{number}] has a snapshot of what the log does not say")
            if (
                begun.found.snapshot is not None
                and not begun.memory.cold
                and begun.memory.hash() != whole.memory.hash()
            ):
                wrong.append(f"{agent}[{number}] from {begun.found.snapshot.position}")
            moved = [each._replace(log_offset=each.log_offset + rng.choice((-1, 1))) for each in parts]
            if _rebuilt(rebuilder, evidence, agent, number, moved).found.snapshot is not None:
                wrong.append(f"{agent}[{number}] begins with what somebody has changed")
    yield "P7", wrong


def _rebuilt(rebuilder: Rebuilder, evidence: Evidence, agent: str, number: int, parts: Iterable[Part]) -> Rebuilt:
    epochs = LogEpochs()
    for row in evidence.rows(evidence.topics.events(agent), number):
        epochs.note(row.offset, row.fields["epoch"])
    return rebuilder.rebuild(agent, number, epochs, parts)
