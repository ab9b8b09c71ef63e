"""Record batches decoded whole, against the same records taken apart one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cramjam
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from schemas.admission import admit_log
from schemas.codec import Codec, DecodedLog
from schemas.envelope import _after, zigzag
from schemas.extent import sizes_of
from schemas.plain import long
from schemas.records import record
from streams.history.tables import places_of, places_of_log
from streams.transport import inflate
from streams.transport.batch import Batch, Headers, TopicPartition
from streams.transport.compression import NAMES, compressed, uncompressed
from streams.transport.inflate import BLOCK_BYTES_MAX, inflated
from streams.transport.packed import Pack, Packed, packs_of
from tests.properties.test_codec import CODEC, EVERY_RECORD, GOOD, PER_RECORD, REFUSED, mixed_codec
from tests.support.wire import definition, encode, records_of, task, to_batch

TP = TopicPartition("some.events", 3)
NOBODY = -1
KEYS = st.binary(max_size=20)
OFTEN_KEYED = st.one_of(KEYS, KEYS, KEYS, st.none())
HEADERS = st.sampled_from([(), (), (), (("origin", b"there"),)])
COMPRESSION = st.sampled_from(sorted(NAMES))


def pack(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None],
    base: int = 0,
    *,
    compression: str = "lz4",
    headers: Sequence[Any] = (),
    producer: int = NOBODY,
) -> bytes:
    """A record batch as a broker has it: with its offset."""
    builder = DefaultRecordBatchBuilder(2, 0, int(producer != NOBODY), producer, 0, 0, 1 << 24)
    for row, (value, key) in enumerate(zip(values, keys, strict=True)):
        builder.append(row, 1_700_000_000_000 + 7 * row, key, value, list(headers[row]) if headers else [])
    return base.to_bytes(8, "big") + compressed(bytes(builder.build()), compression)[8:]


def log_of(data: bytes, start: int = 0) -> Packed:
    return Packed("AgentEvent", packs_of(TP, data, start, ())[0])


def decoded(codec: Codec, log: Packed, name: str, *, doubted: bool = False) -> DecodedLog | None:
    return codec.decode_log([each.records() for each in log.packs], len(log), name, doubted=doubted)


def bare(offset: int, key: bytes, value: bytes) -> bytes:
    """A record as it stands in a batch."""
    body = b"\0" + long(0) + long(offset) + long(len(key)) + key + long(len(value)) + value + long(0)
    return long(len(body)) + body


def values_in(records: bytes) -> list[bytes] | None:
    """The values of plain records, each taken from where the lengths before it say; None where these do not fit."""
    found, at = [], 0
    try:
        while at < len(records):
            size, start = zigzag(records, at)
            key_bytes, place = zigzag(records, _after(records, _after(records, start + 1)))
            value_bytes, place = zigzag(records, place + key_bytes)
            at = start + size
            if key_bytes < 0 or value_bytes < 0 or place + value_bytes + 1 != at or records[at - 1 : at] != b"\0":
                return None
            found.append(records[place : place + value_bytes])
    except IndexError:
        return None
    return found if at == len(records) else None


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_whole_batches_hold_what_their_records_hold(name: str, data: st.DataObject) -> None:
    values = CODEC.encode(to_batch(name, data.draw(records_of(name))), name)
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(values), max_size=len(values)))
    at, log = 0, b""
    for size in sizes:
        part = values[at : at + size]
        keys = data.draw(st.lists(KEYS, min_size=len(part), max_size=len(part)))
        # Between two batches there may be a gap: what was between them is compacted, or was a marker.
        log += pack(part, keys, 2 * at, compression=data.draw(COMPRESSION)) if part else b""
        at += size
    packed = log_of(log)
    whole, single = decoded(CODEC, packed, name), packed.unpacked()
    if not values:
        assert whole is None
        return
    expected = CODEC.decode(single.values, name)
    assert whole is not None
    assert whole.batch.equals(expected.batch)
    assert whole.batch.schema == expected.batch.schema
    assert places_of_log(packed, whole).equals(places_of(single, expected.rows))
    doubted = decoded(CODEC, packed, name, doubted=True)
    assert doubted is not None
    assert doubted.batch.equals(expected.batch)
    assert [key.as_buffer().to_pybytes() for key in doubted.keys] == single.keys


VALUES = st.one_of(*[st.binary(max_size=40)] * 4, st.none())


@given(data=st.data())
def test_records_taken_apart_in_columns_are_what_they_are_one_by_one(data: st.DataObject) -> None:
    """Whatever they hold; some have no key, no value or headers, and some batches have the broker's time."""
    at, log = 0, b""
    for rows in data.draw(st.lists(st.integers(1, 4), max_size=4)):
        lists = (st.lists(each, min_size=rows, max_size=rows) for each in (VALUES, OFTEN_KEYED, HEADERS))
        values, keys, headers = map(data.draw, lists)
        made = bytearray(pack(values, keys, at, compression=data.draw(COMPRESSION), headers=headers))
        made[22] |= data.draw(st.sampled_from([0, 0x08]))
        log += bytes(made)
        at += rows + data.draw(st.integers(0, 2))
    packed = log_of(log, data.draw(st.integers(0, at)))
    whole, single = packed.unpacked(), packed.one_by_one()
    assert (whole.values, whole.keys, whole.topics) == (single.values, single.keys, single.topics)
    for name in ("partitions", "offsets", "timestamps_ms"):
        column, expected = getattr(whole, name), getattr(single, name)
        assert (column.tolist(), column.dtype) == (expected.tolist(), expected.dtype)
    none: list[Headers] = [[]] * len(single)
    assert [list(each) for each in whole.headers or none] == [list(each) for each in single.headers or none]
    assert (whole.ends, whole.channel) == (single.ends, single.channel)


