"""What the store takes of submissions that come as whole record batches, while some of a partition are held back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from schemas.admission import SUBMISSION
from schemas.codec import FEW, Codec
from schemas.topology import load_topology
from streams.history.loader import NEVER_MS, Loader
from streams.history.sink import Buffer, rows_now
from streams.transport.batch import TopicPartition
from streams.transport.held import HeldBack
from streams.transport.packed import Packed
from streams.transport.producer import Producer
from tests.support.submissions import TOPIC, Ids, packed
from tests.support.wire import frame, new_codec, task, to_batch

TOPOLOGY = load_topology(Path("topology.yaml"))
CODEC = new_codec()
UNKNOWN = 9_000


def loader(codec: Codec) -> Loader:
    return Loader(TOPOLOGY, codec, lambda: None, cast("Producer", None))


def many(partition: int, base: int, key: bytes | None = None) -> Packed:
    """So many good submissions that they are read whole, each under its own key, or all under another."""
    ids = [f"t{partition}-{base + row}" for row in range(FEW)]
    values = CODEC.encode(to_batch(SUBMISSION, [task(task_id=each) for each in ids]), SUBMISSION)
    return packed(partition, base, values, [key or each.encode() for each in ids])


def test_whole_batches_make_the_rows_that_single_records_make() -> None:
    log = many(0, 100)
    whole, single = loader(CODEC).read_whole(log), loader(CODEC).read(log.unpacked())
    assert whole is not None
    assert whole.batch.equals(single.batch)
    assert whole.places is not None
    assert whole.places.equals(single.places)
    assert (whole.records, whole.positions, whole.bad) == (single.records, single.positions, None)


def test_submissions_under_a_key_that_is_not_theirs_are_no_rows() -> None:
    rows = rows_now(many(0, 0, b"another"), loader(CODEC), None)
    assert rows is not None
    assert (rows.batch.num_rows, rows.records, rows.positions) == (0, FEW, {(TOPIC, 0): FEW})


def test_what_follows_a_submission_that_is_held_is_held_too() -> None:
    ids, own = Ids(known=UNKNOWN), loader(CODEC)
    held = HeldBack(ids)
    assert rows_now(packed(0, 0, [frame(UNKNOWN)], [b"k"]), own, held) is None
    assert rows_now(many(0, 1), own, held) is None
    elsewhere = rows_now(many(1, 1), own, held)
    assert elsewhere is not None
    assert elsewhere.positions == {(TOPIC, 1): 1 + FEW}
    ids.known += 1
    assert np.concatenate([each.offsets for each in held.released()]).tolist() == list(range(FEW + 1))


def test_a_batch_of_which_compaction_left_nothing_to_read_only_moves_the_position() -> None:
    """A cleaner takes records and leaves the offsets of its batches: whoever begins between them finds none."""
    (pack,) = many(0, 100).packs
    log = Packed(SUBMISSION, [replace(pack, start=pack.end - 1, end=pack.end + 5)])
    assert len(log.unpacked()) == 1
    log = Packed(SUBMISSION, [replace(pack, start=pack.end + 2, end=pack.end + 5)])
    rows = rows_now(log, loader(CODEC), None)
    assert rows is not None
    assert (rows.batch.num_rows, rows.records, rows.bad) == (0, 0, None)
    assert rows.positions == {TopicPartition(TOPIC, 0): pack.end + 5}
    buffer = Buffer()
    buffer.add(rows)
    assert buffer.oldest_ms() == NEVER_MS, "nothing waits"
