"""Of a record batch just those records are taken that are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from loadtest.places import _batch, _hits, _records
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError
from streams.transport.packed import Pack, packs_of

TP = TopicPartition("t", 3)
COUNT = 300
COMPRESSIONS = {"none": 0, "lz4": 3}


def pack(base: int = 1_000, compression: str = "none", gaps: frozenset[int] = frozenset()) -> Pack:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=COMPRESSIONS[compression],
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number in range(COUNT):
        if number not in gaps:
            key = None if number % 7 == 0 else b"k" * (number % 90)
            value = None if number % 11 == 0 else b"%d" % number * (number % 200)
            builder.append(number, 5_000 + number, key, value, [("h", b"x")])
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    (made,), _ = packs_of(TP, bytes(data), 0, None)
    return made


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_records_at_these_offsets_are_those_that_the_library_has_there(compression: str) -> None:
    whole = pack(compression=compression)
    known = {1_000 + number: (record.key, record.value) for number, record in enumerate(whole)}
    for wanted in ([1_000], [1_299], [1_001, 1_063, 1_064, 1_298], list(known)):
        assert dict(_records(whole, wanted)) == {offset: known[offset] for offset in wanted}


def test_a_pack_with_gaps_is_told_and_not_misread() -> None:
    with pytest.raises(TransportError):
        list(_records(pack(gaps=frozenset({10})), [1_050]))


def test_the_records_of_several_packs_are_one_batch() -> None:
    found = _batch([(pack(), [1_001, 1_002]), (pack(2_000, "lz4"), [2_005])])
    assert (found.channel, found.offsets.tolist(), found.partitions.tolist()) == ("t", [1_001, 1_002, 2_005], [3, 3, 3])
    assert found.values == [b"1", b"22", b"55555"]
    assert found.ends == {TP: 2_005}


def test_hits_are_the_rows_at_wanted_places() -> None:
    offsets = np.array([3, 4, 7, 9])
    assert _hits(offsets, np.array([1, 4, 9, 12])).tolist() == [1, 3]
    assert _hits(offsets, np.array([2])).tolist() == []
