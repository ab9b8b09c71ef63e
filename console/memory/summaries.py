"""Makes the history's summaries, as soon as ten interactions are complete and while hosts still show them as they are.

They are the summaries of the fold that hosts use, of the same interactions: nothing is added up at an insert, and what
is stored can be made again and compared. What was revoked is made again without. I/O: ClickHouse, a thread, the clock.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from agents.memory.extractive import VERSION, bounds, summarise
from agents.memory.fold import reach, resolve
from agents.memory.model import CHUNK, SUMMARISED, Interaction, Key, Summary
from agents.memory.ports import Recall
from console.memory.recall import read_so_far
from streams.history.conversation_rows import ConversationKey
from streams.history.conversations import KEYS_MAX
from streams.history.lag import Lag
from streams.history.summaries import StoredSummary, Summaries
from streams.transport.telemetry import get_logger

log = get_logger("pointsman.history")

EVERY_S = 2.0
BEHIND_S = 5.0
"""A history that is behind by more has no time for them: after a start all that it holds is looked through."""

BEHIND_MAX_S = 60.0
"""So long they wait for it at most."""

LATE = timedelta(hours=1)
"""How much older than now an outcome may be that is stored only now; what is older is found when a store starts."""

REACH = SUMMARISED - CHUNK
"""Of how many of the last interactions summaries are made: a state has those of all of them."""

CONVERSATIONS_MAX = 1_000
"""Of one step: a history that has none yet gets them bit by bit."""

REST_S = 60.0
"""How long a conversation is left alone whose submissions are not all stored yet, or no more."""


AGAIN_S = 600.0
"""How often a conversation of which something was revoked is looked at, though all of it was made again: another store
may have put back what it had made before it knew."""


class Maker:
    """`step` makes what is due. One thread at a time."""

    def __init__(
        self,
        recall: Recall,
        summaries: Summaries,
        late: timedelta = LATE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recall, self._summaries, self._late, self._clock = recall, summaries, late, clock
        self._clean: dict[ConversationKey, tuple[frozenset[str], float]] = {}
        self._since = datetime.fromtimestamp(0, UTC)
        self._resting: dict[ConversationKey, float] = {}

    def step(self) -> int:
        """How many summaries were stored. Raises SourceAway, UnreachableError, QueryError."""
        began = datetime.fromtimestamp(time.time(), UTC)
        revoked = self._summaries.revoked()
        made = self._renew(revoked)
        now = time.monotonic()
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        due = self._summaries.due(self._since, VERSION, CHUNK, REACH)
        due = [each for each in due if each[0] not in self._resting]
        for partition, keys in _by_partition(due[:CONVERSATIONS_MAX]):
            for some in _batches(keys):
                made += self._make(partition, some, revoked)
        if len(due) <= CONVERSATIONS_MAX:
            self._since = began - self._late
        return made

    def _make(
        self, partition: int, keys: Sequence[ConversationKey], revoked: Mapping[ConversationKey, frozenset[str]]
    ) -> int:
        stored = {(each.key, each.first): each for each in self._summaries.of(keys) if each.maker == VERSION}
        memories, through = self._recall.recall(partition, [Key(*key) for key in keys])
        rows = [
            row_of(key, summarise(members, first, last))
            for key, remembered in memories.items()
            for first, last, members in complete(
                read_so_far(remembered, through.get(key.agent_id, 0)).interactions, revoked.get((*key,), frozenset())
            )
            if ((*key,), first) not in stored or stored[(*key,), first].members != tuple(each.id for each in members)
        ]
        if rows:
            self._summaries.put(rows)
        until = time.monotonic() + REST_S
        self._resting |= dict.fromkeys(set(keys) - {row.key for row in rows}, until)
        return len(rows)

    def _renew(self, revoked: Mapping[ConversationKey, frozenset[str]]) -> int:
        """Of what stands for something that was revoked: made again where the interactions are still in reach, and rid
        of its lines where they are not."""
        made, now = 0, self._clock()
        # What was found rid of it is asked for seldom: people revoke little, but nothing they revoke is ever forgotten.
        self._clean = {key: held for key, held in self._clean.items() if revoked.get(key) == held[0] and held[1] > now}
        for some in _batches([key for key in revoked if key not in self._clean]):
            spoilt = [each for each in self._summaries.of(some) if revoked[each.key].intersection(each.members)]
            self._clean |= {key: (revoked[key], now + AGAIN_S) for key in {*some} - {each.key for each in spoilt}}
            if not spoilt:
                continue
            places = self._summaries.partitions({each.key for each in spoilt})
            for partition, keys in _by_partition(places.items()):
                made += self._make(partition, keys, revoked)
            left = [
                without(each, revoked[each.key])
                for each in self._summaries.of({each.key for each in spoilt})
                if revoked[each.key].intersection(each.members)
            ]
            if left:
                self._summaries.put(left)
            made += len(left)
        return made


def complete(
    interactions: Iterable[Interaction], revoked: frozenset[str]
) -> Iterator[tuple[int, int, list[Interaction]]]:
    """The chunks that a state still has: their first and last ordinals, and their interactions without those that were
    revoked. One of which not all interactions are there is none."""
    kept = resolve(interactions)
    by_chunk: defaultdict[tuple[int, int], list[Interaction]] = defaultdict(list)
    for each in kept:
        by_chunk[bounds(each.ordinal)].append(each)
    for (first, last), members in by_chunk.items():
        if len(members) == CHUNK and first >= reach(kept[-1].ordinal):
            yield first, last, [each for each in members if each.id not in revoked]


def row_of(key: Key, summary: Summary) -> StoredSummary:
    """A summary of the fold as it is stored."""
    return StoredSummary(
        *key,
        summary.first,
        summary.last,
        summary.kind,
        summary.version,
        tuple(ordinal for ordinal, _ in summary.members),
        summary.ids,
        tuple(line.text for line in summary.lines),
        tuple(line.origins[-1] for line in summary.lines),
        sum(line.tokens for line in summary.lines),
    )


def without(row: StoredSummary, revoked: frozenset[str]) -> StoredSummary:
    """What is left of it; each line names the interaction that it is taken from."""
    members = [at for at, each in enumerate(row.members) if each not in revoked]
    lines = [at for at, each in enumerate(row.origins) if each not in revoked]
    return row._replace(
        ordinals=tuple(row.ordinals[at] for at in members),
        members=tuple(row.members[at] for at in members),
        lines=tuple(row.lines[at] for at in lines),
        origins=tuple(row.origins[at] for at in lines),
    )


def _by_partition(places: Iterable[tuple[ConversationKey, int]]) -> list[tuple[int, list[ConversationKey]]]:
    found: defaultdict[int, list[ConversationKey]] = defaultdict(list)
    for key, partition in places:
        found[partition].append(key)
    return sorted(found.items())


def _batches(keys: Sequence[ConversationKey]) -> Iterable[Sequence[ConversationKey]]:
    return (keys[start : start + KEYS_MAX] for start in range(0, len(keys), KEYS_MAX))


def keep_making(maker: Maker, stop: threading.Event, lag: Lag) -> threading.Thread:
    """A thread that makes them until `stop`, in a quarter of its time at most, and not while the history is behind.
    Whatever fails is tried again; a store does not depend on it."""

    def run() -> None:
        rest_s, ended = EVERY_S, time.monotonic()
        while not stop.wait(rest_s):
            began, rest_s = time.monotonic(), EVERY_S
            if lag.seconds > BEHIND_S and began - ended < BEHIND_MAX_S:
                continue
            try:
                if made := maker.step():
                    log.info("summaries made", summaries=made)
            except Exception as error:  # noqa: BLE001  see above
                log.warning("summaries cannot be made; it is tried again", why=str(error)[:300])
            ended = time.monotonic()
            rest_s = max(EVERY_S, 3 * (ended - began))

    thread = threading.Thread(target=run, name="history-summaries", daemon=True)
    thread.start()
    return thread
