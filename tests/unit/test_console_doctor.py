"""`pointsman doctor`: each check alone on a case made for it, and how all are run: none holds or ends the others."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from console.cli.doctor import all_checks, case_of, exit_code_of, row_of
from console.cli.failures import ExitCode
from console.doctor import deployment, machine, place
from console.doctor.check import Case, Check, Finding, Status, examine, fail, ok, warn
from console.local.data import MARKER, DataDirectory
from console.local.ports import USUAL, Ports, free_ports
from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from schemas.settings import Settings
from schemas.topology import load_topology
from tests.support.console import pointsman
from tests.support.contract import breaches, promises
from tests.support.foreign_registry import ForeignRegistry

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def case(tmp_path: Path, repository: Path) -> Case:
    path = repository / "topology.yaml"
    return Case(tmp_path / "data", {}, path, Settings(), None, load_topology(path))


def test_no_check_holds_or_ends_the_others(case: Case) -> None:
    def broken(_case: Case) -> Finding:
        raise ValueError("of no kind that is known")

    def absent(_case: Case) -> Finding:
        raise UnreachableError("the thing", "there", "it is gone", "Look for it.")

    def several(_case: Case) -> Iterator[Finding]:
        yield ok("one")
        yield warn("two", "mend it")

    held = threading.Event()
    checks = [
        Check("a", "stuck", lambda _case: ok(str(held.wait(60))), limit_s=0.3),
        Check("a", "broken", broken),
        Check("a", "absent", absent),
        Check("a", "several", several),
        Check("a", "without", lambda _case: ok("never"), needs=("topology",)),
    ]
    began = time.monotonic()
    lines = list(examine(replace(case, topology=None), checks))
    held.set()
    assert time.monotonic() - began < 30
    assert [(line.check.name, line.finding.status) for line in lines] == [
        ("stuck", Status.FAIL),
        ("broken", Status.FAIL),
        ("absent", Status.FAIL),
        ("several", Status.OK),
        ("several", Status.WARN),
    ]
    said = {line.check.name: line.finding for line in lines}
    assert said["stuck"].detail == "gave no answer within 0.3 s"
    assert "ValueError: of no kind that is known" in said["broken"].detail
    assert said["absent"] == fail("cannot reach the thing at there: it is gone", "Look for it.", ErrorCode.UNREACHABLE)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], ExitCode.OK),
        ([ErrorCode.NO_BROKER, ErrorCode.NO_CLICKHOUSE], ExitCode.UNREACHABLE),
        ([ErrorCode.SETTING], ExitCode.INVALID),
        ([ErrorCode.SETTING, ErrorCode.NO_BROKER], ExitCode.FAILED),
        ([None], ExitCode.FAILED),
    ],
)
def test_the_exit_code_is_what_all_failures_share(codes: list[ErrorCode | None], expected: ExitCode) -> None:
    assert exit_code_of([fail("x", "y", code) for code in codes]) == expected


def test_java_and_jars_are_needed_for_a_broker_of_ones_own_alone(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "java_version", lambda: 11)
    monkeypatch.setattr(machine, "JARS", tmp_path)
    for check, words in ((machine.java, "Java 11; a local broker needs Java 17"), (machine.jars, "no jars of Apache")):
        found = check(case)
        assert found.status is Status.FAIL
        assert words in found.detail
        assert "--broker" in found.fix
        assert check(replace(case, named=frozenset({"broker"}))).status is Status.OK
    (tmp_path / "kafka_2.13-3.9.0.jar").touch()
    assert "Apache Kafka 3.9.0" in machine.jars(case).detail
    assert machine.jars(case).status is Status.FAIL


def test_packages_are_compared_with_the_lock(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.packages(case).status is Status.OK
    lock = tmp_path / "requirements.lock"
    monkeypatch.setattr(machine, "LOCK", lock)
    lock.write_text('numpy==0.0.1 \\\n    --hash=sha256:0\nnot-there==1 ; python_version < "3"\n')
    found = machine.packages(case)
    assert found.status is Status.FAIL
    assert found.detail.startswith("1 of 2 locked packages differ: numpy ")
    assert "(locked: 0.0.1)" in found.detail
    lock.write_text("not-there==1 \\\n")
    assert machine.packages(case) == warn("1 of 1 locked packages are not installed: not-there", "Run `make setup`.")


@pytest.mark.parametrize(("soft", "status"), [(100, Status.FAIL), (2000, Status.WARN), (9000, Status.OK)])
def test_open_files(case: Case, monkeypatch: pytest.MonkeyPatch, soft: int, status: Status) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, 10_000))
    found = machine.open_files(case)
    assert found.status is status
    assert found.fix == ("" if status is Status.OK else "Raise it before the start: ulimit -n 10000.")


@pytest.mark.parametrize(("mib", "status"), [(500, Status.FAIL), (1500, Status.WARN), (4000, Status.OK)])
def test_memory(case: Case, monkeypatch: pytest.MonkeyPatch, mib: int, status: Status) -> None:
    files = {"/proc/meminfo": "MemTotal: 1\nMemAvailable:   9000000 kB\n"}
    files |= {"/sys/fs/cgroup/memory.max": str((mib + 100) * 2**20), "/sys/fs/cgroup/memory.current": str(100 * 2**20)}
    monkeypatch.setattr(machine, "_read", files.__getitem__)
    assert machine.available_mib() == mib
    assert machine.memory(case).status is status


def test_the_usual_ports_and_who_holds_them(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(place, "USUAL", replace(USUAL, clickhouse=port))
    assert place.port("clickhouse", case) == ok(f"port {port} is free")
    with closing(socket.create_server(("127.0.0.1", port))):
        found = place.port("clickhouse", case)
        assert found.status is Status.WARN
        assert "is held by python" in found.detail
        assert "--clickhouse-port" in found.fix
        ours = DataDirectory(case.data)
        ours.open({})
        Ports(clickhouse=port).remember(case.data)
        assert place.port("clickhouse", case).status is Status.OK
        ours.close()


def test_a_data_directory_that_cannot_be_used(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.directory(case) == ok(f"{case.data} (to be made)")
    (tmp_path / "file").touch()
    found = place.directory(replace(case, data=tmp_path / "file" / "data"))
    assert (found.status, found.code) == (Status.FAIL, ErrorCode.DATA_DIRECTORY)
    case.data.mkdir()
    (case.data / MARKER).write_text('{"layout": 99}')
    assert place.directory(case).code == ErrorCode.DATA_OF_ANOTHER_VERSION
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2**20))
    assert (place.room(case).status, place.room(case).code) == (Status.FAIL, ErrorCode.DISK_FULL)


def test_no_secret_is_shown_and_a_misspelt_variable_is_told(case: Case) -> None:
    environ = {
        "POINTSMAN_CLICKHOUSE_PASSWORD": "hunter2",
        "POINTSMAN_CLICKHOUSE_PASWORD": "hunter3",
        "POINTSMAN_BROKER": "kafka:9092",
    }
    misspelt, stated = deployment.settings(replace(case, environ=environ))
    assert misspelt.status is Status.WARN
    assert "did you mean POINTSMAN_CLICKHOUSE_PASSWORD?" in misspelt.detail
    assert stated.detail == "POINTSMAN_BROKER=kafka:9092, POINTSMAN_CLICKHOUSE_PASSWORD=***"
    assert "hunter" not in f"{misspelt}{stated}"


def test_files_that_kafka_settings_name(case: Case, tmp_path: Path) -> None:
    assert deployment.kafka_files(case) == ok("PLAINTEXT")
    secret = {"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "me", "sasl.password": "pw1"}
    signed = replace(case, settings=Settings(kafka=secret))
    assert deployment.kafka_files(signed) == ok("SASL_SSL, PLAIN as me")
    absent = tmp_path / "ca.pem"
    found = deployment.kafka_files(replace(case, settings=Settings(kafka={**secret, "ssl.ca.location": str(absent)})))
    assert (found.status, found.detail) == (Status.FAIL, f"cannot be read: ssl.ca.location={absent}")
    absent.touch()
    found = deployment.kafka_files(replace(case, settings=Settings(kafka={**secret, "ssl.ca.location": str(absent)})))
    assert found.status is Status.OK
    assert "pw1" not in found.detail


def test_agents_that_cannot_be_called(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(case.topology_path.read_text().replace("finance:sql", "finance:sqll"))
    found = deployment.agents(replace(case, topology_path=path))
    assert found.status is Status.FAIL
    assert "agents.sql_agent.run: agents.builtin.finance has no function sqll" in found.detail
    assert found.detail.startswith("topology.yaml:")
    assert found.code == ErrorCode.FAULTY_TOPOLOGY


def test_everything_absent_is_told_at_once_with_the_promised_fields(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, clickhouse = free_ports(2)
    (tmp_path / "topology.yaml").write_text("agents: {}\n")
    monkeypatch.setenv("POINTSMAN_CLICKHOUSE", f"http://127.0.0.1:{clickhouse}")
    monkeypatch.setenv("POINTSMAN_CLICKHOUSE_PASSWORD", "hunter2")
    said = pointsman(
        capsys,
        *("doctor", "--broker", f"127.0.0.1:{broker}", "--data", str(tmp_path / "data")),
        *("--topology", str(tmp_path / "topology.yaml"), "-o", "jsonl"),
    )
    assert said.code == ExitCode.FAILED
    failed = {row["check"]: row["code"] for row in said.rows if row["status"] == "fail"}
    assert failed == {"topology": "E501", "Kafka": "E301", "ClickHouse": "E303"}
    assert breaches(said.rows, promises()["pointsman doctor"]) == []
    assert "hunter2" not in said.out + said.err
    assert said.err.strip().endswith("3 fail")
    assert "Traceback" not in said.err


def test_what_is_there_by_default_may_be_absent(capsys: Capture, monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    """A machine on which nothing runs yet is no sick one."""
    monkeypatch.chdir(case.topology_path.parent)
    monkeypatch.setattr(place, "USUAL", Ports(broker=1, clickhouse=1, registry=1))
    settings = Settings(broker=f"127.0.0.1:{free_ports(1)[0]}", clickhouse=f"http://127.0.0.1:{free_ports(1)[0]}")
    services = [check for check in all_checks() if check.area == "services"]
    lines = list(examine(replace(case, settings=settings), services))
    assert {line.finding.status for line in lines} == {Status.OK, Status.WARN}
    assert all(row_of(line)["code"] is None for line in lines)


def test_settings_at_fault_keep_from_nothing_else(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.chdir(repository)
    case = case_of({"clickhouse": "localhost"}, Path("data"))
    assert (case.settings, case.topology is None) == (None, False)
    named = {check.name for check in all_checks() if "settings" not in check.needs}
    lines = list(examine(case, [check for check in all_checks() if check.name in ("settings", "topology", "Kafka")]))
    assert {line.check.name: line.finding.status for line in lines} == {
        "settings": Status.FAIL,
        "topology": Status.OK,
    }
    assert {"Python", "Java", "data directory", "agents"} <= named


def test_json_is_one_document(capsys: Capture, tmp_path: Path, repository: Path) -> None:
    said = pointsman(
        capsys, "doctor", "--data", str(tmp_path), "--topology", str(repository / "topology.yaml"), "-o", "json"
    )
    assert {row["area"] for row in json.loads(said.out)} == {"machine", "place", "deployment", "services"}


def test_a_schema_registry_that_is_named(case: Case) -> None:
    foreign = ForeignRegistry(user="me", password="hunter2")
    check = next(check for check in all_checks() if check.name == "schema registry")

    def asked(password: str) -> Finding:
        settings = Settings(
            schema_registry=foreign.url, schema_registry_user="me", schema_registry_password=SecretStr(password)
        )
        (line,) = examine(replace(case, settings=settings), [check])
        assert "hunter" not in str(line.finding)
        return line.finding

    try:
        assert asked("hunter2").status is Status.WARN  # it has no schema of ours yet
        foreign.add("tasks.submitted.v1-value", '"string"')
        assert asked("hunter2") == ok(f"{foreign.url} answers, and has 1 versions of tasks.submitted.v1-value")
        assert (asked("hunter3").status, asked("hunter3").code) == (Status.FAIL, ErrorCode.REGISTRY_REFUSED)
        foreign.is_down = True
        assert (asked("hunter2").status, asked("hunter2").code) == (Status.FAIL, ErrorCode.NO_REGISTRY)
    finally:
        foreign.close()
