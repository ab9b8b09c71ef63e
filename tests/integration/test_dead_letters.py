"""`pointsman dlq` on a real broker: letters found, shown, sent back once, and never in circles.

The last test runs the whole pipeline in real processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from schemas.codec import Codec
from schemas.deadletter import Origin, parse
from schemas.reasons import DeadReason
from schemas.records import table
from schemas.redrive import is_marker, redriven_headers
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.history.queries import History
from streams.transport.redriver import RedriveError, Redriver, Return
from tests.support.console import Said, pointsman, topology_file
from tests.support.contract import breaches, promises
from tests.support.dead_letters import put_away, submission
from tests.support.fleet import Fleet, wait_for
from tests.support.waiting import until
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

Capture = pytest.CaptureFixture[str]
Say = Callable[..., Said]
SUMMARY = {
    "origin_topic": "string or null",
    "reason": "string or null",
    "letters": "integer",
    "redriven": "integer",
    "first_at": "time or null",
    "last_at": "time or null",
}
GARBAGE = (b"k", b"hello, is this the right topic?")


@pytest.fixture
def path(repository: Path, tmp_path: Path, prefix: str) -> Path:
    return topology_file(repository, tmp_path, prefix)


@pytest.fixture
def topology(path: Path) -> Topology:
    return load_topology(path)


@pytest.fixture
def say(capsys: Capture, path: Path, broker: str, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("POINTSMAN_BROKER", broker)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
    return lambda *arguments: pointsman(capsys, "dlq", *arguments)


def rows(say: Say, *arguments: str, code: ExitCode = ExitCode.OK) -> list[dict[str, Any]]:
    said = say(*arguments, "-o", "jsonl")
    assert said.code == code, said.err
    return said.rows


def both(say: Say, *arguments: str) -> list[dict[str, Any]]:
    document = json.loads(say(*arguments, "-o", "json").out)
    lines = rows(say, *arguments)
    assert (document if isinstance(document, list) else [document]) == lines
    return lines


def test_what_is_printed_keeps_the_promises_of_the_page(say: Say, broker: str, topology: Topology) -> None:
    topics = topology.topics()
    full = submission("t-1", tenant="acme", deadline_ms=1)
    put_away(
        broker, topology, topics.submitted, [full, GARBAGE, (None, None)], headers=[("trace", b"\xff"), ("n", None)]
    )
    put_away(broker, topology, topics.cards, [GARBAGE], reason=DeadReason.UNFRAMED)
    listed = both(say, "list")
    assert breaches(listed, promises()["pointsman dlq list"]) == []
    assert [row["id"] for row in listed] == ["0:0", "0:1", "0:2", "0:3"]
    assert (listed[0]["tenant"], listed[0]["task_id"], listed[0]["redrives"]) == ("acme", "t-1", 0)
    assert breaches(both(say, "list", "--summary"), SUMMARY) == []
    planned = both(say, "redrive", "--all", "--dry-run", "--no-check-answers")
    sent = rows(say, "redrive", "0:0", "--yes", "--no-check-answers", "--deadline-in", "1h")
    assert breaches([*planned, *sent], promises()["pointsman dlq redrive"]) == []
    assert [(row["outcome"], row["refusal"]) for row in planned] == [
        ("planned", None),
        ("refused", "STILL_INVALID"),
        ("refused", "STILL_INVALID"),
        ("refused", "OUTDATED"),
    ]
    cut = Codec(FileRegistry.load(), 2**20).encode(
        table("TaskSubmitted", {"task_id": ["t-2"], "text": ["x" * 40], "submitted_at": 1}, 1), "TaskSubmitted"
    )[0][:30]
    put_away(broker, topology, topics.submitted, [(b"t-2", cut)], first_offset=9, reason=DeadReason.UNDECODABLE)
    shown = [row for each in rows(say, "list") for row in both(say, "show", each["id"])]
    assert breaches(shown, promises()["pointsman dlq show"]) == []
    first, last = shown[0], shown[-1]
    assert (first["refusal"], first["went_back"][0]["changed"]) == ("REDRIVEN", "deadline_ms")
    assert {"name": "trace", "value": "0xff"} in first["headers"]
    assert first["decoded"]["tenant"] == "acme"
    assert last["decoded"]["task_id"] == "t-2"
    assert last["stopped_in"] is not None


def test_filters_ask_for_what_they_say(say: Say, broker: str, topology: Topology) -> None:
    topics = topology.topics()
    put_away(broker, topology, topics.submitted, [submission("a", tenant="acme"), submission("b")])
    put_away(broker, topology, topics.inbox("sql_agent"), [GARBAGE], partition=1, reason=DeadReason.UNFRAMED)
    # The same record, put away twice: once by whom it was for, once by the store.
    put_away(broker, topology, topics.inbox("sql_agent"), [GARBAGE], partition=1, reason=DeadReason.UNFRAMED)

    def ids(*flags: str) -> list[str]:
        return [row["id"] for row in rows(say, "list", *flags)]

    assert sorted(ids()) == ["0:0", "0:1", "1:0"]
    assert ids("--topic", "agents.sql_agent.inbox.v1") == ids("--topic", topics.inbox("sql_agent")) == ["1:0"]
    assert ids("--reason", "unframed") == ["1:0"]
    assert ids("--tenant", "acme") == ["0:0"]
    assert ids("--partition", "0", "--from", "1") == ["0:1"]
    assert ids("--partition", "0", "--to", "0") == ["0:0"]
    assert sorted(ids("--since", "1h")) == ["0:0", "0:1", "1:0"]
    assert ids("--since", "2100-01-01T00:00:00Z") == ids("--until", "1h") == []
    assert len(ids("--limit", "1")) == 1
    assert ids("--redriven") == []
    assert [row["letters"] for row in rows(say, "list", "--summary")] == [2, 1]
    assert say("list", "--reason", "UNFRAMD").code == ExitCode.USAGE
    assert say("list", "--since", "yesterday").code == ExitCode.USAGE
    assert say("show", "0:77").code == ExitCode.NOT_FOUND
    assert say("show", "7:0").code == ExitCode.NOT_FOUND
    assert say("show", "zero").code == ExitCode.USAGE
    assert "[E407]" in say("redrive", "0:0", "0:77", "--yes").err


def test_a_letter_goes_back_once_as_it_was_and_the_dead_topic_remembers(
    say: Say, broker: str, topology: Topology
) -> None:
    topics = topology.topics()
    record = submission("t-1", deadline_ms=1)
    put_away(broker, topology, topics.submitted, [record, submission("t-2")], partition=2, headers=[("trace", b"1")])
    for arguments in (("redrive",), ("redrive", "--all", "--reason", "UNFRAMED"), ("redrive", "2:0", "--all")):
        said = say(*arguments, "--yes")
        assert (said.code, "[E209]" in said.err) == (ExitCode.USAGE, True)
    assert "[E206]" in say("redrive", "2:0", "--no-check-answers").err
    late = say("redrive", "2:0", "--dry-run", "--no-check-answers")
    assert "1 past their deadline, to end as EXPIRED" in late.err
    assert "Cannot reach ClickHouse" in say("redrive", "2:0", "--yes", "--clickhouse", "http://127.0.0.1:9").err
    assert read_topic(broker, topics.submitted) == []
    [row] = rows(say, "redrive", "2:0", "--yes", "--no-check-answers")
    assert (row["outcome"], row["to_offset"]) == ("redriven", 0)
    [message] = read_topic(broker, topics.submitted)
    assert (message.key(), message.value(), message.partition()) == (*record, 2)
    assert message.headers() == [("trace", b"1"), ("pointsman.attempt", b"1")]
    # A second redrive of all sees that one went, and takes the other.
    [row] = rows(say, "redrive", "--all", "--yes", "--no-check-answers")
    assert (row["id"], row["outcome"]) == ("2:1", "redriven")
    assert rows(say, "redrive", "--all", "--yes", "--no-check-answers") == []
    [row] = rows(say, "redrive", "2:0", "--yes", "--no-check-answers", code=ExitCode.OK)
    assert (row["outcome"], row["refusal"]) == ("refused", "REDRIVEN")
    assert [row["redrives"] for row in rows(say, "list")] == [1, 1]
    assert rows(say, "list", "--not-redriven") == []
    [row] = rows(say, "redrive", "2:0", "--yes", "--no-check-answers", "--again", "--deadline-in", "10m")
    assert (row["outcome"], row["changed"]) == ("redriven", "deadline_ms")
    changed = read_topic(broker, topics.submitted)[-1]
    [fields] = Codec(FileRegistry.load(), 2**20).decode([changed.value()], "TaskSubmitted").batch.to_pylist()
    assert (changed.key(), fields["task_id"]) == (b"t-1", "t-1")
    assert 0 < fields["deadline_ms"] - time.time() * 1000 <= 600_000
    assert [row["redrives"] for row in rows(say, "list")] == [2, 1]


def test_a_second_redrive_fences_the_first_and_nothing_of_it_counts(broker: str, topology: Topology, say: Say) -> None:
    topics, settings = topology.topics(), Settings(broker=broker)
    put_away(broker, topology, topics.submitted, [submission("t-1")])
    going = Return(Origin(topics.submitted, 0, 0, -1), *submission("t-1"), redriven_headers([], 1), 1, 0, 0)
    with Redriver(settings, topology) as first:
        [sent] = rows(say, "redrive", "--all", "--yes", "--no-check-answers")
        with pytest.raises(RedriveError, match="took over"):
            first.send([going], 1)
    assert sent["outcome"] == "redriven"
    assert len(read_topic(broker, topics.submitted)) == 1


def test_a_redrive_that_is_killed_goes_on_where_it_stopped(
    say: Say, broker: str, topology: Topology, path: Path
) -> None:
    topics, count = topology.topics(), 120
    put_away(broker, topology, topics.submitted, [submission(f"t-{number}") for number in range(count)])
    command = [sys.executable, "-m", "console.cli.main", "dlq", "redrive", "--all", "--yes", "--no-check-answers"]
    environ = {**os.environ, "POINTSMAN_BROKER": broker, "POINTSMAN_TOPOLOGY": str(path)}
    with subprocess.Popen([*command, "--rate", "20"], env=environ, stderr=subprocess.DEVNULL) as process:
        until(lambda: len(read_topic(broker, topics.submitted)) >= 20, 60)
        process.send_signal(signal.SIGKILL)
    before = len(read_topic(broker, topics.submitted))
    assert before < count
    rest = rows(say, "redrive", "--all", "--yes", "--no-check-answers", "--rate", "1000")
    # The transaction that was open when it was killed counts either whole or not at all.
    assert len(rest) <= count - before
    arrived = Counter(message.key() for message in read_topic(broker, topics.submitted))
    assert arrived == {f"t-{number}".encode(): 1 for number in range(count)}


@pytest.mark.slow
def test_a_record_that_comes_back_is_stopped_and_one_that_is_cured_is_answered_under_its_own_id(
    say: Say, broker: str, topology: Topology, path: Path, tmp_path: Path
) -> None:
    """The worker takes records of 2 KiB; who redrives thinks that it takes more, and so does the next worker."""
    strict = tmp_path / "strict.yaml"
    strict.write_text(path.read_text().replace("record_bytes_max: 262144", "record_bytes_max: 2048"))
    topics, text = topology.topics(), "What was the Q3 revenue for EMEA? " + "please " * 400
    with Fleet(broker, tmp_path, strict) as fleet:
        fleet.start("store", "worker", "host")
        history = ("--clickhouse", fleet.clickhouse)

        def letters(count: int) -> list[dict[str, Any]]:
            wait_for(lambda: len(rows(say, "list")) >= count, 60, f"{count} dead letters")
            return rows(say, "list")

        put_in(broker, topics.submitted, *submission("big", text=text))
        [letter] = letters(1)
        assert (letter["reason"], letter["task_id"], letter["attempt"]) == ("OVERSIZED", "big", 1)
        for times in (2, 3, 4):
            [sent] = rows(say, "redrive", "--all", "--yes", *history)
            assert (sent["outcome"], sent["attempt"]) == ("redriven", times - 1)
            assert [row["attempt"] for row in letters(times)] == list(range(1, times + 1))
        [stopped] = rows(say, "redrive", "--all", "--yes", *history, code=ExitCode.FAILED)
        assert (stopped["outcome"], stopped["refusal"]) == ("refused", "LOOP")
        strict.write_text(path.read_text())
        fleet.topology = topology
        for name in ("worker", "host", "store"):
            assert fleet.stop(name)
        fleet.start("store", "worker", "host")
        [sent] = rows(say, "redrive", stopped["id"], "--yes", "--force", *history)
        assert sent["outcome"] == "redriven"
        report = fleet.report(60)
        assert (report.tasks.accepted, report.tasks.results) == (1, 1)
        # To the topology that takes more, what was put away before is dead for no reason.
        assert [text for text in report.findings() if not text.startswith("dead topic: 4 surplus")] == []
        with closing(History(fleet.clickhouse)) as asked:
            told = asked.query("SELECT attempt, task_id, status, died_again FROM redriven ORDER BY attempt").rows
            gone = asked.query("SELECT attempt, redrives, redriven_at IS NULL FROM dead ORDER BY attempt").rows
        assert told == [(n, "", "", "OVERSIZED") for n in (1, 2, 3)] + [(4, "big", "COMPLETED", "")]
        assert gone == [(n, 1, 0) for n in (1, 2, 3, 4)]
        # It was answered; what would send it again is told so.
        [refused] = rows(say, "redrive", letter["id"], "--again", "--yes", *history, code=ExitCode.FAILED)
        assert refused["refusal"] == "HAS_RESULT"
    markers = [message for message in read_topic(broker, topics.dead) if is_marker(message.headers() or [])]
    assert len(markers) == 4
    assert all(parse(message.headers()).origin is not None for message in markers)


def put_in(broker: str, topic: str, key: bytes, value: bytes) -> None:
    import confluent_kafka as ck  # noqa: PLC0415  only here

    producer = ck.Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    producer.produce(topic, value, key=key)
    assert producer.flush(30) == 0
