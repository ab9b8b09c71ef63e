"""The deployment's topics and access rules as other tools take them: kafka-acls commands, and resources for Strimzi.

Derived from the topology and `schemas.access` alone: no broker is asked. I/O: none.
"""

from __future__ import annotations

import io
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

from ruamel.yaml import YAML

from schemas.access import PRINCIPALS, Grant, Operation, Principal, grants
from schemas.topics import Topics, TopicSpec

# Strimzi 0.49 and later; the one before, v1beta2, has the same fields.
STRIMZI = "kafka.strimzi.io/v1"
STRIMZI_TYPES = {"transactional-id": "transactionalId"}
NAME_MAX = 253  # of a Kubernetes object
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
ABOUT: dict[Principal, str] = {
    "worker": "decides: one for all workers",
    "host": "runs agents: one for all hosts",
    "store": "keeps the history",
    "producer": "submits tasks",
    "subscriber": "reads results; its consumer group begins with the name granted here",
    "operator": "runs `pointsman topics`",
    "mender": "pauses topics, and sends dead letters back",
}


def user_of(principal: Principal, prefix: str) -> str:
    """The name under which a principal of this deployment signs in."""
    return f"{prefix}pointsman-{principal}"


def acl_commands(topics: Topics, broker: str) -> Iterator[str]:
    """A shell script: for each principal one kafka-acls command for each set of rights."""
    yield "#!/bin/sh"
    yield "# The least rights of each principal. Read and Write imply Describe. ADMIN names a file that signs in"
    yield "# as somebody who may change access rules. A new agent needs its rights: print this again."
    yield "set -eu"
    rights = list(grants(topics))
    for principal in PRINCIPALS:
        yield ""
        yield f"# {principal}: {ABOUT[principal]}"
        for (resource, pattern, operations), names in _by_rights(rights, principal).items():
            words = ["kafka-acls.sh", "--bootstrap-server", broker, "--command-config", "$ADMIN", "--add"]
            words += ["--allow-principal", f"User:{user_of(principal, topics.prefix)}"]
            words += [word for operation in operations for word in ("--operation", operation)]
            words += ["--resource-pattern-type", "prefixed"] if pattern == "prefix" else []
            words += [word for name in names for word in (f"--{resource}", name)]
            yield " ".join('"$ADMIN"' if word == "$ADMIN" else shlex.quote(word) for word in words)


def _by_rights(
    rights: Iterable[Grant], principal: Principal
) -> dict[tuple[str, str, tuple[Operation, ...]], list[str]]:
    groups: dict[tuple[str, str, tuple[Operation, ...]], list[str]] = defaultdict(list)
    for grant in rights:
        if grant.principal == principal:
            groups[grant.resource, grant.pattern, grant.operations].append(grant.name)
    return groups


def strimzi(topics: Topics, cluster: str) -> str:
    """A KafkaTopic for each topic and a KafkaUser for each principal, as one YAML stream for `kubectl apply -f -`."""
    rights = list(grants(topics))
    documents = [
        *(_topic(spec, topics.prefix, cluster) for spec in topics.specs()),
        *(_user(principal, topics.prefix, rights, cluster) for principal in PRINCIPALS),
    ]
    yaml, text = YAML(), io.StringIO()
    yaml.explicit_start = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    yaml.dump_all(documents, text)
    return text.getvalue()


def kubernetes_name(name: str, prefix: str = "") -> str:
    """A valid object name, and no other's: `name` with hyphens for underscores, else a likeness that ends in its hash.

    Agents' names have no hyphens, so within a deployment the first is safe; a prefix has to be valid as it is.
    """
    alike = prefix + name.removeprefix(prefix).replace("_", "-")
    if len(alike) <= NAME_MAX and all(LABEL.fullmatch(label) for label in alike.split(".")):
        return alike
    digest = blake2b(name.encode(), digest_size=4).hexdigest()
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: NAME_MAX - len(digest) - 1]
    return f"{short}-{digest}".lstrip("-")


def _topic(spec: TopicSpec, prefix: str, cluster: str) -> dict[str, Any]:
    replicas = {} if spec.replication is None else {"replicas": spec.replication}
    config = {key: int(value) if value.isdecimal() else value for key, value in spec.config().items()}
    return {
        "apiVersion": STRIMZI,
        "kind": "KafkaTopic",
        "metadata": _metadata(spec.name, prefix, cluster),
        "spec": {"topicName": spec.name, "partitions": spec.partitions, **replicas, "config": config},
    }


def _user(principal: Principal, prefix: str, rights: Iterable[Grant], cluster: str) -> dict[str, Any]:
    acls = [
        {
            "resource": {
                "type": STRIMZI_TYPES.get(grant.resource, grant.resource),
                "name": grant.name,
                "patternType": grant.pattern,
            },
            "operations": list(grant.operations),
        }
        for grant in rights
        if grant.principal == principal
    ]
    return {
        "apiVersion": STRIMZI,
        "kind": "KafkaUser",
        "metadata": _metadata(user_of(principal, prefix), prefix, cluster),
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        },
    }


def _metadata(name: str, prefix: str, cluster: str) -> dict[str, Any]:
    return {"name": kubernetes_name(name, prefix), "labels": {"strimzi.io/cluster": cluster}}