def frame(data: bytes, **options: bool) -> bytes:
    """As LZ4's own library frames it."""
    compressor = cramjam.lz4.Compressor(level=1, **options)
    compressor.compress(data)
    return bytes(compressor.finish())


def plain_frame(data: bytes) -> bytes:
    """Without sums, as Java's client and librdkafka write it; data of one block."""
    block = bytes(cramjam.lz4.compress_block(data, store_size=False))
    return bytes.fromhex("04224d18604082") + len(block).to_bytes(4, "little") + block + bytes(4)


FRAMES = st.sampled_from([
    plain_frame,
    lambda data: frame(data, content_checksum=False, block_linked=False),
    lambda data: frame(data, content_checksum=True, block_linked=False),
    lambda data: frame(data, content_checksum=False, block_linked=True),
])  # fmt: skip
LZ4, NONE, ZSTD = 3, 0, 4


@given(
    parts=st.lists(
        st.tuples(
            st.binary(max_size=60), st.sampled_from([1, 7, 1000]), st.sampled_from([LZ4, LZ4, LZ4, NONE, ZSTD]), FRAMES
        ),
        max_size=12,
    )
)
def test_batches_are_uncompressed_together_as_each_by_itself(parts: list[tuple[bytes, int, int, Any]]) -> None:
    kinds = {LZ4: None, NONE: bytes, ZSTD: lambda data: bytes(cramjam.zstd.compress(data))}
    batches = [((kinds[kind] or framed)(seed * times), kind) for seed, times, kind, framed in parts]
    assert b"".join(inflated(batches)) == b"".join(uncompressed(*each) for each in batches)
    assert b"".join(inflated(batches)) == b"".join(seed * times for seed, times, _, _ in parts)
    assert b"" not in inflated(batches)


def test_blocks_fill_many_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_alone: list[int] = []
    monkeypatch.setattr(inflate, "uncompressed", lambda data, _: taken_alone.append(len(data)))
    data = [bytes([number]) * BLOCK_BYTES_MAX for number in range(11)]
    assert b"".join(inflated((plain_frame(each), LZ4) for each in data)) == b"".join(data)
    assert taken_alone == []


@pytest.mark.parametrize("broken", [b"", b"\x04", lambda f: f[:-1], lambda f: f[:20] + bytes([f[20] ^ 0xFF]) * 40])
def test_what_is_no_frame_is_refused_as_its_own_decoder_refuses_it(broken: Any) -> None:
    whole = plain_frame(b"some text, and again some text, and again some text" * 20)
    data = broken if isinstance(broken, bytes) else broken(whole)
    with pytest.raises(Exception) as expected:
        uncompressed(data, LZ4)
    with pytest.raises(type(expected.value)):
        inflated([(whole, LZ4), (data, LZ4)])


