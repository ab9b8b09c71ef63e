"""An agent's memories out of its topics: the newest snapshot that holds, and what its inbox and log say after it.

Whoever takes the log over does this, and whoever owns it does it again now and then, to write the next snapshot: what
it makes is a function of the log up to a position, of nothing that only this host knows. I/O: Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agents.logrecall import LogRecall, interaction_of
from agents.memory.model import Diverged, Interaction, Key, Summary
from agents.memory.rebuild import Rebuild
from agents.memory.snapshot import Found, Part, Position, Refused, Snapshot, newest, of_record
from agents.questions import Question, Questions, questions_in
from agents.recognition import AttemptId
from schemas.codec import Codec
from schemas.epochs import Epochs, LogEpochs
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.consumer import BatchConsumer

SLACK_US = 60_000_000
"""How much later than its question another one may have been routed that stands before it in the inbox."""


@dataclass(frozen=True)
class Rebuilt:
    """What was made of a log up to `position`, from which snapshot, and how many interactions came after it. `is_left`:
    nothing was, for it was too long."""

    memory: Rebuild
    position: Position
    found: Found
    events: int
    read_bytes: int
    seconds: float
    is_left: bool = False

    def snapshot(self, agent_id: str, partition: int, epoch: int, version: str, states_max: int) -> Snapshot:
        """The next one, of the conversations that were used last."""
        states = self.memory.state_bytes()
        kept = dict(list(states.items())[-states_max:])
        return Snapshot(agent_id, partition, epoch, self.position, kept, version)


class _Asked:
    """What was asked, read as far as the log asks for it, and forgotten once it is answered."""

    def __init__(self, batches: Iterator[Sequence[Question]]) -> None:
        self._batches = batches
        self._held = Questions()
        self._read_until_us = 0

    def of(self, attempt: AttemptId, conversation_id: str, routed_at: int) -> Question | None:
        """None of what is not in the inbox any more, or was answered before."""
        said = attempt, conversation_id, routed_at
        while self._read_until_us < routed_at + SLACK_US and not self._held.has(*said):
            batch = next(self._batches, None)
            if batch is None:
                break
            for each in batch:
                self._held.add(each)
            self._read_until_us = max(each.routed_at for each in batch)
        found = self._held.of(*said)
        if found is not None:
            self._held.forget(found)
        return found


class Rebuilder:
    """Used in one thread, with a codec and consumers of its own, which are in no group."""

    def __init__(self, topology: Topology, codec: Codec, inbox: BatchConsumer, log: BatchConsumer) -> None:
        self._codec, self._inbox, self._log = codec, inbox, log
        self._events = LogRecall(topology, codec, log)
        self._topics = topology.topics()
        self._read_bytes = 0

    def parts(self, partition: int) -> dict[str, dict[bytes, Part]]:
        """The records of all snapshots of this partition number, by agent and key; what is none is passed over."""
        tp = TopicPartition(self._topics.snapshots, partition)
        marks = self._log.watermarks([tp])
        latest: dict[bytes | None, Part | None] = {}
        for batch in self._log.read_to_end({tp: marks[tp][0]}, {tp: marks[tp][1]}):
            for key, value in zip(batch.keys, batch.values, strict=True):
                latest[key] = None if value is None else of_record(value)
        found: dict[str, dict[bytes, Part]] = {}
        for key, part in latest.items():
            if part is not None and key is not None:
                found.setdefault(part.agent_id, {})[key] = part
        return found

    def rebuild(
        self,
        agent_id: str,
        partition: int,
        epochs: LogEpochs,
        parts: Iterable[Part],
        done: int | None = None,
        limit: int | None = None,
    ) -> Rebuilt:
        """All that is in the log by now. Raises TransportError where the topics cannot be read.

        `epochs`: what is known of the log's claims. `parts`: of its snapshots. `done`: a position of the inbox before
        which every outcome was in the log when this was called. `limit`: where more events than that would have to be
        read, none are. A snapshot that the log contradicts is refused, and the next older one tried.
        """
        began, self._read_bytes = time.monotonic(), 0
        inbox = TopicPartition(self._topics.inbox(agent_id), partition)
        log = TopicPartition(self._topics.events(agent_id), partition)
        # The log first: every outcome in it is of a dispatch that the inbox has by then.
        low, end = self._log.watermarks([log])[log]
        inbox_low, inbox_end = self._inbox.watermarks([inbox])[inbox]
        left, contradicted = list(parts), list[tuple[Part, Refused]]()
        while True:
            found = newest(left, agent_id, partition, epochs, range(low, end))
            start = Position(inbox_low, low) if found.snapshot is None else found.snapshot.position
            is_left = limit is not None and end - start.log > limit
            memory = Rebuild(None if is_left else found.snapshot)
            asked = _Asked(self._questions(inbox, max(start.inbox, inbox_low), inbox_end))
            try:
                if not is_left:
                    self._take(memory, self._events_of(agent_id, log, start.log, end, epochs, asked))
                break
            except Diverged:
                assert found.head is not None, "the log alone contradicts nothing"
                contradicted.append((found.head, Refused.DIVERGED))
                left = [each for each in left if each.head != contradicted[-1][0].head]
        found = found._replace(refused=(*contradicted, *found.refused))
        position = start if is_left else Position(start.inbox if done is None else max(done, start.inbox), end)
        seconds = time.monotonic() - began
        return Rebuilt(memory, position, found, memory.taken, self._read_bytes, seconds, is_left)

    @staticmethod
    def _take(memory: Rebuild, events: Iterable[tuple[Key, Interaction | Summary]]) -> None:
        for key, each in events:
            if isinstance(each, Summary):
                memory.take_model(key, each)
            else:
                memory.take(each)

    def _questions(self, inbox: TopicPartition, start: int, end: int) -> Iterator[Sequence[Question]]:
        for batch in self._inbox.read_to_end({inbox: start}, {inbox: end}):
            self._read_bytes += 2 * sum(map(len, filter(None, batch.values)))  # its outcome is about as long
            if found := list(questions_in(self._codec, batch)):
                yield found

    def _events_of(
        self, agent_id: str, log: TopicPartition, start: int, end: int, epochs: LogEpochs, asked: _Asked
    ) -> Iterator[tuple[Key, Interaction | Summary]]:
        for key, done in self._events.events(agent_id, log, (start, end), Epochs({log: epochs})):
            if isinstance(done, Summary):
                if done.place is None or done.place.offset < end:
                    yield key, done
            elif done.place.offset < end:
                question = asked.of(done.attempt, key.conversation_id, done.routed_at)
                if question is not None:
                    yield key, interaction_of(key, done, question.text, None)
