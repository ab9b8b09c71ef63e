"""The bench of the history: rows that are lives, each view asked, and facts folded."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path

from console.bench_history import QUERIES, history, measure
from console.cli.output import Output
from console.synthetic import Lives
from schemas.topology import load_topology
from streams.history.engine import Engine

TASKS = 5_000


def test_a_store_of_made_up_lives_answers_every_query_and_folds_what_was_written_twice(tmp_path: Path) -> None:
    lives = Lives(load_topology(Path("topology.yaml")), TASKS, int(time.time()) - 86_400)
    figures = measure(
        tmp_path / "h", lives, 1, ["SELECT count() FROM dispatches WHERE task_id = '{task_id}'"], Output()
    )
    assert [each["query"] for each in figures["queries"]] == [*QUERIES, "also 1"]
    assert {each["table"] for each in figures["tables"]} >= {"tasks_log", "agent_events_log", "results_log"}
    with history(tmp_path / "h", lives, Output()) as client:

        def one(sql: str) -> object:
            return client.query(sql).result_rows[0][0]

        views = client.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
        asked = {view for sql in QUERIES.values() for view in re.findall(r"FROM (\w+)", sql)}
        assert asked == {name for (name,) in views.result_rows}
        assert one("SELECT count() FROM tasks") == one("SELECT count() FROM results") == TASKS
        assert one("SELECT sum(tasks) FROM spend") == TASKS
        outcomes = one("SELECT count() FROM agent_events WHERE kind != 'NOTE'")
        assert one("SELECT count() FROM dispatches") == outcomes
        assert one("SELECT sum(outcomes) FROM agent_minute") == outcomes, "nothing of it was written behind a claim"
        panels = one("SELECT count() FROM results WHERE notEmpty(votes)")
        assert one("SELECT sum(votes) / 2 FROM calibration") == panels
        assert one("SELECT sum(attempts) FROM results") == outcomes
        # Of the results of a time so many may be held, and no answers of the others.
        since = one("SELECT toString(max(decided_at) - INTERVAL 1 HOUR) FROM results")
        bounds = {"max_rows_in_join": "1000", "join_overflow_mode": "throw"}
        found = client.query(f"SELECT task_id, answer FROM answered_by WHERE at >= '{since}'", settings=bounds)
        assert 0 < len(found.result_rows) < 1000


def test_groups_that_memory_has_no_room_for_go_on_in_the_data_directory(tmp_path: Path) -> None:
    grouped = "SELECT groupArray(repeat(toString(number % 10), 800)) AS texts FROM numbers(2500000) GROUP BY number"
    with closing(Engine(tmp_path / "h")) as engine, engine.handle() as handle:
        answer = handle.run(f"SELECT count(), max(length(texts[1])) FROM ({grouped})")
        assert bytes(answer.body) == b"2500000\t800\n"
