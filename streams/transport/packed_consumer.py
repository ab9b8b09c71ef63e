"""A consumer of whole record batches: librdkafka keeps its place in the group, and what it reads it fetches itself.

librdkafka makes an object of each record, and Python takes it apart again: 1.9 us of the 2.9 that it took to read and
decode one (docs/cost-model.md). Here a fetch's answer stays as the broker has it until it is decoded, all of a channel
together. I/O: Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    NoError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest

from streams.transport.batch import Batch, TopicPartition
from streams.transport.brokers import UNREACHABLE, Brokers
from streams.transport.clients import NotYetError, TransportError, properties_of
from streams.transport.consumer import BatchConsumer
from streams.transport.packed import Pack, Packed, packs_of
from streams.transport.requests import NO_OFFSET
from streams.transport.securing import are_known, security_of
from streams.transport.sender import said_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streams.transport.clients import ConnectionWatch
    from streams.transport.consumer import AssignCallback, RebalanceCallback
    from streams.transport.requests import TP

log = logging.getLogger("pointsman.kafka")

FETCH_BYTES_MAX: Final = 4_000_000
"""Of an answer, compressed; more only where one record batch is larger."""
PARTITION_BYTES_MAX: Final = 1_048_576

REFRESH_S: Final = 5.0
"""How long a broker has to say who leads what; no rebalance is served meanwhile."""

_READ_COMMITTED: Final = 1
_NO_RACK: Final = ""
_BACKOFF_S, _BACKOFF_MAX_S = 0.05, 1.0
_REFUSALS: Final = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)
_KNOWN: Final = properties_of("consumer") | {
    *("group.id", "group.instance.id", "auto.offset.reset", "fetch.min.bytes", "fetch.wait.max.ms"),
    "statistics.interval.ms",
}


def can_fetch(config: Mapping[str, Any]) -> bool:
    """Whether this consumer does what these librdkafka properties say; where not, `BatchConsumer` does."""
    return (
        are_known(config, _KNOWN)
        and config["isolation.level"] == "read_committed"
        and config["auto.offset.reset"] == "earliest"
    )


class PackedConsumer:
    """As `BatchConsumer` in a group, but that channels in `packed` come as `Packed`; the others, record by record.

    `config` comes from `client_config(..., "consumer", group=...)`, and `can_fetch` it. One thread uses it.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        channel_of: Callable[[str], str],
        packed: frozenset[str],
        *,
        rows_max: int,
        poll_s: float,
    ) -> None:
        # It keeps the place in the group, and reads nothing.
        self._group = BatchConsumer(config, channel_of, rows_max=1, bytes_max=FETCH_BYTES_MAX, poll_s=poll_s)
        self._channel_of, self._packed = channel_of, packed
        self._rows_max, self._poll_s = rows_max, poll_s
        self._fetches = Fetches(config, self._group.watch)
        self._unplaced: list[TopicPartition] = []

    def subscribe(
        self,
        topics: Iterable[str],
        *,
        on_assign: AssignCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
    ) -> None:
        """Join the group; as `BatchConsumer.subscribe`."""

        def assigned(partitions: list[TopicPartition]) -> None:
            self._group.assign({})  # the place in the group is kept, and nothing is fetched
            self._fetches.drop_all()
            self._unplaced = list(partitions)
            begin = on_assign(partitions) if on_assign else None
            if begin is not None:
                self._fetches.begin(begin.offsets)
                self._unplaced = [tp for tp in partitions if tp not in begin.offsets]
                self.pause(begin.paused)

        def revoked(partitions: list[TopicPartition]) -> None:
            if on_revoke:
                on_revoke(partitions)
            self._fetches.drop_all()
            self._unplaced = []

        self._group.subscribe(topics, on_assign=assigned, on_revoke=revoked)

    def assignment(self) -> list[TopicPartition]:
        return [*self._unplaced, *self._fetches.positions]

    def poll(self) -> list[Batch | Packed]:
        """What arrived within `poll_s`, one item or more for each channel, or nothing.

        Raises TransportError when the consumer cannot go on (access denied, a fatal error).
        """
        began = time.monotonic()
        self._group.poll(0.0)
        self._place()
        packs = self._fetches.wait(max(0.0, self._poll_s - (time.monotonic() - began)))
        self._reset(self._fetches.out_of_range())
        return list(self._by_channel(packs))

    def _place(self) -> None:
        """Where reading begins: behind what is committed, else with what the log begins with. While nobody says where
        that is, it does not begin.
        """
        if not self._unplaced:
            return
        try:
            found = {tp: offset for tp, (offset, _) in self._group.committed(self._unplaced).items()}
            lows = self._group.watermarks([tp for tp, offset in found.items() if offset == NO_OFFSET])
        except NotYetError as error:
            log.info("%s; it is asked again", error)
            return
        self._fetches.begin(found | {tp: low for tp, (low, _) in lows.items()})
        self._unplaced = []

    def _reset(self, tps: Sequence[TopicPartition]) -> None:
        """Read these from the first record that is left. Those of which nobody says where that is are told again."""
        try:
            lows = self._group.watermarks(tps)
        except NotYetError as error:
            log.info("%s; it is asked again", error)
            return
        self._fetches.begin({tp: low for tp, (low, _) in lows.items()})

    def _by_channel(self, packs: Iterable[Pack]) -> Iterator[Batch | Packed]:
        channels: dict[str, list[Pack]] = {}
        for pack in packs:
            channels.setdefault(self._channel_of(pack.tp.topic), []).append(pack)
        for channel, own in channels.items():
            for part in cut(own, self._rows_max):
                packed = Packed(channel, part)
                yield packed if channel in self._packed else packed.unpacked()

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        self._fetches.paused |= {TopicPartition(*tp) for tp in tps}

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        self._fetches.paused -= {TopicPartition(*tp) for tp in tps}

    def commit(self, positions: Mapping[TP, tuple[int, str]]) -> None:
        """As `BatchConsumer.commit`."""
        self._group.commit(positions)

    def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not yet read, of what is assigned; as of the last fetch, nothing is asked."""
        return self._fetches.lag()

    def partitions_of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """As `BatchConsumer.partitions_of`."""
        return self._group.partitions_of(topics)

    def close(self, timeout_s: float) -> None:
        """Leave the group; as `BatchConsumer.close`."""
        self._fetches.close()
        self._group.close(timeout_s)


class Fetches:
    """One request under way to each broker, for all that it leads of `positions` and that is not in `paused`.

    Its event loop runs while somebody waits; what arrives meanwhile, for the next request is made with each answer, is
    taken then.
    """

    def __init__(self, config: Mapping[str, Any], watch: ConnectionWatch) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.paused: frozenset[TopicPartition] | set[TopicPartition] = set()
        self._ends: dict[TopicPartition, int] = {}
        self._lost: list[TopicPartition] = []
        self._loop = asyncio.new_event_loop()
        timeout_s = int(config["socket.timeout.ms"]) / 1000
        self._wait_ms, self._bytes_min = int(config["fetch.wait.max.ms"]), int(config["fetch.min.bytes"])
        self._brokers = self._loop.run_until_complete(_opened(config, timeout_s))
        self._watch, self._is_stale, self._backoff_s = watch, True, _BACKOFF_S
        self._requests: dict[int, asyncio.Task[tuple[dict[TopicPartition, int], Any]]] = {}

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from there."""
        self._is_stale |= not positions.keys() <= self.positions.keys()
        self.positions.update(positions)

    def drop_all(self) -> None:
        """Nothing is read any more; what is under way is not taken."""
        self.positions.clear()
        self._ends.clear()
        self.paused = set()

    def out_of_range(self) -> list[TopicPartition]:
        """Those whose position the log has no longer; each is told once."""
        lost, self._lost = self._lost, []
        return [tp for tp in lost if tp in self.positions]

    def lag(self) -> dict[TopicPartition, int]:
        return {tp: max(0, end - self.positions[tp]) for tp, end in self._ends.items() if tp in self.positions}

    def wait(self, timeout_s: float) -> list[Pack]:
        """What came within `timeout_s`, or a little later. Raises TransportError for what no waiting mends."""
        return self._loop.run_until_complete(self._wait(timeout_s))

    async def _wait(self, timeout_s: float) -> list[Pack]:
        try:
            if self._is_stale and self.positions:
                await asyncio.wait_for(self._brokers.refresh({tp.topic for tp in self.positions}), REFRESH_S)
                self._is_stale = False
            self._ask()
        except UNREACHABLE:
            await self._back_off(timeout_s)
            return []
        if not self._requests:
            await asyncio.sleep(timeout_s)
            return []
        done, _ = await asyncio.wait(self._requests.values(), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        found: list[Pack] = []
        for node in [node for node, request in self._requests.items() if request in done]:
            try:
                asked, answer = self._requests.pop(node).result()
            except UNREACHABLE:
                await self._back_off(timeout_s)
            else:
                self._watch.up()
                self._backoff_s = _BACKOFF_S
                found += self._taken(asked, answer)
        if found and not self._is_stale:
            # The broker gets the next answer ready while this one is decoded; once the loop has run it is asked.
            self._ask()
            await asyncio.sleep(0)
        if self._is_stale and not found:
            await asyncio.sleep(min(_BACKOFF_S, timeout_s))
        return found

    def _ask(self) -> None:
        by_node: dict[int, dict[TopicPartition, int]] = {}
        for tp, position in self.positions.items():
            node = self._brokers.leader(tp)
            if node is None:
                self._is_stale = True
            elif tp not in self.paused and node not in self._requests:
                by_node.setdefault(node, {})[tp] = position
        for node, asked in by_node.items():
            self._requests[node] = self._loop.create_task(self._fetch(node, asked))

    async def _fetch(self, node: int, asked: dict[TopicPartition, int]) -> tuple[dict[TopicPartition, int], Any]:
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for tp, position in asked.items():
            topics.setdefault(tp.topic, []).append((tp.partition, position, PARTITION_BYTES_MAX))
        limits = self._wait_ms, self._bytes_min, FETCH_BYTES_MAX, _READ_COMMITTED
        return asked, await self._brokers.send(node, FetchRequest(*limits, list(topics.items()), rack_id=_NO_RACK))

    def _taken(self, asked: Mapping[TopicPartition, int], answer: Any) -> list[Pack]:
        """What of an answer is still wanted; reading goes on behind it."""
        found: list[Pack] = []
        for topic, partitions in answer.topics:
            for partition, code, _, stable, *_, aborted, _, data in partitions:
                tp, error = TopicPartition(topic, partition), for_code(code)
                if self.positions.get(tp) != asked[tp] or tp in self.paused:
                    continue
                if error is OffsetOutOfRangeError:
                    self._lost.append(tp)
                elif error in _REFUSALS:
                    raise TransportError(f"the consumer cannot go on: {topic}: {said_of(error)}")
                elif error is not NoError:
                    log.debug("%s[%d]: %s", topic, partition, said_of(error))
                    self._is_stale = True
                else:
                    self._ends[tp] = stable
                    found += self._unpacked(tp, data or b"", aborted)
        return found

    def _unpacked(self, tp: TopicPartition, data: bytes, aborted: Iterable[tuple[int, int]] | None) -> list[Pack]:
        try:
            packs, position = packs_of(tp, data, self.positions[tp], aborted)
        except ValueError as error:
            raise TransportError(f"the consumer cannot go on: {tp.topic}[{tp.partition}] holds {error}") from error
        if position != self.positions[tp]:
            # Behind all others, so that each has its turn where an answer has room for some alone.
            del self.positions[tp]
            self.positions[tp] = position
        return packs

    async def _back_off(self, timeout_s: float) -> None:
        self._watch.down()
        self._is_stale = True
        await asyncio.sleep(min(self._backoff_s, timeout_s))
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MAX_S)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for request in self._requests.values():
            request.cancel()
        await asyncio.gather(*self._requests.values(), return_exceptions=True)
        self._brokers.close()


async def _opened(config: Mapping[str, Any], timeout_s: float) -> Brokers:
    return Brokers(config, security_of(config), timeout_s)


def cut(packs: Sequence[Pack], rows_max: int) -> Iterator[list[Pack]]:
    """The packs in their order, in parts of at most `rows_max` records, or one pack."""
    part: list[Pack] = []
    rows = 0
    for pack in packs:
        if part and rows + pack.rows > rows_max:
            yield part
            part, rows = [], 0
        part.append(pack)
        rows += pack.rows
    if part:
        yield part
