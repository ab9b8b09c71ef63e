"""The comparison with peers: its judge finds what differs, its report adds up, its pieces stay the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.peers import cpu, piece, report
from loadtest.peers.contestants import CONTESTANTS, OURS, PEERS, NotInstalledError
from loadtest.peers.judge import Judge, Place, Written, compare
from loadtest.peers.report import Entry, Round
from loadtest.peers.run import LOG_CHARS, shortened
from loadtest.peers.shared.decide import Decider
from loadtest.peers.shared.wire import Avro
from schemas.topology import Topology, load_topology

TASKS = 400
NOW_US = 1_790_000_000_000_000
SECOND_US = 1_000_000


class Case:
    """Some tasks, what the oracle says of them, and what the peers' shared decision made of them."""

    def __init__(self, topology: Topology) -> None:
        self.topics = topology.topics()
        config = json.loads(json.dumps(piece.peer_config(topology, "", "", "")))
        self.avro, decider = Avro(config["schemas"]), Decider(config["policy"])
        self.judge = Judge(topology)
        self.written: dict[Place, list[Written]] = {}
        for batch in piece.records(topology, TASKS):
            pairs = list(zip(batch.keys, batch.values, strict=True))
            tasks = [(key or b"", self.avro.decode(value or b"", "TaskSubmitted")) for key, value in pairs]
            self.judge.take(0, tasks)
            for key, task in tasks:
                for record, agent, datum in decider.decide(task, NOW_US):
                    place = (self._topic(record, agent), 0)
                    self.written.setdefault(place, []).append((key, self.avro.encode(record, datum)))

    def _topic(self, record: str, agent: str | None) -> str:
        if agent is not None:
            return self.topics.inbox(agent)
        return self.topics.results if record == "TaskResult" else self.topics.orchestrator

    def reason(self, written: dict[Place, list[Written]] | None = None, now_us: int = NOW_US) -> str | None:
        """Why a peer that wrote this is void."""
        decode = self._decode
        found = self.written if written is None else written
        return compare(self.judge.expected, found, decode, now_us - SECOND_US, now_us + SECOND_US).reason

    def _decode(self, topic: str, value: bytes) -> dict[str, Any]:
        return self.avro.decode(value, self.topics.record_of(topic) or "")

    def tampered(self, kind: str, change: Callable[[dict[str, Any]], None]) -> dict[Place, list[Written]]:
        """The same output, but for one record of this kind."""
        place = next(each for each in self.written if self.topics.record_of(each[0]) == kind)
        first, *rest = self.written[place]
        record = self._decode(place[0], first[1] or b"")
        change(record)
        return {**self.written, place: [(first[0], self.avro.encode(kind, record)), *rest]}


@pytest.fixture(scope="module")
def topology() -> Topology:
    return piece.bench_topology(load_topology(Path("topology.yaml")), "")


@pytest.fixture(scope="module")
def case(topology: Topology) -> Case:
    return Case(topology)


def test_the_peers_shared_decision_is_the_oracles(case: Case) -> None:
    assert case.reason() is None
    kinds = {case.topics.record_of(topic) for topic, _ in case.written}
    assert kinds == {"TaskDispatched", "TaskResult", "OrchestratorEvent"}
    reasons = {want.record["slip"]["reason"] for want in wanted(case) if "slip" in want.record}
    assert reasons == {"ROUTED", "PANEL", "LOW_CONFIDENCE"}
    assert {want.record["reason"] for want in wanted(case) if "status" in want.record} == {"RULE", "LOW_CONFIDENCE"}


