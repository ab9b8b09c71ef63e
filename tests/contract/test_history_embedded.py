"""Rows of a store whose ClickHouse is in its own process: they spare the socket, and nothing else is different."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.topology import load_topology
from streams.history.door import Door
from streams.history.engine import Engine, EngineError
from streams.history.loader import INSERT_SETTINGS, Loader
from streams.history.migrations import migrate
from streams.history.queries import connect
from streams.history.tables import DEAD_LETTERS, TABLES, dead_rows_of, places_of, rows_of
from streams.transport.producer import Producer
from tests.support.examples import examples
from tests.support.history_door import migrated
from tests.support.history_rows import NoLetters, put, raw, samples
from tests.support.wire import records_of, to_batch

TOPOLOGY = load_topology(Path("topology.yaml"))
IDS = ["t1", "t2", "t3"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with closing(Engine(None)) as found:
        yield found


@pytest.fixture(scope="module")
def door(engine: Engine) -> Iterator[Door]:
    with closing(Door(engine, 0)) as found:
        yield found


@pytest.fixture(scope="module")
def client(door: Door) -> Iterator[Any]:
    with migrated(door, merging=False) as found:  # a merge drops what is older than its table keeps
        yield found


def _loader(engine: Engine, url: str) -> Loader:
    def prepared() -> Any:
        fresh = connect(url)
        migrate(fresh)
        return fresh

    codec = Codec(FileRegistry.load(), TOPOLOGY.limits.record_bytes_max)
    return Loader(TOPOLOGY, codec, prepared, cast("Producer", NoLetters()), engine)


def _placed(kind: str, records: pa.RecordBatch) -> pa.RecordBatch:
    n = records.num_rows
    return rows_of(TABLES[kind], records, places_of(raw(kind, range(1, n + 1)), np.arange(n)))


def _assert_same_by_both_ways(client: Any, engine: Engine, name: str, rows: pa.RecordBatch) -> None:
    everything = f"SELECT * FROM pointsman.{name} ORDER BY offset"
    client.command(f"TRUNCATE TABLE pointsman.{name}")
    put(client, name, rows)
    by_http = client.query(everything).result_rows
    assert len(by_http) == rows.num_rows
    client.command(f"TRUNCATE TABLE pointsman.{name}")
    with engine.handle({key: str(value) for key, value in INSERT_SETTINGS.items()}) as handle:
        handle.insert_rows(f"pointsman.{name}", [rows[:1], rows[1:]])
    assert client.query(everything).result_rows == by_http


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_each_table_holds_what_it_would_hold_by_http(client: Any, engine: Engine, kind: str) -> None:
    rows = _placed(kind, table(kind, samples(IDS)[kind], len(IDS)))
    _assert_same_by_both_ways(client, engine, TABLES[kind].name, rows)


@pytest.mark.parametrize("kind", sorted(TABLES))
@examples(8)
@given(data=st.data())
def test_so_it_does_whatever_the_records_hold(client: Any, engine: Engine, kind: str, data: st.DataObject) -> None:
    records = data.draw(records_of(kind).filter(bool))
    _assert_same_by_both_ways(client, engine, TABLES[kind].name, _placed(kind, to_batch(kind, records)))


def test_dead_letters_are_any_bytes_and_none(client: Any, engine: Engine) -> None:
    values, keys = [b"\xff\x00'", None, b"", b"v"], [None, b"\xfe", b"k", b""]
    letters = dead_rows_of(raw("dead", range(4), values=values, keys=keys))
    _assert_same_by_both_ways(client, engine, DEAD_LETTERS, letters)


def test_a_refused_insert_is_an_error_and_leaves_no_file_open(engine: Engine) -> None:
    rows = _placed("TaskSubmitted", table("TaskSubmitted", samples(IDS)["TaskSubmitted"], len(IDS)))
    for _ in range(2):  # the first may have ClickHouse start a thread
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  a count
        with engine.handle() as handle, pytest.raises(EngineError, match="UNKNOWN_TABLE"):
            handle.insert_rows("nowhere", [rows])
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208  as above


def test_a_dropped_table_is_made_again_and_loaded(client: Any, engine: Engine, door: Door) -> None:
    loader = _loader(engine, door.url)
    encoded = loader._codec.encode(table("TaskSubmitted", samples(IDS)["TaskSubmitted"], len(IDS)), "TaskSubmitted")

    def batch(offsets: range) -> Any:
        more = {"values": encoded, "keys": [each.encode() for each in IDS]}
        found = raw("TaskSubmitted", offsets, **more)
        found.topics[:] = [TOPOLOGY.topics().submitted] * len(IDS)
        return found

    client.command("DROP TABLE pointsman.tasks_log")
    loader.load([loader.read(batch(range(1, 4))), loader.read(batch(range(4, 7)))])
    assert client.query("SELECT task_id, offset FROM pointsman.tasks ORDER BY task_id").result_rows == [
        ("t1", 1),
        ("t2", 2),
        ("t3", 3),
    ], "a fact once, its lowest offset winning"
