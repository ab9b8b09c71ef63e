"""`pointsman doctor` against services that are there: as they should be, locked, and unfit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from console.cli.failures import ExitCode
from console.doctor.check import Case, Status
from console.doctor.services import clock
from schemas.settings import Settings
from schemas.topology import load_topology
from streams.client import Client
from streams.history.migrations import migrate
from streams.history.queries import connect
from streams.transport.admin import ensure_topics
from tests.support.clickhouse_server import PASSWORD, USER, clickhouse_server
from tests.support.console import Said, answering, pointsman, topology_file
from tests.support.contract import breaches, promises
from tests.support.secured import SecuredBroker

pytestmark = pytest.mark.broker

Capture = pytest.CaptureFixture[str]


def services(said: Said) -> dict[str, dict[str, Any]]:
    """The last row of each check of a service."""
    assert breaches(said.rows, promises()["pointsman doctor"]) == []
    return {row["check"]: row for row in said.rows if row["area"] == "services"}


def test_services_that_are_as_they_should_be(
    broker: str, repository: Path, tmp_path: Path, prefix: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    path = topology_file(repository, tmp_path, prefix)
    with clickhouse_server(tmp_path / "clickhouse") as url:
        flags = ("--broker", broker, "--clickhouse", url, "--topology", str(path), "--data", str(tmp_path / "data"))
        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_USER", USER)
        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_PASSWORD", PASSWORD)

        before = pointsman(capsys, "doctor", *flags, "-o", "jsonl")
        assert before.code == ExitCode.OK, before.out
        found = services(before)
        assert found["Kafka"]["detail"] == f"{broker} answers, 1 broker"
        assert found["topics"]["status"] == "warn"
        assert "are missing" in found["topics"]["detail"]
        assert "auto-creation on the broker or not" in found["topics"]["fix"]
        assert found["history's tables"]["detail"] == "none yet; the store makes them when it starts"
        assert f"lets user {USER} in" in found["ClickHouse"]["detail"]

        with answering(broker, path):
            submitted = pointsman(capsys, "submit", "x", "--wait", "--broker", broker, "--topology", str(path))
            assert submitted.code == ExitCode.OK
        migrate(connect(url, USER, PASSWORD))
        after = services(pointsman(capsys, "doctor", *flags, "-o", "jsonl"))
        assert {row["status"] for row in after.values()} == {"ok"}
        assert after["clocks"]["detail"].startswith("the broker's newest record is ")
        assert after["history's tables"]["detail"].endswith("migrations are applied")

        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_PASSWORD", "wrong-one")
        locked = pointsman(capsys, "doctor", *flags, "-o", "jsonl")
        assert locked.code == ExitCode.INVALID
        refused = services(locked)
        assert (refused["ClickHouse"]["status"], refused["ClickHouse"]["code"]) == ("fail", "E527")
        assert refused["topics"]["status"] == "ok"
        assert "wrong-one" not in locked.out + locked.err

        path.write_text(path.read_text().replace("partitions: 4", "partitions: 5"))
        monkeypatch.setenv("POINTSMAN_CLICKHOUSE_PASSWORD", PASSWORD)
        unfit = pointsman(capsys, "doctor", *flags, "-o", "jsonl")
        assert unfit.code == ExitCode.INVALID
        assert "has 4 partitions, topology says 5" in services(unfit)["topics"]["detail"]


def test_a_clock_that_is_behind_the_brokers(
    broker: str, repository: Path, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = topology_file(repository, tmp_path, prefix)
    settings, topology = Settings(broker=broker), load_topology(path)
    case = Case(tmp_path, {}, path, settings, None, topology)
    ensure_topics(settings, topology.topics().specs())
    assert clock(case).detail == "no record tells the broker's time yet"
    with Client.of(settings, topology) as client:
        client.submit("x")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    found = clock(case)
    assert found.status is Status.FAIL
    assert "in the future: one of the two clocks is wrong" in found.detail


def test_a_password_that_kafka_does_not_take(
    tmp_path: Path, repository: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    with SecuredBroker(tmp_path / "broker", ["ops"]) as secured:
        signed = secured.sign_in("ops")
        signed.write_text(signed.read_text().replace("sasl.password=", "sasl.password=wrong-"))
        monkeypatch.setenv("POINTSMAN_KAFKA_CONFIG", str(signed))
        said = pointsman(capsys, "doctor", "--broker", secured.address, "--data", str(tmp_path / "data"), "-o", "jsonl")
    kafka = services(said)["Kafka"]
    assert said.code == ExitCode.UNREACHABLE
    assert (kafka["status"], kafka["code"]) == ("fail", "E301")
    assert "Authentication failed" in kafka["detail"]
    assert [row["detail"] for row in said.rows if row["check"] == "Kafka's settings"] == [
        f"SASL_PLAINTEXT, PLAIN as ops by {signed}"
    ]
    assert "wrong-" not in said.out + said.err
