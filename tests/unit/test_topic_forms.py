"""The plan in other tools' words: commands that a shell takes apart as meant, resources that Kubernetes takes."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from ruamel.yaml import YAML

from console.cli.topic_forms import acl_commands, kubernetes_name, strimzi
from schemas.access import PRINCIPALS, grants
from schemas.topics import Topics
from schemas.topology import TopicPolicy

PLAIN = Topics(("pdf_agent", "b"), 4)
DOMAIN = Topics(("pdf_agent", "b"), 4, "Eu_west.", TopicPolicy(replication=3, min_insync_replicas=2))
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
# As kafka-acls calls what Strimzi calls otherwise.
TYPES = {"transactionalId": "transactional-id"}


def granted(script: Iterator[str], prefix: str) -> set[tuple[str, str, str, str, str]]:
    """Principal, resource, name, pattern and operation of each rule that the script would add."""
    found = set()
    for line in script:
        words = shlex.split(line, comments=True)
        if not words or words[0] != "kafka-acls.sh":
            continue
        flags = list(itertools.pairwise(words))
        values = {
            name: [value for flag, value in flags if flag == f"--{name}"]
            for name in ("allow-principal", "operation", "topic", "group", "transactional-id", "resource-pattern-type")
        }
        (principal,) = values["allow-principal"]
        pattern = "prefix" if values["resource-pattern-type"] == ["prefixed"] else "literal"
        who = principal.removeprefix(f"User:{prefix}pointsman-")
        for resource in ("topic", "group", "transactional-id"):
            found |= {
                (who, resource, name, pattern, operation)
                for name in values[resource]
                for operation in values["operation"]
            }
    return found


def meant(topics: Topics) -> set[tuple[str, str, str, str, str]]:
    return {
        (grant.principal, grant.resource, grant.name, grant.pattern, operation)
        for grant in grants(topics)
        for operation in grant.operations
    }


def documents(topics: Topics) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(StringIO(strimzi(topics, "events"))))


@pytest.mark.parametrize("topics", [PLAIN, DOMAIN])
def test_the_commands_grant_what_is_meant_and_no_more(topics: Topics) -> None:
    assert granted(acl_commands(topics, "kafka:9092"), topics.prefix) == meant(topics)


def test_the_script_stops_at_the_first_failure_and_holds_no_secret() -> None:
    lines = list(acl_commands(PLAIN, "kafka:9092"))
    assert lines[0] == "#!/bin/sh"
    assert "set -eu" in lines
    commands = [line for line in lines if line.startswith("kafka-acls.sh")]
    assert all('--bootstrap-server kafka:9092 --command-config "$ADMIN"' in line for line in commands)


@pytest.mark.parametrize("topics", [PLAIN, DOMAIN])
def test_each_topic_is_a_resource(topics: Topics) -> None:
    found = [each for each in documents(topics) if each["kind"] == "KafkaTopic"]
    specs = topics.specs()
    assert [each["spec"]["topicName"] for each in found] == [spec.name for spec in specs]
    for each, spec in zip(found, specs, strict=True):
        assert each["apiVersion"] == "kafka.strimzi.io/v1"
        assert each["metadata"]["labels"] == {"strimzi.io/cluster": "events"}
        assert each["spec"]["partitions"] == spec.partitions
        assert each["spec"].get("replicas") == spec.replication
        assert {key: str(value) for key, value in each["spec"]["config"].items()} == spec.config()
        assert isinstance(each["spec"]["config"].get("retention.ms", 0), int)


@pytest.mark.parametrize("topics", [PLAIN, DOMAIN])
def test_each_principal_is_a_user_with_its_rights(topics: Topics) -> None:
    found = [each for each in documents(topics) if each["kind"] == "KafkaUser"]
    assert len(found) == len(PRINCIPALS)
    rights = set()
    for principal, each in zip(PRINCIPALS, found, strict=True):
        assert each["spec"]["authentication"] == {"type": "scram-sha-512"}
        assert each["spec"]["authorization"]["type"] == "simple"
        for acl in each["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            rights |= {
                (
                    principal,
                    TYPES.get(resource["type"], resource["type"]),
                    resource["name"],
                    resource["patternType"],
                    operation,
                )
                for operation in acl["operations"]
            }
    assert rights == meant(topics)


@pytest.mark.parametrize("topics", [PLAIN, DOMAIN, Topics(("a",), 1, "-_.-"), Topics(("x" * 150, "y_" * 70), 1, "p.")])
def test_names_are_valid_for_kubernetes_and_each_its_own(topics: Topics) -> None:
    names = [each["metadata"]["name"] for each in documents(topics)]
    assert [name for name in names if not SUBDOMAIN.fullmatch(name) or len(name) > 253] == []
    assert len(set(names)) == len(names)


def test_deployments_whose_prefixes_look_alike_keep_apart() -> None:
    names = [kubernetes_name(f"{prefix}tasks.v1", prefix) for prefix in ("eu-1.", "eu_1.", "EU-1.", "eu.1.")]
    assert len(set(names)) == len(names)
    assert kubernetes_name("agents.pdf_agent.inbox.v1") == "agents.pdf-agent.inbox.v1"
