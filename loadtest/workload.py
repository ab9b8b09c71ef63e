"""The tasks of a load test, by number, as the bytes that are sent: the same seed gives the same bytes.

All that can be is encoded before the first is sent: a task is a handful of pieces that are joined in columns. What the
pieces are is found by encoding the same record with one field changed, so that no layout is written down here.
I/O: none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.scenario import Mix
from schemas.codec import Codec
from schemas.records import table
from schemas.topology import Topology
from streams.transport.partitioner import partitions_of

SURE, HALF_SURE, UNSURE = 0.95, 0.65, 0.3
DIGITS = 9
BLOCK = 65_536
FILLER = "and please say where that comes from, in two or three plain sentences, before the end of the day; "
WORDS = ("EMEA", "APAC", "LATAM", "Q1", "Q2", "Q3", "Q4", "Oslo", "Lisbon", "Nairobi", "Osaka", "Lima", "Perth")


@dataclass(frozen=True)
class Tick:
    """Some tasks of one partition, in order; `numbers` are theirs."""

    partition: int
    numbers: Sequence[int]
    keys: Sequence[bytes]
    values: Sequence[bytes]

    def between(self, first: int, upto: int) -> Tick:
        """Those of these numbers, `upto` not among them."""
        start, stop = bisect_left(self.numbers, first), bisect_left(self.numbers, upto)
        return Tick(self.partition, self.numbers[start:stop], self.keys[start:stop], self.values[start:stop])


class Workload:
    """Tasks for the routes of a topology. `seed` makes another run; `run` begins every task id.

    `routes` limits it to some; by default all are served.
    """

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        seed: int,
        *,
        mix: Mix | None = None,
        run: str | None = None,
        routes: Sequence[str] | None = None,
    ) -> None:
        self._mix, self._seed = mix or Mix(), seed
        self._drawn: dict[int, tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = {}
        self.run = f"s{seed}" if run is None else run
        self._partitions_n = topology.partitions
        names = list(topology.routes) if routes is None else list(routes)
        texts = [_texts(topology, name, self._mix) for name in names]
        self._middles = self._encoded_middles(codec, names, texts)
        self._shape = (len(names), self._mix.texts)
        self._weights = _popularity(self._mix)
        width = len(str(self._mix.conversations - 1))
        self._keys = [f"c{number:0{width}}".encode() for number in range(self._mix.conversations)]
        self._key_bytes = np.frombuffer(b"".join(self._keys), np.uint8).reshape(len(self._keys), width + 1)
        self._homes = partitions_of(self._keys, topology.partitions)

    def task_id(self, number: int) -> str:
        return f"{self.run}-{number:0{DIGITS}}"

    def draw(self, first: int, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """What task and which conversation each of these numbers gets, wherever a range begins or ends."""
        numbers = range(first // BLOCK, -(-(first + count) // BLOCK))
        # Small steps find their block drawn already.
        self._drawn = {number: self._drawn.get(number) or self._block(number) for number in numbers}
        blocks = list(self._drawn.values())
        start = first % BLOCK
        what, who = (np.concatenate(parts)[start : start + count] for parts in zip(*blocks, strict=True))
        return what, who

    def _block(self, number: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        draw, mix = np.random.default_rng((self._seed, number)), self._mix
        routes, texts = (draw.integers(0, each, BLOCK) for each in self._shape)
        bands = draw.choice(3, BLOCK, p=(mix.single, mix.panel, mix.fallback))
        stated = draw.random(BLOCK) < mix.stated_intent
        what = ((routes * self._shape[1] + texts) * 3 + bands) * 2 + stated
        who = np.searchsorted(self._weights, draw.random(BLOCK), side="right")
        who = np.where(draw.random(BLOCK) < mix.hot, 0, np.minimum(who, mix.conversations - 1))
        return what.astype(np.int32), who.astype(np.int32)

    def ticks(
        self,
        first: int,
        what: npt.NDArray[np.int32],
        who: npt.NDArray[np.int32],
        sent_us: npt.NDArray[np.int64],
    ) -> list[Tick]:
        """The tasks from `first` on, by partition; `sent_us` is when each is meant to be sent, since the epoch."""
        homes = self._homes[who]
        order = np.argsort(homes, kind="stable")
        who = who[order]
        numbers = first + order
        values = self._values(numbers, what[order], who, sent_us[order]).to_pylist()
        keys = [self._keys[each] for each in who.tolist()]
        bounds, of = np.searchsorted(homes[order], np.arange(self._partitions_n + 1)), numbers.tolist()
        return [
            Tick(number, of[start:stop], keys[start:stop], values[start:stop])
            for number, (start, stop) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
            if start < stop
        ]

    def _values(
        self,
        numbers: npt.NDArray[np.int64],
        what: npt.NDArray[np.int32],
        who: npt.NDArray[np.int32],
        sent_us: npt.NDArray[np.int64],
    ) -> pa.BinaryArray:
        pieces = self._pieces
        n = len(numbers)
        digits = (numbers[:, None] // _POWERS % 10 + ord("0")).astype(np.uint8)
        head = np.concatenate(
            (_repeated(pieces.before_number, n), digits, _repeated(pieces.before_key, n), self._key_bytes[who]), axis=1
        )
        tail = np.concatenate((_varints(sent_us), _repeated(pieces.after_time, n)), axis=1)
        joined = pc.binary_join_element_wise(_binary(head), self._middles.take(pa.array(what)), _binary(tail), b"")
        assert isinstance(joined, pa.BinaryArray)
        return joined

    def _encoded_middles(self, codec: Codec, names: Sequence[str], texts: Sequence[Sequence[str]]) -> pa.BinaryArray:
        """What stands between conversation and time: for each route, text, band, and whether the intent is stated."""
        whole = [
            {"text": text, "intent": name if stated else None, "confidence": confidence}
            for name, own in zip(names, texts, strict=True)
            for text in own
            for confidence in (SURE, HALF_SURE, UNSURE)
            for stated in (False, True)
        ]
        width = len(str(self._mix.conversations - 1))
        task_id, key, time_us = f"{self.run}-" + "0" * DIGITS, "c" + "0" * width, 1 << 50
        fixed: dict[str, Any] = {"task_id": task_id, "conversation_id": key, "submitted_at": time_us}
        columns = {name: [row[name] for row in whole] for name in whole[0]}
        values = codec.encode(table("TaskSubmitted", {**columns, **fixed}, len(whole)), "TaskSubmitted")

        def first_change(**changed: Any) -> int:
            one = codec.encode(table("TaskSubmitted", {**whole[0], **fixed, **changed}, 1), "TaskSubmitted")[0]
            return next(at for at, (old, new) in enumerate(zip(values[0], one, strict=True)) if old != new)

        number_at = first_change(task_id=f"{self.run}-1" + "0" * (DIGITS - 1))
        key_at = first_change(conversation_id="d" + "0" * width)
        time_at = first_change(submitted_at=time_us + 1)  # its lowest bits come first
        key_end, time_left = key_at + len(key), len(values[0]) - time_at
        self._pieces = _Pieces(
            values[0][:number_at],
            values[0][number_at + DIGITS : key_at],
            values[0][time_at + TIME_BYTES :],
        )
        return pa.array([value[key_end : len(value) - time_left] for value in values], pa.binary())


@dataclass(frozen=True)
class _Pieces:
    before_number: bytes
    before_key: bytes
    after_time: bytes


_POWERS = 10 ** np.arange(DIGITS - 1, -1, -1, dtype=np.int64)
TIME_BYTES = 8  # of Avro's varint, for any time from 2005 to 4254


def _varints(times_us: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Avro's longs: zigzag, seven bits a byte, the lowest first, the top bit saying that more follow."""
    zigzag = times_us << 1
    parts = (zigzag[:, None] >> (7 * np.arange(TIME_BYTES))) & 0x7F
    parts[:, :-1] |= 0x80
    return parts.astype(np.uint8)


def _repeated(content: bytes, n: int) -> npt.NDArray[np.uint8]:
    return np.broadcast_to(np.frombuffer(content, np.uint8), (n, len(content)))


def _binary(rows: npt.NDArray[np.uint8]) -> pa.BinaryArray:
    """Each row of bytes as a value."""
    n, width = rows.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))]
    )


def _texts(topology: Topology, name: str, mix: Mix) -> list[str]:
    """The route's surest phrase and words that are nobody's phrase, all of one length."""
    phrases = topology.routes[name].phrases
    surest = max(phrases, key=lambda phrase: phrase.confidence).phrase if phrases else name
    return [
        f"{surest} {WORDS[number % len(WORDS)]} {number} {FILLER * (mix.text_bytes // len(FILLER) + 1)}"[
            : max(mix.text_bytes, len(surest) + 8)
        ]
        for number in range(mix.texts)
    ]


def _popularity(mix: Mix) -> npt.NDArray[np.float64]:
    """Cumulative shares of the conversations: Zipf's law over so many."""
    weights = np.cumsum(1.0 / np.arange(1, mix.conversations + 1) ** mix.zipf)
    shares: npt.NDArray[np.float64] = weights / weights[-1]
    return shares
