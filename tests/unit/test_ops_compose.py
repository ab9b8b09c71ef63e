"""The compose file and the image: pinned, confined, watched, and told nothing that our commands do not take."""

from __future__ import annotations

import re
import tomllib
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from console.cli.stopping import END_TIMEOUT_S
from schemas.settings import Settings
from tests.support.operations import ROOT, VARIABLE, compose, environment, ours, yaml
from tests.unit.test_docs import VARIABLES, command_exists

PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+[\w.-]*")
SECONDS = {"s": 1, "m": 60}
# Both write their configuration into themselves when they start.
WRITABLE = {"kafka", "clickhouse"}
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")

services = pytest.mark.parametrize("name", list(compose()))
processes = pytest.mark.parametrize("name", list(ours()))


def seconds(text: str) -> int:
    return int(text[:-1]) * SECONDS[text[-1]]


def runs_once(service: dict[str, Any]) -> bool:
    return bool(service["restart"] == "no")


def test_it_is_what_it_says() -> None:
    assert set(compose()) == {"kafka", "clickhouse", "topics", "worker", "host", "store", "prometheus", "grafana"}
    assert compose()["worker"]["deploy"]["replicas"] == 2


@services
def test_an_image_is_pinned_or_built_here(name: str) -> None:
    service = compose()[name]
    if "build" in service:
        assert service["image"] == "pointsman:local"
    else:
        assert PINNED.fullmatch(service["image"]), service["image"]


@services
def test_what_stays_up_has_a_health_check(name: str) -> None:
    service = compose()[name]
    check = service["healthcheck"]
    if runs_once(service):
        assert check == {"disable": True}
        return
    assert check["test"]
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert check["retries"] >= 2
    assert seconds(check["start_period"]) >= 30


@services
def test_ports_are_published_on_loopback_alone(name: str) -> None:
    for port in compose()[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@services
def test_a_service_is_confined_and_its_end_is_waited_for(name: str) -> None:
    service = compose()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in {"0", "root", ""}
    assert service.get("read_only", False) == (name not in WRITABLE)
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert re.fullmatch(r"\d+[mg]", service["deploy"]["resources"]["limits"]["memory"])
    assert seconds(service["stop_grace_period"]) >= 2 * END_TIMEOUT_S
    assert runs_once(service) or service["restart"] == "unless-stopped"


@services
def test_volumes_are_declared_and_files_exist(name: str) -> None:
    declared = set(yaml("docker-compose.yml")["volumes"])
    for volume in compose()[name]["volumes"]:
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists()
            assert mode == ["ro"]
        else:
            assert source in declared


def test_every_declared_volume_is_used() -> None:
    used = {volume.split(":")[0] for service in compose().values() for volume in service["volumes"]}
    assert set(yaml("docker-compose.yml")["volumes"]) <= used


@services
def test_what_is_waited_for_can_come(name: str) -> None:
    for other, wait in compose()[name].get("depends_on", {}).items():
        once = runs_once(compose()[other])
        assert wait["condition"] == ("service_completed_successfully" if once else "service_healthy")


@processes
def test_a_command_is_one_of_ours(name: str) -> None:
    assert command_exists(f"pointsman {' '.join(ours()[name]['command'])}")


@processes
def test_the_environment_is_understood(name: str) -> None:
    given = environment(ours()[name], CLICKHOUSE_PASSWORD="p4ss")
    assert set(given) <= VARIABLES
    settings = Settings.resolve({}, given)
    assert settings.clickhouse_password.get_secret_value() == "p4ss"
    assert settings.broker in compose()["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.clickhouse == "http://clickhouse:8123"
    assert settings.clickhouse_user == compose()["clickhouse"]["environment"]["CLICKHOUSE_USER"]
    assert f"{settings.topology}:ro" in ours()[name]["volumes"][0]
    if not runs_once(ours()[name]):
        assert f":{settings.metrics_port}/ready" in ours()[name]["healthcheck"]["test"][-1]


def test_no_password_is_in_the_file_and_each_is_asked_for() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    example = (ROOT / "ops/env.example").read_text("utf-8")
    asked = set(VARIABLE.findall(text))
    assert asked == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
    secrets = [line for line in text.splitlines() if re.match(r"\s*\w*PASSWORD\w*:", line)]
    assert secrets
    assert all(VARIABLE.search(line) for line in secrets)


def test_kafka_is_the_version_that_the_tests_run_on() -> None:
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    pom = ET.parse(ROOT / "ops/broker/pom.xml")
    version = pom.findtext(".//m:dependency[m:groupId='org.apache.kafka']/m:version", namespaces=space)
    assert compose()["kafka"]["image"] == f"apache/kafka:{version}"


def test_kafka_makes_no_topic_by_itself_and_forgets_no_position_for_a_month() -> None:
    given = compose()["kafka"]["environment"]
    assert given["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert int(given["KAFKA_OFFSETS_RETENTION_MINUTES"]) >= 30 * 24 * 60


# ------------------------------------------------------------------ the image


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.removeprefix(f"{name} ").strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_the_image_is_built_in_two_stages_from_a_pinned_python() -> None:
    bases = [line.split()[0] for line in instructions("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases[0])


def test_only_the_lock_is_installed_and_only_by_hash() -> None:
    steps = [step for line in instructions("RUN") for step in line.split("&&")]
    fetching = [step for step in steps if re.search(r"pip (install|wheel|download)", step)]
    assert [step for step in fetching if "--no-index" not in step and "--no-deps" not in step] == [
        step for step in fetching if "--require-hashes" in step
    ]
    assert sum("--require-hashes" in step for step in fetching) == 1


def test_it_runs_our_command_as_nobody_special() -> None:
    assert instructions("ENTRYPOINT") == ['["pointsman"]']
    assert instructions("USER") == ["10001:10001"]
    assert {service["user"] for service in ours().values()} == {"10001:10001"}


def test_what_is_copied_exists_and_is_let_through() -> None:
    allowed = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = [source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert {f"!{source.removeprefix('./')}" for source in copied} == {line for line in allowed if line.startswith("!")}


def test_every_package_of_ours_is_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = {each.rstrip("*") for each in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= {source for line in instructions("COPY") for source in line.split()[:-1]}


def test_its_defaults_are_settings_of_ours() -> None:
    given = dict(re.findall(r"(POINTSMAN_\w+)=(\S+)", " ".join(instructions("ENV"))))
    assert set(given) <= VARIABLES
    settings = Settings.resolve({}, given)
    assert str(settings.metrics_port) in instructions("EXPOSE")
    assert "/ready" in instructions("HEALTHCHECK")[0]
