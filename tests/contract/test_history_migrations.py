"""Migrations: applied once, in order, and never changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.memory.recall import StoreRecall
from schemas.errors import ConfigurationError
from streams.history import migrations, process
from streams.history.conversations import Conversations
from streams.history.migrations import DIRECTORY, Migration, examine, load, lost, migrate
from streams.history.queries import History, connect
from streams.history.tables import COPIES, DEAD_LETTERS, REDRIVES, TABLES
from tests.support.history import T0_US
from tests.support.history_door import opened
from tests.support.history_memory import TOPOLOGY, tell
from tests.support.memories import KEY, history, interaction


@pytest.fixture
def client() -> Iterator[Any]:
    with opened() as door, closing(connect(door.url)) as client:
        yield client


def applied(client: Any) -> list[tuple[Any, ...]]:
    rows = client.query("SELECT number, name, checksum FROM pointsman.migrations ORDER BY number").result_rows
    return [tuple(row) for row in rows]


def test_each_is_applied_once_and_recorded(client: Any) -> None:
    ours = load()
    assert migrate(client) == ours
    assert applied(client) == [(each.number, each.name, each.checksum) for each in ours]
    assert migrate(client) == []
    assert len(applied(client)) == len(ours)


def test_a_new_one_is_applied_to_what_is_there(client: Any) -> None:
    migrate(client)
    more = Migration(len(load()) + 1, "more", ("CREATE TABLE pointsman.more (a Int8) ENGINE = Memory",), "x")
    assert migrate(client, [*load(), more]) == [more]
    assert client.command("EXISTS TABLE pointsman.more") == 1


def test_one_that_takes_longer_than_an_insert_may_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [*load(), Migration(len(load()) + 1, "slow", ("SELECT sleep(2.5)",), "x")]
    monkeypatch.setattr(process, "INSERT_TIMEOUT_S", 1)
    monkeypatch.setattr(migrations, "load", lambda: wanted)
    with opened() as door, closing(process.prepare(door.url, "default", "", TOPOLOGY, "pointsman")) as ready:
        assert applied(ready)[-1][1] == "slow"


def test_rows_are_copied_in_pieces_so_that_no_history_is_too_large_to_be_brought_up_to_date(client: Any) -> None:
    migrate(client)
    client.command("""
        INSERT INTO pointsman.tasks_log (tenant, task_id, conversation_id, text, submitted_at, topic, partition, offset)
        SELECT 'acme', toString(number), 'c', repeat('x', 100), now64(6), 't', 0, number FROM numbers(500000)
        SETTINGS max_block_size = 500000, min_insert_block_size_rows = 500000, max_insert_block_size = 500000""")
    client.command("CREATE TABLE pointsman.copy AS pointsman.tasks_log")
    client.command("SYSTEM STOP MERGES pointsman.copy")
    copied = "INSERT INTO pointsman.copy SELECT * FROM pointsman.tasks_log"
    more = Migration(len(load()) + 1, "more", (copied,), "x")
    migrate(client, [*load(), more])
    parts = "SELECT max(rows), sum(rows) FROM system.parts WHERE active AND table = 'copy'"
    largest, rows = client.query(parts).result_rows[0]
    assert rows == 500_000
    assert largest <= 200_000


def test_one_that_broke_off_is_done_again(client: Any) -> None:
    for statement in load()[0].statements[:3]:
        client.command("CREATE DATABASE IF NOT EXISTS pointsman")
        client.command(statement)
    assert migrate(client) == load()


def test_what_somebody_dropped_is_seen_and_made_again(client: Any) -> None:
    assert migrate(client) == load()
    assert lost(client) == []
    client.command("DROP VIEW pointsman.cascades")
    client.command("DROP TABLE pointsman.results_log")
    assert lost(client) == ["cascades", "results_log"]
    assert migrate(client) == []
    assert lost(client) == []
    made = client.command("SHOW CREATE TABLE pointsman.results_log")
    assert "merge_selector_base = 100" in str(made)
    assert len(applied(client)) == len(load())


def test_what_was_asked_before_the_time_of_submission_told_tasks_apart_is_kept(client: Any) -> None:
    """0021, on the rows of a store that had not applied it; and once more, as after a run that broke off."""
    migrate(client, load()[:20])
    said = history(30)
    tell(client, said[:25], 0)
    tell(client, said[25:], 25, asked=False)  # answered before, asked after
    columns = "SELECT count() FROM system.columns WHERE table = 'conversation_tasks_log' AND name = 'submitted_at'"
    assert client.command(columns) == 0
    assert [each.name for each in migrate(client, load()[:21])] == ["questions"]
    key = "SELECT sorting_key, primary_key FROM system.tables WHERE name = 'conversation_tasks_log'"
    (keys,) = client.query(key).result_rows
    assert keys == ("tenant, conversation_id, task_id, submitted_at", "tenant, conversation_id, task_id")
    tell(client, said[25:], 25)
    again = replace(interaction(31), task_id=said[4].task_id)
    tell(client, [again], 30, submitted_at=T0_US + 120_000_000)
    for _ in range(2):
        with closing(Conversations(client.url, timeout_s=60)) as conversations:
            memories, through = StoreRecall(TOPOLOGY, conversations).recall(0, [KEY])
        assert through == {KEY.agent_id: 31}
        assert [each.asked for each in memories[KEY].interactions] == [each.asked for each in [*said, again]]
        with closing(History(client.url)) as people:
            rows = people.query("SELECT asked FROM interactions ORDER BY ordinal").rows
        assert [asked for (asked,) in rows] == [each.asked for each in [*said, again]]
        client.command("DROP VIEW pointsman.cascades")  # so all are applied again
        migrate(client)


def test_what_the_page_says_gives_the_room_of_rows_of_before_back_and_changes_no_memory(client: Any) -> None:
    page = Path("docs/store.md").read_text("utf-8")
    counted, *freeing = re.findall(r'^curl "\$URL" --data "(.+)"$', page, re.MULTILINE)
    migrate(client, load()[:20])
    said = history(30)
    tell(client, said[:25], 0)
    migrate(client)
    tell(client, said[25:], 25)
    rows = "SELECT count() FROM pointsman.conversation_{}_log"
    merged = "OPTIMIZE TABLE pointsman.conversation_{}_log FINAL"
    client.command(merged.format("tasks"))
    assert client.command(rows.format("tasks")) == 55, "no merge takes a question of before and its copy for one"
    assert client.command(rows.format("outcomes")) > 30
    with closing(connect(client.url, database="pointsman")) as operator:
        assert operator.command(counted) == 0
        for statement in freeing:
            operator.command(statement, settings={"mutations_sync": 2})
    assert [client.command(rows.format(each)) for each in ("tasks", "outcomes")] == [30, 30]
    with closing(Conversations(client.url, timeout_s=60)) as conversations:
        memories, _ = StoreRecall(TOPOLOGY, conversations).recall(0, [KEY])
    assert [each.asked for each in memories[KEY].interactions] == [each.asked for each in said]


def test_a_changed_file_and_an_unknown_one_are_refused(client: Any) -> None:
    migrate(client)
    first, second, *rest = load()
    with pytest.raises(ConfigurationError, match=r"0002_facts: its file was changed"):
        migrate(client, [first, replace(second, checksum="other"), *rest])
    with pytest.raises(ConfigurationError, match=r"0002_facts: this version has no such file"):
        migrate(client, [first])
    assert len(applied(client)) == len(load())


def test_an_edit_of_a_file_that_was_applied_is_refused_be_it_a_comment(client: Any, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(DIRECTORY, tmp_path / "sql"))
    migrate(client, load(copy))
    edited = copy / "0004_people.sql"
    edited.write_text(edited.read_text() + "-- a word more\n")
    with pytest.raises(ConfigurationError, match=r"0004_people: its file was changed after it had been applied"):
        migrate(client, load(copy))


def test_names_without_gaps(tmp_path: Path) -> None:
    (tmp_path / "0001_one.sql").write_text("SELECT 1; SELECT 2;")
    assert load(tmp_path)[0].statements == ("SELECT 1", "SELECT 2")
    changed = load(tmp_path)[0].checksum
    (tmp_path / "0001_one.sql").write_text("SELECT 1; SELECT 3;")
    assert load(tmp_path)[0].checksum != changed
    (tmp_path / "0003_three.sql").write_text("SELECT 1")
    with pytest.raises(ConfigurationError, match="0002"):
        load(tmp_path)


def test_every_statement_bears_repeating() -> None:
    statements = [statement for each in load() for statement in each.statements]
    # What is copied once more folds by its identity: test_conversations.
    bearing = r"\b(IF NOT EXISTS|OR REPLACE|MODIFY SETTING|MODIFY QUERY|INSERT INTO pointsman\.conversation_\w+_log)\b"
    assert [statement for statement in statements if not re.search(bearing, statement)] == []


def test_tables_have_the_columns_that_the_sink_writes(client: Any) -> None:
    migrate(client)
    history = History(client.url)
    for table in TABLES.values():
        rows = history.query(
            "SELECT name FROM system.columns WHERE database = 'pointsman' AND table = {table:String}"
            " AND default_kind = ''",
            {"table": table.name},
        ).rows
        assert {name for (name,) in rows} == {*table.columns, "topic", "partition", "offset", "appended_at"}, table.name
    names = [name for (name,) in history.query("SHOW TABLES FROM pointsman LIKE '%_log'").rows]
    assert sorted(names) == sorted([*(table.name for table in TABLES.values()), DEAD_LETTERS, REDRIVES, *COPIES])
    history.close()


def test_another_database_gets_the_same_and_names_no_other(client: Any) -> None:
    migrate(client)
    assert migrate(client, database="acme") == load()
    assert migrate(client, database="acme") == []
    assert (examine(client, database="acme"), examine(client, database="none")) == (
        (0, len(load())),
        (len(load()),) * 2,
    )
    columns = "SELECT table, name, type FROM system.columns WHERE database = {database:String} ORDER BY table, name"
    usual, ours = (client.query(columns, {"database": each}).result_rows for each in ("pointsman", "acme"))
    assert usual == ours != []
    made = client.query("SELECT create_table_query FROM system.tables WHERE database = 'acme'").result_rows
    assert [statement for (statement,) in made if re.search(r"\bpointsman\.", statement)] == []
    client.command("DROP VIEW acme.cascades")
    assert (lost(client), lost(client, database="acme")) == ([], ["cascades"])