@pytest.mark.parametrize("odd", [{"values": [None]}, {"keys": [None]}, {"headers": [(("origin", b"there"),)]}])
def test_a_record_that_is_not_plain_costs_no_other_batch_its_columns(
    odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[int] = []
    one_by_one = Packed.one_by_one

    def noted(self: Packed) -> Batch:
        alone.append(len(self))
        return one_by_one(self)

    monkeypatch.setattr(Packed, "one_by_one", noted)
    data = pack([b"a", b"b"], [b"k", b"k"]) + pack(**{"values": [b"c"], "keys": [b"k"], **odd}, base=2)
    batch = log_of(data + pack([b"d"], [b"k"], 3)).unpacked()
    assert batch.offsets.tolist() == [0, 1, 2, 3]
    assert alone == [1]


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_a_datum_takes_as_many_bytes_as_its_columns_say(name: str, data: st.DataObject) -> None:
    values = data.draw(records_of(name))
    batch = to_batch(name, values)
    sizes = sizes_of(batch.to_struct_array(), record(name).definition)
    assert sizes.tolist() == [len(datum) for datum in CODEC.encode_datums(batch, name)]
    assert sizes.tolist() == [len(encode(definition(name), value)) for value in values]  # by fastavro
    if values:
        assert sizes_of(batch.slice(1).to_struct_array(), record(name).definition).tolist() == sizes[1:].tolist()


@given(
    batch=st.lists(GOOD | REFUSED.map(lambda value: (value, None)), min_size=1, max_size=12),
    keys=st.lists(OFTEN_KEYED, min_size=12, max_size=12),
    headers=st.lists(HEADERS, min_size=12, max_size=12),
)
def test_what_is_not_alike_is_left_to_the_other_decoder(
    batch: list[tuple[bytes | None, dict[str, Any] | None]], keys: list[bytes | None], headers: list[Any]
) -> None:
    values = [value for value, _ in batch]
    log = log_of(pack(values, keys[: len(values)], headers=headers))
    whole, expected = decoded(mixed_codec(), log, "TaskSubmitted"), mixed_codec().decode(values, "TaskSubmitted")
    is_plain = all(keys[row] is not None and not headers[row] for row in range(len(values)))
    is_alike = not expected.faults and len(set(expected.schema_ids.tolist())) == 1 and expected.schema_ids[0] >= 0
    assert (whole is not None) == (is_plain and is_alike)
    if whole is not None:
        assert whole.batch.equals(expected.batch)


@EVERY_RECORD
@PER_RECORD
@given(data=st.data())
def test_no_damage_makes_it_fail(name: str, data: st.DataObject) -> None:
    values = CODEC.encode(to_batch(name, data.draw(records_of(name))), name)
    if not values:
        return
    (only,) = log_of(pack(values, [b"key"] * len(values), compression="none")).packs
    records = bytearray(only.records())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(records)))
        records[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    whole = CODEC.decode_log([bytes(records)], len(values), name)
    if whole is not None:
        assert whole.batch.num_rows == len(values)
        whole.batch.validate(full=True)
    doubted = CODEC.decode_log([bytes(records)], len(values), name, doubted=True)
    if doubted is not None:  # then each is what it would be by itself
        taken_apart = values_in(bytes(records))
        assert taken_apart is not None
        assert doubted.batch.equals(CODEC.decode(taken_apart, name).batch)


def test_a_record_within_a_record_does_not_pass_for_the_next() -> None:
    """Behind the first datum begins a forged record, whose key is the second, and whose value stands behind that."""
    values = CODEC.encode(to_batch("TaskSubmitted", [task(task_id=each) for each in "abf"]), "TaskSubmitted")
    first, second, forged = values
    behind = long(len(forged)) + forged
    real = bare(1, b"b", second + behind)
    key_bytes = len(real) - len(behind)  # with the byte that ends the first, and without that which ends the second
    head = b"\0" + long(0) + long(1) + long(key_bytes)
    records = bare(0, b"a", first + long(0) + long(0) + head) + real
    taken_apart = CODEC.decode(values_in(records) or [], "TaskSubmitted").batch
    assert taken_apart.column("task_id").to_pylist() == ["a", "b"]
    believed = CODEC.decode_log([records], 2, "TaskSubmitted")
    assert believed is not None
    assert believed.batch.column("task_id").to_pylist() == ["a", "f"]
    assert CODEC.decode_log([records], 2, "TaskSubmitted", doubted=True) is None


@pytest.mark.parametrize("broken", [lambda v: b"\x01" + v[1:], lambda v: v + b"\0", lambda v: v[:-1]])
def test_a_doubted_record_that_is_not_brief_and_whole_is_left_to_the_other_decoder(
    broken: Callable[[bytes], bytes],
) -> None:
    (value,) = CODEC.encode(to_batch("TaskSubmitted", [task()]), "TaskSubmitted")
    records = bare(0, b"k", value) + bare(1, b"k", broken(value)) + bare(2, b"k", value)
    assert CODEC.decode_log([records], 3, "TaskSubmitted", doubted=True) is None


def test_submissions_are_let_in_whole_where_all_of_them_are() -> None:
    tasks = [task(task_id="a"), task(task_id="b", conversation_id="c")]
    values = CODEC.encode(to_batch("TaskSubmitted", tasks), "TaskSubmitted")
    for keys, are_let_in in ((b"ac", True), (b"ab", False), (b"a\xff", False)):
        records = b"".join(bare(row, keys[row : row + 1], value) for row, value in enumerate(values))
        assert (admit_log(CODEC, "TaskSubmitted", [records], 2) is not None) == are_let_in


def test_what_stands_behind_a_datum_is_seen() -> None:
    """Bytes behind a datum would move all that follows: the mark at the end is not where it should be."""
    value = CODEC.frame("TaskSubmitted") + b"\0" * 40
    log = log_of(pack([value, value], [b"a", b"b"]))
    assert decoded(CODEC, log, "TaskSubmitted") is None


@pytest.mark.parametrize("rows", [(0, 2), (1, 2), (2, 2)])
def test_records_before_the_position_are_left_out(rows: tuple[int, int]) -> None:
    start, base = rows
    log = log_of(pack([b"a", b"b", b"c"], [None] * 3, base), base + start)
    assert log.unpacked().values == [b"a", b"b", b"c"][start:]
    assert log.unpacked().offsets.tolist() == list(range(base + start, base + 3))
    assert log.next_positions() == {TP: base + 3}


def marker(kind: bytes, base: int, producer: int) -> bytes:
    data = bytearray(pack([b"\0\0\0\0\0\0"], [b"\0\0" + kind], base, compression="none", producer=producer))
    data[22] |= 0x20
    return bytes(data)


def test_what_an_aborted_transaction_wrote_is_left_out_and_no_more() -> None:
    """KIP-98: a producer's records count as aborted from the offset that the broker names up to its marker."""
    data = b"".join([
        pack([b"plain"], [b"k"], 0),
        pack([b"one"], [b"k"], 1, producer=7),
        pack([b"two"], [b"k"], 2, producer=8),
        marker(b"\0\0", 3, 7),
        marker(b"\0\1", 4, 8),
        pack([b"again"], [b"k"], 5, producer=7),
        marker(b"\0\1", 6, 7),
    ])  # fmt: skip
    packs, position = packs_of(TP, data, 0, [(7, 1)])
    assert [record.value for each in packs for record in each] == [b"plain", b"two", b"again"]
    assert position == 7


def test_a_batch_that_was_cut_off_is_fetched_again() -> None:
    whole = pack([b"a"] * 5, [b"k"] * 5, 0)
    packs, position = packs_of(TP, whole + pack([b"b"] * 5, [b"k"] * 5, 5)[:-1], 0, None)
    assert ([each.rows for each in packs], position) == ([5], 5)
    assert packs_of(TP, whole[:40], 0, None) == ([], 0)


def test_markers_alone_move_the_position_on() -> None:
    assert packs_of(TP, marker(b"\0\1", 9, 7), 9, None) == ([], 10)


def test_an_older_format_is_refused() -> None:
    data = bytearray(pack([b"a"], [b"k"]))
    data[16] = 1
    with pytest.raises(ValueError, match="format 1"):
        packs_of(TP, bytes(data), 0, None)


def test_the_brokers_own_times_are_taken_where_the_topic_wants_them() -> None:
    data = bytearray(pack([b"a", b"b"], [b"k", b"k"], compression="none"))
    data[22] |= 0x08
    (only,) = packs_of(TP, bytes(data), 0, None)[0]
    assert isinstance(only, Pack)
    assert only.has_append_time
    assert Packed("x", [only]).unpacked().timestamps_ms.tolist() == [only.last_ms] * 2
