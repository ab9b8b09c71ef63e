"""Fetches of whole record batches from all brokers that lead what is read.

I/O: Kafka.
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

from streams.transport.batch import TopicPartition
from streams.transport.brokers import UNREACHABLE, Brokers
from streams.transport.clients import TransportError, properties_of
from streams.transport.fetch_wire import Fetch
from streams.transport.packed import Pack, packs_of
from streams.transport.securing import are_known, security_of
from streams.transport.sender import said_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.transport.clients import ConnectionWatch

log = logging.getLogger("pointsman.kafka")

FETCH_BYTES_MAX: Final = 4_000_000
"""Of an answer, compressed; more only where one record batch is larger."""
PARTITION_BYTES_MAX: Final = 1_048_576

REFRESH_S: Final = 5.0
"""How long a broker has to say who leads what; no rebalance is served meanwhile."""

_READ_COMMITTED: Final = 1
_BACKOFF_S, _BACKOFF_MAX_S = 0.05, 1.0
_REFUSALS: Final = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)
_KNOWN: Final = properties_of("consumer") | {
    *("group.id", "group.instance.id", "auto.offset.reset", "fetch.min.bytes", "fetch.wait.max.ms"),
    "statistics.interval.ms",
}


def can_fetch(config: Mapping[str, Any], reset: str = "earliest") -> bool:
    """Whether `Fetches` do what these librdkafka properties say, where a position that is gone means `reset`."""
    return (
        are_known(config, _KNOWN)
        and config.get("isolation.level") == "read_committed"
        and config.get("auto.offset.reset") == reset
    )


class Fetches:
    """One request under way to each broker, for all that it leads of `positions` and that is not in `paused`.

    Its event loop runs while somebody waits. `ahead`: the next request is made with each answer, and what arrives
    meanwhile is taken then.
    """

    def __init__(self, config: Mapping[str, Any], watch: ConnectionWatch, *, ahead: bool = True) -> None:
        self.ahead = ahead
        self.positions: dict[TopicPartition, int] = {}
        self.paused: frozenset[TopicPartition] = frozenset()
        self._ends: dict[TopicPartition, int] = {}
        self._bare: dict[TopicPartition, int] = {}
        self._lost: list[TopicPartition] = []
        self._loop = asyncio.new_event_loop()
        timeout_s = int(config["socket.timeout.ms"]) / 1000
        self._wait_ms, self._bytes_min = int(config["fetch.wait.max.ms"]), int(config["fetch.min.bytes"])
        self._brokers = Brokers(config, security_of(config), timeout_s)
        self._watch, self._is_stale, self._backoff_s = watch, True, _BACKOFF_S
        self._look_at = self._retry_at = 0.0
        self._requests: dict[int, asyncio.Task[tuple[dict[TopicPartition, int], Any]]] = {}
        # Brokers that are to answer at once, and those that have, with nothing: these may then take their time, while
        # others have not answered yet, for else they would be asked over and over.
        self._prompt: set[int] = set()
        self._empty: set[int] = set()

    def begin(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these from there."""
        self._is_stale |= not positions.keys() <= self.positions.keys()
        self.positions.update(positions)

    def drop_all(self) -> None:
        """Nothing is read any more, and nothing rests; what is under way is not taken."""
        self.positions.clear()
        self._ends.clear()
        self._bare.clear()
        self.paused = frozenset()
        self._hang_up()

    def pause_only(self, tps: frozenset[TopicPartition]) -> None:
        """Read all but these. What is to be read again is asked for at once, whatever is under way for the others."""
        is_wanted = not self.paused <= tps
        self.paused = tps
        if is_wanted:
            self._hang_up()

    def out_of_range(self) -> list[TopicPartition]:
        """Those whose position the log has no longer; each is told once."""
        lost, self._lost = self._lost, []
        return [tp for tp in lost if tp in self.positions]

    def lag(self) -> dict[TopicPartition, int]:
        return {tp: max(0, end - self.positions[tp]) for tp, end in self._ends.items() if tp in self.positions}

    def at_end(self) -> dict[TopicPartition, int]:
        """Of those that are read as far as they are committed, by what was last heard of each: where that is."""
        places = {tp: max(at, self._bare.get(tp, at)) for tp, at in self.positions.items() if tp in self._ends}
        return {tp: at for tp, at in places.items() if at >= self._ends[tp]}

    @property
    def has_prompt(self) -> bool:
        """Whether a broker has yet to answer that is to do so at once."""
        return bool(self._prompt)

    def wait(self, timeout_s: float, *, at_once: bool = False) -> list[Pack]:
        """What came within `timeout_s`, or a little later. Raises TransportError for what no waiting mends.

        `at_once`: brokers that are asked now are to say what they have, if only that it is nothing.
        """
        return self._loop.run_until_complete(self._wait(timeout_s, at_once))

    async def _wait(self, timeout_s: float, at_once: bool) -> list[Pack]:
        if not await self._has_leaders(timeout_s):
            return []
        self._ask(at_once)
        if not self._requests:
            await asyncio.sleep(timeout_s)
            return []
        done, _ = await asyncio.wait(self._requests.values(), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        found: list[Pack] = []
        for node in [node for node, request in self._requests.items() if request in done]:
            try:
                asked, answer = self._requests.pop(node).result()
            except UNREACHABLE:
                self._is_stale = True  # whether anybody answers is seen when it is asked who leads now
            else:
                self._watch.up()
                self._backoff_s = _BACKOFF_S
                taken = self._taken(asked, answer)
                if node in self._prompt and not taken:
                    self._empty.add(node)
                found += taken
            self._prompt.discard(node)
        if found:
            self._empty.clear()
        if found and self.ahead and not self._is_stale:
            # The broker gets the next answer ready while this one is decoded; once the loop has run it is asked.
            self._ask()
            await asyncio.sleep(0)
        if self._is_stale and not found:
            await asyncio.sleep(min(_BACKOFF_S, timeout_s))
        return found

    async def _has_leaders(self, timeout_s: float) -> bool:
        """Whether it is known who leads what, or somebody has said so now."""
        if (rest_s := self._retry_at - time.monotonic()) > 0:
            await asyncio.sleep(min(rest_s, timeout_s))
            if rest_s > timeout_s:
                return False
        if self._is_stale and self.positions and time.monotonic() >= self._look_at:
            topics = {tp.topic for tp in self.positions}
            try:
                await asyncio.wait_for(self._brokers.refresh(topics), REFRESH_S)
            except UNREACHABLE as raised:
                self._back_off(raised)
                return False
            self._is_stale, self._look_at = False, time.monotonic() + _BACKOFF_S
            if forbidden := topics & self._brokers.forbidden:
                why = said_of(TopicAuthorizationFailedError)
                raise TransportError(f"the consumer cannot go on: {min(forbidden)}: {why}")
        return True

    def _ask(self, at_once: bool = False) -> None:
        if not at_once:
            self._empty.clear()
        by_node: dict[int, dict[TopicPartition, int]] = {}
        for tp, position in self.positions.items():
            node = self._brokers.leader(tp)
            if node is None:
                self._is_stale = True
            elif tp not in self.paused and node not in self._requests:
                by_node.setdefault(node, {})[tp] = position
        for node, asked in by_node.items():
            is_prompt = at_once and node not in self._empty
            if is_prompt:
                self._prompt.add(node)
            self._requests[node] = self._loop.create_task(self._fetch(node, asked, is_prompt))

    async def _fetch(
        self, node: int, asked: dict[TopicPartition, int], at_once: bool
    ) -> tuple[dict[TopicPartition, int], Any]:
        topics: dict[str, list[tuple[int, int, int]]] = {}
        for tp, position in asked.items():
            topics.setdefault(tp.topic, []).append((tp.partition, position, PARTITION_BYTES_MAX))
        limits = 0 if at_once else self._wait_ms, self._bytes_min, FETCH_BYTES_MAX, _READ_COMMITTED
        return asked, await self._brokers.send(node, Fetch(*limits, list(topics.items())))

    def _taken(self, asked: Mapping[TopicPartition, int], answer: Any) -> list[Pack]:
        """What of an answer is still wanted; reading goes on behind it."""
        found: list[Pack] = []
        # Else there may have been no room for some.
        is_all = not any(data for _, partitions in answer.topics for *_, data in partitions)
        for topic, partitions in answer.topics:
            for partition, code, _, stable, *_, aborted, _, data in partitions:
                tp = TopicPartition(topic, partition)
                if self.positions.get(tp) != asked[tp] or tp in self.paused:
                    continue
                error = for_code(code)
                if error is OffsetOutOfRangeError:
                    self._lost.append(tp)
                elif error in _REFUSALS:
                    raise TransportError(f"the consumer cannot go on: {topic}: {said_of(error)}")
                elif error is not NoError:
                    log.debug("%s[%d]: %s", topic, partition, said_of(error))
                    self._is_stale = True
                else:
                    self._ends[tp] = stable
                    if is_all:
                        self._bare[tp] = stable  # whatever was before that was compacted away
                    if data:
                        found += self._unpacked(tp, data, aborted)
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

    def _hang_up(self) -> None:
        """Nobody waits for what is under way: a connection answers one request after the other."""
        if self._requests:
            for node in self._requests:
                self._brokers.hang_up(node)
            self._loop.run_until_complete(self._cancel())

    async def _cancel(self) -> None:
        requests = list(self._requests.values())
        for each in (self._requests, self._prompt, self._empty):
            each.clear()
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)

    def _back_off(self, why: Exception) -> None:
        self._watch.down(str(why) or type(why).__name__)
        self._retry_at = time.monotonic() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MAX_S)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        await self._cancel()
        self._brokers.close()
