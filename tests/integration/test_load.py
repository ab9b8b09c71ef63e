"""`pointsman load`: a whole run at a low rate, its report, and one that somebody tampers with."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from console.cli.failures import ExitCode
from schemas.settings import Settings
from streams.transport.clients import client_config
from tests.support.console import pointsman
from tests.support.contract import breaches, promises
from tests.support.waiting import leaving

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Capture = pytest.CaptureFixture[str]
QUICK = ("--rate", "60", "--warm-up", "1", "--settle", "60")
# What the machine's other work may bring about, and is no fault of the command.
SLOW = re.compile(r"the generator fell [\d.]+ s behind")


def test_a_run_is_audited_and_reported(capsys: Capture, broker: str, tmp_path: Path, repository: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("about: a trial\nrate: 60\nduration_s: 4\nmix: {single: 0.5, panel: 0.45, fallback: 0.05}\n")
    made, page = tmp_path / "a.json", tmp_path / "a.html"
    flags = ("--broker", broker, "--topology", str(repository / "topology.yaml"), "--json", str(made))
    said = pointsman(capsys, "load", "run", str(own), *QUICK, *flags, "--html", str(page))
    report = json.loads(made.read_text())
    if not SLOW.search(report["void_reason"] or ""):
        assert said.code == ExitCode.OK, said.out + said.err
    assert (report["accepted"], report["results"], report["generator"]["tasks"]) == (300, 300, 300)
    assert report["sound"]
    found = ("lost", "duplicated", "out_of_order", "wrong_decisions", "unasked", "unrecorded", "history_missing")
    assert {name: report[name] for name in found} == dict.fromkeys(found, 0)
    assert report["audit"]["tasks_judged_share"] == 1.0
    assert report["audit"]["history"]["results"]["expected"] == 300
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]
    assert report["latency_ms"]["count"] == 240
    assert report["events_per_second"] > 100
    assert set(report["cpu_us_per_event"]) == {"total", "worker", "host", "store"}
    assert report["rss_mib"]["worker"] > 50
    assert sum(report["series"]["events"]) / 4 == pytest.approx(report["events_per_second"], rel=0.01)
    assert all(each["ok"] for each in report["thresholds"])
    assert topics_of(broker, "load-") == []

    # The page needs nothing but itself.
    text = page.read_text()
    assert "a trial" in text
    assert "uPlot" in text
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)|@import|url\(\s*["']?http""", text)

    again = pointsman(capsys, "load", "report", str(made))
    assert again.code == said.code
    assert again.out == said.out
    other = tmp_path / "b.json"
    other.write_text(json.dumps({**report, "events_per_second": 2 * report["events_per_second"], "commit": "another"}))
    compared = pointsman(capsys, "load", "compare", str(made), str(other), "-o", "jsonl")
    assert breaches(compared.rows, promises()["pointsman load compare"]) == []
    ratios = {row["metric"]: row["ratio"] for row in compared.rows}
    assert ratios["events_per_second"] == 2.0
    assert "commit differs" in compared.err


def test_a_run_with_transactions_comes_to_rest(capsys: Capture, tmp_path: Path, repository: Path, broker: str) -> None:
    """Behind the marker of the last transaction of a topic-partition nobody commits."""
    own, made = tmp_path / "own.yaml", tmp_path / "a.json"
    own.write_text("about: a trial\nrate: 60\nduration_s: 2\n")
    flags = ("--broker", broker, "--topology", str(repository / "topology.yaml"), "--json", str(made))
    said = pointsman(capsys, "load", "run", str(own), *QUICK, *flags, "--delivery", "exactly_once")
    report = json.loads(made.read_text())
    assert report["sound"], said.out + said.err
    assert "come to rest" not in (report["void_reason"] or "")
    assert (report["accepted"], report["results"]) == (180, 180)


def test_a_result_that_somebody_repeats_breaches_the_run(
    capsys: Capture, broker: str, tmp_path: Path, repository: Path
) -> None:
    made = tmp_path / "a.json"
    flags = ("--broker", broker, "--topology", str(repository / "topology.yaml"), "--json", str(made))
    rogue = threading.Thread(target=repeat_a_result, args=(broker,))
    rogue.start()
    said = pointsman(capsys, "load", "run", "smoke", "--duration", "4", *QUICK, *flags)
    rogue.join(60)
    report = json.loads(made.read_text())
    assert said.code != ExitCode.OK
    if not report["void"]:
        assert said.code == ExitCode.BREACHED
    assert report["duplicated"] == 1
    assert not report["sound"]
    assert [each["metric"] for each in report["thresholds"] if not each["ok"] and each["metric"] != "throughput"] == [
        "duplicated"
    ]
    assert "FOUND: 1 duplicated: l" in said.out
    assert report["history_duplicated"] == 0, "the history folds it"


def test_a_scenario_that_is_not_there_is_told_before_anything_starts(capsys: Capture) -> None:
    said = pointsman(capsys, "load", "run", "nothing")
    assert said.code == ExitCode.INVALID
    assert "lifecycle-200k" in said.err


def test_a_file_that_is_no_report_is_told(capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("{", "{}", "[]"):
        path.write_text(text)
        assert pointsman(capsys, "load", "report", str(path)).code == ExitCode.INVALID
    assert pointsman(capsys, "load", "report", str(tmp_path / "none")).code == ExitCode.INVALID


def test_the_list_of_scenarios_keeps_its_promise(capsys: Capture) -> None:
    rows = pointsman(capsys, "load", "scenarios", "-o", "jsonl").rows
    assert breaches(rows, promises()["pointsman load scenarios"]) == []
    assert "smoke" in {row["scenario"] for row in rows}


def topics_of(broker: str, prefix: str) -> list[str]:
    with leaving(ck.Consumer(client_config(Settings.resolve({"broker": broker}, {}), None, "consumer"))) as consumer:
        return [name for name in consumer.list_topics(timeout=30).topics if name.startswith(prefix)]


def repeat_a_result(broker: str) -> None:
    """Waits for the first result of a run and sends it again."""
    settings = Settings.resolve({"broker": broker}, {})
    until = time.monotonic() + 240
    names: list[str] = []
    while not names and time.monotonic() < until:
        names = [name for name in topics_of(broker, "load-") if name.endswith("tasks.results.v1")]
        time.sleep(0.2)
    found: Any = None
    with leaving(ck.Consumer(client_config(settings, None, "consumer"))) as consumer:
        consumer.assign([ck.TopicPartition(names[0], number, 0) for number in range(4)])
        while found is None and time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is not None and message.error() is None:
                found = message
    producer = ck.Producer(client_config(settings, None, "producer"))
    producer.produce(names[0], found.value(), found.key(), partition=found.partition())
    assert producer.flush(30) == 0
