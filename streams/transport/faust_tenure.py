"""Who owns which partitions when: takes assignments through recovery into reading, and through the last cut out again.

I/O: Kafka, through the reader's consumer.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import confluent_kafka as ck

from streams.transport.batch import TopicPartition
from streams.transport.clients import CommitRejectedError, HangingTransactionError, NotYetError, TransportError
from streams.transport.faust_handover import Handed
from streams.transport.faust_options import DriverOptions
from streams.transport.faust_reader import Reader
from streams.transport.requests import commit, committed, watermarks

T = TypeVar("T")

log = logging.getLogger("pointsman.kafka")

REVOKE_TIMEOUT_S = 5.0
# More than a transaction's own time-out and the time until a broker notices it, which looks for them each 10 s.
STABLE_TIMEOUT_S = 45.0
_STABLE_SLICE_S = 2.0
_LOST_TIMEOUT_S = 2.0
_CANCEL_TIMEOUT_S = 1.0
# Everything above, once. Well below `max.poll.interval.ms`, which bounds the whole group's rebalance.
_END_TIMEOUT_S = REVOKE_TIMEOUT_S + _LOST_TIMEOUT_S + 3 * _CANCEL_TIMEOUT_S


class Flow(Protocol):
    """Faust's part in an assignment; awaited on the event loop, one at a time."""

    async def open(self, tps: set[TopicPartition], generation: int) -> None:
        """Returns once batches of this generation, and of no other, reach the processors."""

    async def shut(self, tps: set[TopicPartition]) -> None:
        """Returns once no further batch can reach a processor."""


@dataclass(frozen=True)
class Tenure:
    """One assignment, from the callback that brings the partitions to the return of the hook that lets them go."""

    generation: int
    membership: Any
    partitions: list[int]
    tps: set[TopicPartition]
    routed: asyncio.Task[None]
    recovered: asyncio.Task[Mapping[tuple[str, int], int]]