def wanted(case: Case) -> Iterator[Any]:
    for records in case.judge.expected.values():
        yield from records


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("TaskDispatched", lambda it: it["slip"].update(confidence=0.123), "slip.confidence"),
        ("TaskDispatched", lambda it: it["slip"].update(agent_id="another"), "slip.agent_id"),
        ("TaskDispatched", lambda it: it["slip"].update(chain=["another"]), "slip.chain"),
        ("TaskDispatched", lambda it: it["slip"].update(value_tier="UNKNOWN"), "slip.value_tier"),
        ("TaskDispatched", lambda it: it["slip"].update(routed_at=NOW_US - 60 * SECOND_US), "outside of the run"),
        ("TaskDispatched", lambda it: it["slip"].update(deadline_default_ms=1), "slip.deadline_default_ms"),
        ("TaskDispatched", lambda it: it["task"].update(text="another"), "task.text"),
        ("TaskResult", lambda it: it.update(answer="another"), "answer"),
        ("TaskResult", lambda it: it.update(status="FAILED"), "status"),
        ("TaskResult", lambda it: it.update(decided_at=0), "outside of the run"),
        ("OrchestratorEvent", lambda it: it.update(event_id="0" * 32), "event_id"),
        ("OrchestratorEvent", lambda it: it.update(intent=None), "intent"),
    ],
)
def test_one_tampered_field_makes_a_peer_void(
    case: Case, kind: str, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    reason = case.reason(case.tampered(kind, change))
    assert reason is not None
    assert reason.startswith("1 of ")
    assert words in reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda records: records[:-1], "is missing"),
        (lambda records: [*records, records[0]], "is one too many"),
        (lambda records: [records[1], records[0], *records[2:]], ""),
        (lambda records: [(b"another", records[0][1]), *records[1:]], "key b'another'"),
        (lambda records: [(records[0][0], b"garbage"), *records[1:]], "cannot be decoded"),
        (lambda records: [(records[0][0], None), *records[1:]], "cannot be decoded"),
        (lambda records: [(records[0][0], records[0][1][:-9]), *records[1:]], ""),
    ],
)
def test_a_lost_a_repeated_a_swapped_and_an_unreadable_record_make_a_peer_void(
    case: Case, change: Callable[[list[Written]], list[Written]], words: str
) -> None:
    place = max(case.written, key=lambda each: len(case.written[each]))
    reason = case.reason({**case.written, place: change(case.written[place])})
    assert reason is not None
    assert words in reason


def test_results_and_notes_may_overtake_and_dispatches_may_not(case: Case) -> None:
    for place, records in case.written.items():
        reason = case.reason({**case.written, place: records[::-1]})
        assert (reason is None) is (case.topics.record_of(place[0]) != "TaskDispatched")


def test_a_record_in_another_partition_is_wrong_twice(case: Case) -> None:
    place = max(case.written, key=lambda each: len(case.written[each]))
    *others, last = case.written[place]
    reason = case.reason({**case.written, place: others, (place[0], 1): [last]})
    assert reason is not None
    assert reason.startswith("2 of ")


