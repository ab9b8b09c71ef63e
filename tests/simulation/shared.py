"""What is the same in each process of a run, or in each run, and slow to make: it is made once, and what was decoded
before is not decoded again. With one thread there is no harm in sharing it. I/O: none but the files of the schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from agents.registry import resolve
from agents.version import declared
from schemas.codec import Codec, Decoded
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.core.policy import Policy

_APPS = ("streams.app", "agents.process", "streams.history.process")


class _Registry:
    @staticmethod
    def load() -> FileRegistry:
        return shared_registry()


class _Compiled:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def compile(self, _topology: Topology) -> Policy:
        return self._policy


_FOUND: dict[tuple[Callable[..., Any], int], tuple[object, Any]] = {}
"""What functions gave: by the function and the one thing that they were given, which is kept, for its id to be its."""


def _once(make: Callable[[Any], Any], of: object) -> Any:
    """What `make` makes of something that never changes."""
    known = _FOUND.get((make, id(of)))
    if known is None:
        known = _FOUND[make, id(of)] = of, make(of)
    return known[1]


@cache
def shared_registry() -> FileRegistry:
    return FileRegistry.load()


class RememberingCodec(Codec):
    """The real one; it reads each value once, and of what it has read before it gives the rows that it gave then.
    Others read it too, recoveries read a lot again, and so do the invariants."""

    def __init__(self, record_bytes_max: int) -> None:
        super().__init__(shared_registry(), record_bytes_max)
        self._decoded: dict[tuple[str, tuple[bytes | None, ...]], Decoded] = {}
        self._places: dict[str, dict[bytes | None, tuple[pa.RecordBatch, int, int]]] = {}
        """By the record's name and the value: a batch, its row in it, and the writer's schema."""

    def decode(self, values: Sequence[bytes | None], record_name: str) -> Decoded:
        key = (record_name, tuple(values))
        found = self._decoded.get(key)
        if found is None:
            found = self._decoded[key] = self._in_pieces(key[1], record_name) or super().decode(values, record_name)
        return found

    def _in_pieces(self, values: tuple[bytes | None, ...], record_name: str) -> Decoded | None:
        """What is new among them is read; the others' rows are copied. None where one of them is no record."""
        places = self._places.setdefault(record_name, {})
        new = [value for value in dict.fromkeys(values) if value not in places]
        if new:
            read = super().decode(new, record_name)
            if read.faults:
                return None
            rows = zip(new, range(len(new)), read.schema_ids.tolist(), strict=True)
            places.update({value: (read.batch, row, schema_id) for value, row, schema_id in rows})
            if len(new) == len(values):
                return read
        found = [places[value] for value in values]
        if not found:
            return None
        slices: list[pa.RecordBatch] = []
        start = 0
        for at in range(1, len(found) + 1):
            batch, row, _ = found[at - 1]
            if at == len(found) or found[at][0] is not batch or found[at][1] != row + 1:
                slices.append(batch.slice(found[start][1], at - start))
                start = at
        batch = slices[0] if len(slices) == 1 else pa.concat_batches(slices)
        schema_ids = np.array([schema_id for _, _, schema_id in found], np.int64)
        return Decoded(batch, np.arange(len(found)), [], schema_ids)

    def forget(self) -> None:
        self._decoded.clear()
        self._places.clear()


@cache
def shared_codec(record_bytes_max: int) -> RememberingCodec:
    return RememberingCodec(record_bytes_max)


def compiled(topology: Topology) -> Policy:
    found: Policy = _once(_compile, topology)
    return found


_compile, _topics = Policy.compile, Topology.topics


def shared(topology: Topology) -> list[tuple[str, Any]]:
    """What is the same in each process, and slow to make: with one thread there is no harm in sharing it."""
    codec = shared_codec(topology.limits.record_bytes_max)
    codec.forget()
    policy = compiled(topology)
    codecs = [(f"{module}.Codec", lambda *_: codec) for module in (*_APPS, "streams.processors.recovery")]
    registries = [(f"{module}.FileRegistry", _Registry) for module in _APPS]
    # The topics are there; tests/contract/test_transport.py shows that they can be made.
    topics = [(f"{module}.ensure_topics", lambda *_: None) for module in ("streams.app", "agents.process")]
    topics += [("streams.history.process.require_topics", lambda *_: None)]
    # Series of metrics, of which nobody looks at one.
    metrics: list[tuple[str, Any]] = [("streams.processors.outbox._count_from_zero", lambda _topology: None)]
    found = [("schemas.topology.Topology.topics", lambda topology: _once(_topics, topology))]
    found += [
        ("agents.process.resolve", partial(_once, resolve)),
        ("agents.process.declared", partial(_once, declared)),
    ]
    return [*codecs, *registries, *topics, *metrics, *found, ("streams.app.Policy", _Compiled(policy))]