class Driver:
    """Commits, positions and pauses of an app; `open` it on the event loop that everything of it runs on.

    Commits are refused outside of a tenure: before `on_assigned` begins, after `on_revoked` ends, from `on_lost` on.
    """

    def __init__(self, options: DriverOptions) -> None:
        self._options = options
        self._loop: asyncio.AbstractEventLoop
        self._reader: Reader | None = None
        self._flow: Flow
        self._tenure: Tenure | None = None
        self._going_live: asyncio.Task[None] | None = None
        self._may_commit = False
        self._revoke_timeout_s, self._leaves_at = REVOKE_TIMEOUT_S, math.inf
        self.failed: asyncio.Future[BaseException]
        self._ended = asyncio.Event()

    @property
    def is_down(self) -> bool:
        """Whether no broker can be reached, or nobody would have heard of that."""
        return self._reader is not None and (self._reader.watch.is_down or self._reader.is_blind)

    @property
    def revoke_s(self) -> float:
        """How long giving partitions up may take now: less, where the app is to end."""
        return max(0.0, min(REVOKE_TIMEOUT_S, self._leaves_at - self._loop.time()))

    def mark_up(self) -> None:
        """A broker has answered somebody else: `is_down` no longer holds. Any thread."""
        self._started().watch.up()

    async def commit(self, positions: Mapping[tuple[str, int], tuple[int, str]]) -> None:
        """Commit next offsets with metadata, and wait for the answer.

        Raises CommitRejectedError when the partitions are not ours, CommitUnavailableError when nobody answers,
        TransportError for what no waiting mends.
        """
        tenure = self._tenure

        def request(consumer: ck.Consumer) -> None:
            # Judged in the reader's thread, where partitions go: librdkafka would send it with whatever generation
            # it then has, and the broker does not compare partitions.
            self._require_ours(tenure, positions)
            commit(consumer, positions, self._options.config)

        await self._ask(request)

    def membership(self, tps: Iterable[tuple[str, int]]) -> Any:
        """For a transaction that commits positions of these: the broker compares the generation that it stands for.

        Raises CommitRejectedError when they are not ours.
        """
        tenure = self._tenure
        self._require_ours(tenure, tps)
        assert tenure is not None, "it was just required"
        return tenure.membership

    def _require_ours(self, tenure: Tenure | None, tps: Iterable[tuple[str, int]]) -> None:
        owned = tenure.tps if tenure is not None and tenure is self._tenure and self._may_commit else set()
        if tenure is None or not owned.issuperset(tps):
            raise CommitRejectedError(f"not ours to commit: {sorted({*tps} - owned)[:3]}")

    async def committed(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, tuple[int, str]]:
        """Committed next offset and metadata of each; (-1001, "") where nothing is committed.

        Waits while positions are in a transaction that has not ended: that of a former owner who was killed.

        Raises NotYetError where nobody answers for too long, HangingTransactionError where only this is not answered.
        """
        wanted, deadline = list(tps), self._loop.time() + STABLE_TIMEOUT_S
        while True:
            try:
                # In slices, for no rebalance is served meanwhile.
                return await self._ask(lambda consumer: committed(consumer, wanted, _STABLE_SLICE_S))
            except NotYetError as error:
                if self._loop.time() > deadline:
                    await self._ask(lambda consumer: watermarks(consumer, wanted[:1]))  # raises where nobody answers
                    raise HangingTransactionError(
                        f"{error}, though it does for others: positions of the group are in a transaction that is long "
                        "over, and that the broker neither commits nor aborts. An operator can end it: "
                        "kafka-transactions.sh find-hanging says where it begins in __consumer_offsets"
                    ) from error

    async def lag(self) -> dict[TopicPartition, int]:
        """Records appended and not read, of each topic-partition that was read from, as of the last fetch."""
        return await asyncio.wrap_future(self._started().lag())

    def pause(self, tps: Iterable[tuple[str, int]]) -> None:
        """Read no more from these, in later assignments too. What was read before still comes. Any thread."""
        self._started().pause(tps)

    def resume(self, tps: Iterable[tuple[str, int]]) -> None:
        """Read on from where `pause` stopped. Any thread."""
        self._started().resume(tps)

    async def next_batch(self) -> Handed:
        return await self._started().handover.get()

    def open(self) -> None:
        """Bind to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.failed = self._loop.create_future()

    @property
    def is_started(self) -> bool:
        return self._reader is not None

    def start(self, flow: Flow, topics: frozenset[str]) -> None:
        """Join the group and read, in a thread; `topics` are those that processors take."""
        read = {self._options.anchor, *self._options.mirrors}
        if topics != read:
            raise TransportError(f"read by no processor, or by the processors alone: {sorted(topics ^ read)[:3]}")
        self._flow = flow
        self._reader = Reader(self._options, self, self._loop)
        self._reader.start()

    def fail(self, error: BaseException) -> None:
        """The app must end with this error; the first one counts. On the event loop."""
        self._may_commit = False
        if not self.failed.done():
            self.failed.set_result(error)

    async def leave(self, *, clean: bool, timeout_s: float) -> None:
        """Give the partitions back (only when `clean`), leave the group, end the reader; `timeout_s` at most."""
        if self._reader is None:
            return
        # Half for the hook: cancelling it, `on_lost` and closing want the rest.
        self._revoke_timeout_s, self._leaves_at = timeout_s / 2, self._loop.time() + timeout_s
        if not clean:
            self._drop()
        self._reader.stop(clean=clean)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), timeout_s)
        if not self._ended.is_set():
            log.warning("the consumer did not leave its group within %.1f s and is left behind", timeout_s)
        self._drop()

    def _drop(self) -> None:
        """Nothing of the tenure goes on."""
        tenure, self._tenure, self._may_commit = self._tenure, None, False
        if tenure is not None:
            tenure.recovered.cancel()
            tenure.routed.cancel()

    # --- the reader's owner: called in its thread -------------------------------------------------------------------

    def begin(self, generation: int, membership: Any, partitions: list[int]) -> None:
        self._loop.call_soon_threadsafe(self._begin, generation, membership, partitions)

    def end(self, *, lost: bool) -> None:
        """Runs inside librdkafka's callback: the group waits for us until it returns."""
        ending = asyncio.run_coroutine_threadsafe(self._end(lost=lost), self._loop)
        if not self._started().answer_until(ending, _END_TIMEOUT_S):
            self._may_commit = False
            ending.cancel()
            raise TransportError(f"partitions were not given back within {_END_TIMEOUT_S:.0f} s")
        ending.result()

    def reader_failed(self, error: BaseException) -> None:
        self._tell(lambda: self.fail(error))

    def reader_ended(self) -> None:
        self._tell(self._ended.set)

    def _tell(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(what)

    # --- on the event loop ------------------------------------------------------------------------------------------

    def _begin(self, generation: int, membership: Any, partitions: list[int]) -> None:
        topics = (self._options.anchor, *self._options.mirrors)
        tps = {TopicPartition(topic, number) for topic in topics for number in partitions}
        log.info("partitions assigned: %s", partitions)
        self._may_commit = not self.failed.done()
        tenure = self._tenure = Tenure(
            generation,
            membership,
            partitions,
            tps,
            routed=self._loop.create_task(self._flow.open(tps, generation)),
            recovered=self._loop.create_task(_mapping(self._options.hooks.on_assigned(list(partitions)))),
        )
        self._going_live = self._loop.create_task(self._go_live(tenure))

    async def _go_live(self, tenure: Tenure) -> None:
        """Read once Faust's flow has resumed and the hook has said from where."""
        both: set[asyncio.Task[Any]] = {tenure.routed, tenure.recovered}
        await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        for task in both:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                self.fail(error)
        if self.failed.done() or any(task.cancelled() for task in both):
            return
        positions = tenure.recovered.result()
        wrong = {tp for tp in positions.keys() | tenure.tps if tp not in tenure.tps or positions.get(tp, -1) < 0}
        if wrong:
            self.fail(TransportError(f"on_assigned gave no position, or one too many: {sorted(wrong)[:3]}"))
            return
        self._started().go_live(tenure.generation, positions)

    async def _end(self, *, lost: bool) -> None:
        """The hooks see one thing after the other: recovery over or cancelled, no more batches, then the last turn."""
        tenure, going_live = self._tenure, self._going_live
        if tenure is None or going_live is None:
            return
        self._may_commit = self._may_commit and not lost
        tenure.recovered.cancel()
        # Faust resumes the flow of an assignment some time after it: shut earlier, and it would open again behind us.
        await asyncio.wait({tenure.recovered, tenure.routed, going_live})
        await self._flow.shut(tenure.tps)
        if tenure.partitions:
            log.info("partitions %s: %s", "lost" if lost else "revoked", tenure.partitions)
        if tenure.partitions and not tenure.recovered.cancelled() and tenure.recovered.exception() is None:
            await self._give_up(tenure.partitions, lost=lost)
        self._may_commit, self._tenure = False, None

    async def _give_up(self, partitions: list[int], *, lost: bool) -> None:
        hooks = self._options.hooks
        if not lost:
            if await _within(hooks.on_revoked(list(partitions)), self._revoke_timeout_s):
                return
            log.warning("the last turn of %s took over %.1f s: given up", partitions, self._revoke_timeout_s)
            self._may_commit = False
        if not await _within(hooks.on_lost(list(partitions)), _LOST_TIMEOUT_S):
            raise TransportError(f"on_lost took over {_LOST_TIMEOUT_S:.0f} s")

    def _started(self) -> Reader:
        if self._reader is None:
            raise TransportError("the driver has not been started")
        return self._reader

    async def _ask(self, request: Callable[[ck.Consumer], T]) -> T:
        answer = await self._request(request)
        self.mark_up()
        return answer

    async def _request(self, request: Callable[[ck.Consumer], T]) -> T:
        return await asyncio.wrap_future(self._started().ask(request))


async def _mapping(hook: Any) -> Mapping[tuple[str, int], int]:
    positions: Mapping[tuple[str, int], int] = await hook
    return positions


async def _within(hook: Coroutine[Any, Any, None], timeout_s: float) -> bool:
    """Whether it returned in time; it is cancelled otherwise. Raises what it raises, TransportError when it stays."""
    task = asyncio.ensure_future(hook)
    await asyncio.wait({task}, timeout=timeout_s)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT_S)
    if not task.done():
        raise TransportError("a hook goes on although it was cancelled")
    if task.cancelled():
        return False
    task.result()
    return True
