"""Keys in the order in which they came, found again by their hashes, the oldest forgotten first; without the keys.

A hash table whose chains run through a ring: each entry names the one before it in its bucket, so a chain goes from the
newest to the oldest, and ends at the first that is forgotten. To forget is to move one number: nothing is looked up or
freed for it. The hashes are Python's own, which differ from process to process: nothing but the way to a key depends on
them. I/O: none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from schemas.runs import changes

SMALLEST = 1 << 10
ROOM = 2
"""Buckets for each entry: most keys that are asked for are not here, and then find theirs empty."""

_NOTHING = -1


class Trail:
    """Each key has a serial, which counts on from nought; `first` is that of the oldest, `end` the next one's."""

    def __init__(self) -> None:
        self.first, self.end = 0, 0
        self._make(SMALLEST)

    def __len__(self) -> int:
        return self.end - self.first

    def _make(self, size: int) -> None:
        self._mask = size - 1
        self._hashes, self._before = np.empty(size, np.int64), np.empty(size, np.int64)
        self._buckets = size * ROOM - 1
        self._newest = np.full(size * ROOM, _NOTHING, np.int64)
        # The same memory: of one value these are asked in a third of the time.
        self._hash_at, self._before_at, self._newest_at = self._hashes.data, self._before.data, self._newest.data

    def add_all(self, keys: Sequence[Hashable]) -> None:
        """So many more, in this order."""
        if not keys:
            return
        size = self._mask + 1
        while size < len(self) + len(keys):
            size *= 2
        if size > self._mask + 1:
            self._grow(size)
        self._add(_hashes(keys))

    def _add(self, hashes: npt.NDArray[np.int64]) -> None:
        """There is room for them."""
        serials = np.arange(self.end, self.end + len(hashes))
        buckets = hashes & self._buckets
        order = np.argsort(buckets, kind="stable")
        buckets, serials_there = buckets[order], serials[order]
        is_first = changes(buckets)
        is_last = np.ones(len(hashes), np.bool_)
        is_last[:-1] = is_first[1:]
        before = np.empty_like(serials)
        before[1:] = serials_there[:-1]
        before[is_first] = self._newest[buckets[is_first]]
        self._newest[buckets[is_last]] = serials_there[is_last]
        self._before[serials_there & self._mask] = before
        self._hashes[serials & self._mask] = hashes
        self.end += len(hashes)

    def _grow(self, size: int) -> None:
        known = self._hashes[np.arange(self.first, self.end) & self._mask]
        self._make(size)
        self.end = self.first
        if len(known):
            self._add(known)

    def find(self, key: Hashable) -> Iterator[int]:
        """The serials of the keys that hash like this one, the newest first."""
        hashed, first = hash(key), self.first
        serial = self._newest_at[hashed & self._buckets]
        while serial >= first:
            at = serial & self._mask
            if self._hash_at[at] == hashed:
                yield serial
            serial = self._before_at[at]

    def among(self, keys: Sequence[Hashable]) -> list[int]:
        """The places of those that hash like one that is known."""
        first, mask, hashes, before = self.first, self._mask, self._hash_at, self._before_at
        wanted = _hashes(keys)
        serials = self._newest[wanted & self._buckets]
        places = np.flatnonzero(serials >= first)
        found = []
        # Few are left, and chains are short: from here on columns would cost more.
        live = (places.tolist(), serials[places].tolist(), wanted[places].tolist())
        for place, serial, hashed in zip(*live, strict=True):
            while serial >= first:
                at = serial & mask
                if hashes[at] == hashed:
                    found.append(place)
                    break
                serial = before[at]  # noqa: PLW2901 - the next in its chain
        return found

    def forget(self, times: int) -> None:
        """So many of the oldest."""
        self.first += times


def _hashes(keys: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(hash, keys), np.int64, len(keys))
