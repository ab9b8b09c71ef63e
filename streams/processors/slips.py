"""Slips as datums: what does not change from turn to turn is encoded once, and the numbers behind it each time.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.codec import Codec
from schemas.plain import long
from schemas.records import table
from streams.core.columns import columns_of
from streams.core.task import Slip

NUMBERS = len(Slip._fields) - Slip._fields.index("cost_microusd")
"""The last fields of a slip, all of them int or long: they differ by task and turn."""

HEADS_MAX = 10_000
"""Agents, routes and confidences that are at hand. A task may state any confidence: then all are made anew."""


class SlipEncoder:
    """Gives what `Codec` gives of the same slips. Not shared between threads."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._heads: dict[tuple[object, ...], bytes] = {}

    def encode(self, slips: Sequence[Slip]) -> list[bytes]:
        """One Avro datum of the record Slip for each, without a frame."""
        keys = [slip[:-NUMBERS] for slip in slips]
        if not self._heads.keys() >= set(keys):
            self._learn(slips, keys)
        # Most slips of a turn have the same numbers as another.
        heads, ends = self._heads, [slip[-NUMBERS:] for slip in slips]
        numbers = {each: _numbers(each) for each in set(ends)}
        return [heads[key] + numbers[end] for key, end in zip(keys, ends, strict=True)]

    def _learn(self, slips: Sequence[Slip], keys: Sequence[tuple[object, ...]]) -> None:
        if len(self._heads) + len(keys) > HEADS_MAX:
            self._heads.clear()
        new = {key: slip for key, slip in zip(keys, slips, strict=True) if key not in self._heads}
        datums = self._codec.encode_datums(table("Slip", columns_of(Slip, list(new.values())), len(new)), "Slip")
        for (key, slip), datum in zip(new.items(), datums, strict=True):
            self._heads[key] = datum[: len(datum) - len(_numbers(slip[-NUMBERS:]))]


def _numbers(end: Sequence[Any]) -> bytes:
    """The last fields of a slip."""
    return b"".join(map(long, end))
