"""Open files of the embedded engine: they do not grow with the parts that it replaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.history_door import migrated, opened

PARTS = 120  # ClickHouse calls for help from 100 on
GROWTH_MAX = 10


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with opened() as door, migrated(door, merging=False) as found:
        yield found


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _growth(client: Any, table: str) -> int:
    """By how many files a removal of many parts has us grow."""
    for number in range(PARTS):
        client.command(f"INSERT INTO {table} (origin_topic, origin_offset) VALUES ('t', {number})")
    before = _open_files()
    client.command(f"TRUNCATE TABLE {table}")
    return _open_files() - before


def test_parts_are_removed_without_threads_that_stay(client: Any) -> None:
    assert _growth(client, "pointsman.dead_letters_log") <= GROWTH_MAX


def test_every_table_of_the_history_says_so(client: Any) -> None:
    found = client.query(
        "SELECT name, extract(engine_full, 'concurrent_part_removal_threshold = (\\\\d+)') FROM system.tables"
        " WHERE database = 'pointsman' AND endsWith(engine, 'MergeTree') AND name NOT IN ('migrations', 'owner')"
    ).result_rows
    assert found
    assert {name for name, threshold in found if not threshold} == set()


def test_with_clickhouse_s_own_setting_they_would_grow(client: Any) -> None:
    """So the first of these tests can fail; last, for the threads stay."""
    client.command("CREATE TABLE pointsman.as_it_is AS pointsman.dead_letters_log")
    client.command("ALTER TABLE pointsman.as_it_is RESET SETTING concurrent_part_removal_threshold")
    assert _growth(client, "pointsman.as_it_is") > GROWTH_MAX
