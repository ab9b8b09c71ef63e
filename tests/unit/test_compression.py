"""Record batches that are compressed: what a broker and any client make of them is what was put in."""

from __future__ import annotations

import pytest
from aiokafka.codec import lz4_encode
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from streams.transport.batch import TopicPartition
from streams.transport.compression import NAMES, compressed
from streams.transport.parcels import Parcel

HEADER_BYTES = 61
CODEC_BITS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
WORDS = [b"%d: the figure of the third quarter, as the ledger has it" % number for number in range(50)]


def built(values: list[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, 7, 1, 42, 1 << 20)
    for row, value in enumerate(values):
        builder.append(row, 1_000 + row, b"key", value, [("origin", b"here")])
    return bytes(builder.build())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_compressed_batch_reads_as_the_one_that_it_was(name: str) -> None:
    plain = built(WORDS)
    batch = DefaultRecordBatch(compressed(plain, name))
    assert batch.validate_crc()
    assert batch.compression_type == CODEC_BITS[name]
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 42)
    assert (batch.last_offset_delta, batch.first_timestamp, batch.max_timestamp) == (49, 1_000, 1_049)
    was = [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in DefaultRecordBatch(plain)]
    assert [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in batch] == was


@pytest.mark.parametrize("name", sorted(NAMES - {"none"}))
def test_it_is_smaller_and_says_so(name: str) -> None:
    plain = built(WORDS)
    packed = compressed(plain, name)
    assert len(packed) < len(plain) / 2
    assert int.from_bytes(packed[8:12], "big") == len(packed) - 12


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_gets_no_smaller_stays_as_it_is(name: str) -> None:
    plain = built([b""])
    assert compressed(plain, name) == plain


def test_lz4_is_quick() -> None:
    """At level 9, which is what aiokafka takes, it costs as much as all else that is done to send a record."""
    plain = built(WORDS)
    assert compressed(plain, "lz4")[HEADER_BYTES:] == lz4_encode(plain[HEADER_BYTES:], level=1)
    assert compressed(plain, "lz4")[HEADER_BYTES:] != lz4_encode(plain[HEADER_BYTES:])


def test_a_parcel_is_compressed_as_its_producer_wants() -> None:
    parcel = Parcel(TopicPartition("a", 0), 1 << 20, "zstd", 0.0)
    assert parcel.fill(WORDS, [None] * len(WORDS), 1_000, []) == len(WORDS)
    parcel.first = 3
    batch = DefaultRecordBatch(parcel.data(7, 1))
    assert (batch.compression_type, batch.base_sequence) == (CODEC_BITS["zstd"], 3)
    assert [each.value for each in batch] == WORDS