def test_the_same_seed_gives_the_same_bytes(topology: Topology) -> None:
    first, again, another = (list(piece.records(topology, 50, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != another


def test_no_task_of_a_run_times_out_within_it(topology: Topology) -> None:
    assert min(agent.timeout_ms for agent in topology.agents.values()) == piece.HOUR_MS
    assert all((route.deadline_ms or 0) > piece.HOUR_MS for route in topology.routes.values())


# ------------------------------------------------------------------ the report

ENTRIES = [Entry(OURS, "ours", "1"), Entry("other", "theirs", "2")]
QUIET = Round(OURS, 1_000, 2.0, 0.01, 0.002, 100.0, 0.01, 0.5)


def line(rounds: list[Round], name: str) -> dict[str, Any]:
    return next(each for each in report.lines(ENTRIES, rounds, OURS) if each["name"] == name)


def test_figures_are_medians_of_the_rounds() -> None:
    rounds = [replace(QUIET, cpu_s=cost) for cost in (0.01, 0.02, 0.5)]
    found = line(rounds, OURS)
    assert (found["records_per_core_second"], found["cpu_us_per_record"]) == (50_000.0, 20.0)
    assert (found["records_per_second"], found["broker_cpu_us_per_record"]) == (500.0, 2.0)
    assert (found["void"], found["void_reason"], found["rounds"]) == (False, None, 3)


def test_the_ratio_is_of_records_per_core_second() -> None:
    rounds = [QUIET, replace(QUIET, peer="other", cpu_s=0.04, seconds=0.1)]
    assert line(rounds, "other")["ratio_ours_to_peer"] == 4.0
    assert line(rounds, OURS)["ratio_ours_to_peer"] == 1.0


def test_a_peer_that_decides_otherwise_has_no_figures_at_all() -> None:
    rounds = [QUIET, replace(QUIET, peer="other"), replace(QUIET, peer="other", fault="1 of 9 records are wrong")]
    found = line(rounds, "other")
    assert found["void"]
    assert found["void_reason"] == "1 of 9 records are wrong"
    assert {found[name] for name in (*report.FIGURES, "ratio_ours_to_peer")} == {None}


def test_ours_void_leaves_nothing_to_compare_with() -> None:
    rounds = [replace(QUIET, fault="wrong"), replace(QUIET, peer="other")]
    assert line(rounds, "other")["ratio_ours_to_peer"] is None


def test_busy_rounds_do_not_count_beside_quiet_ones() -> None:
    found = line([QUIET, replace(QUIET, cpu_s=9.0, foreign_share=0.5)], OURS)
    assert (found["cpu_us_per_record"], found["rounds"], found["rounds_busy"], found["void"]) == (10.0, 1, 1, False)


def test_a_machine_that_never_was_quiet_gives_void_figures() -> None:
    found = line([replace(QUIET, foreign_share=0.5)], OURS)
    assert found["void"]
    assert found["void_reason"].startswith("busy machine: others had 50%")
    assert found["cpu_us_per_record"] == 10.0


def test_who_was_skipped_says_why() -> None:
    entries = [ENTRIES[0], replace(ENTRIES[1], skipped="no wheel")]
    found = report.lines(entries, [QUIET], OURS)[1]
    assert (found["void"], found["void_reason"]) == (True, "skipped: no wheel")


def test_the_page_shows_every_peer_and_what_is_void() -> None:
    rounds = [QUIET, replace(QUIET, peer="other", fault="1 of 9 records are wrong")]
    run = {
        "records": 1000,
        "warm_up_records": 10,
        "rounds": 1,
        "at": "now",
        "load_average_min": 0,
        "load_average_max": 1,
    }
    machine = {"cores": 2, "cpu": "any"}
    page = report.markdown({"run": run, "machine": machine, "peers": report.lines(ENTRIES, rounds, OURS)})
    assert "| pointsman: ours | 1 | 100,000 | 10.0 | 2.0 | 500 |" in page
    assert "| *other: theirs* (void) | 2 |  |" in page
    assert "- other: 1 of 9 records are wrong" in page


# ------------------------------------------------------------------ CPU time


def test_children_count_and_strangers_are_foreign() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    before = cpu.sample({"us": os.getpid(), "other": child.pid})
    subprocess.run([sys.executable, "-c", burn], check=True)
    spent = cpu.sample({"us": os.getpid(), "other": child.pid}).since(before)
    child.communicate()
    assert spent.cpu_s["us"] >= 0.3
    assert spent.cpu_s["other"] < spent.cpu_s["us"]
    assert cpu.rss_mib(os.getpid()) > 10


def test_the_foreign_share_is_what_nobody_of_ours_spent() -> None:
    assert cpu.Spent(2.0, {"peer": 1.0, "broker": 0.5}, 1.5).foreign_share == 0.0
    assert cpu.Spent(2.0, {"peer": 1.0}, 1.0 + cpu.CORES).foreign_share == pytest.approx(0.5)
    assert cpu.Spent(2.0, {"peer": 1.0}, 0.9).foreign_share == 0.0  # the clocks tick apart


# ------------------------------------------------------------------ the peers


def test_every_peer_is_pinned_to_a_version() -> None:
    assert len(CONTESTANTS) == 7
    assert not [name for name, each in CONTESTANTS.items() if "unknown" in each.version()]


@pytest.mark.parametrize("lock", sorted(PEERS.glob("*/requirements.lock")), ids=lambda lock: lock.parent.name)
def test_locks_have_hashes_and_no_addresses(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    pinned = [number for number, line in enumerate(lines) if "==" in line]
    assert len(pinned) > 5
    assert all("--hash=sha256:" in lines[number + 1] for number in pinned)
    assert "://" not in lock.read_text()


def test_a_peer_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.peers.contestants.KAFKA_STREAMS", tmp_path)
    monkeypatch.setattr("loadtest.peers.contestants.JAR", tmp_path / "target" / "peer.jar")
    (tmp_path / "pom.xml").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalledError, match="java is missing"):
        CONTESTANTS["kafka-streams"].setup()


def test_an_environment_is_installed_once_for_each_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def run(command: list[str]) -> None:
        made.append(command[-1])
        (tmp_path / "quix_streams" / ".venv").mkdir(exist_ok=True)

    monkeypatch.setattr("loadtest.peers.contestants.PEERS", tmp_path)
    monkeypatch.setattr("loadtest.peers.contestants._run", run)
    lock = tmp_path / "quix_streams" / "requirements.lock"
    lock.parent.mkdir()
    lock.write_text("one")
    setup = CONTESTANTS["quix-streams"].setup
    setup()
    first = list(made)
    lock.touch()  # as a checkout does
    setup()
    assert made == first
    lock.write_text("two")
    setup()
    assert made == first * 2


def test_long_words_are_shown_by_both_ends() -> None:
    assert shortened("short") == "short"
    assert len(shortened("first" + "." * 9_999 + "last")) < LOG_CHARS + 10
    assert shortened("first" + "." * 9_999 + "last").endswith("last")
