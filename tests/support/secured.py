"""A broker that signs users in and refuses whatever nobody granted: SASL PLAIN and the standard authorizer.

I/O: processes, files, Kafka.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from console.local.broker import LocalBroker
from console.local.ports import free_ports
from tests.support.waiting import until

PASSWORD = "not-a-secret"
GRANTED_S = 15.0
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
# Later lines win over the usual ones above them.
PROPERTIES = """
listeners=CLIENTS://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://127.0.0.1:{port},PLAINTEXT://127.0.0.1:{inside}
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""

EVERY_RULE = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)
KINDS = {
    "--topic": ResourceType.TOPIC,
    "--group": ResourceType.GROUP,
    "--transactional-id": ResourceType.TRANSACTIONAL_ID,
}


class SecuredBroker(LocalBroker):
    """`address` is where users sign in; `inside` is a listener for whoever sets rights, and needs no password."""

    def __init__(self, data_dir: Path, users: Iterable[str]) -> None:
        super().__init__(data_dir, heap_mib=384, short_lived=True)
        (inside,) = free_ports(1)
        self.inside, self._users, self._folder = f"127.0.0.1:{inside}", tuple(users), data_dir

    def _write_config(self) -> Path:
        config = super()._write_config()
        _, controller = (self._folder / "ports").read_text().split()
        users = " ".join(f'user_{user}="{PASSWORD}"' for user in self._users)
        more = PROPERTIES.format(
            port=self.port, inside=self.inside.partition(":")[2], controller=controller, users=users
        )
        config.write_text(config.read_text() + more)
        return config

    def grant(self, script: Iterable[str]) -> None:
        """Adds the rules that a script of kafka-acls commands would add; the broker goes by them when this returns.

        It is the controller that says they are made. The broker hears of it a moment later, and refuses until then; the
        rules that it shows are those by which it judges.
        """
        client = AdminClient({"bootstrap.servers": self.inside})  # kept: its futures fail with it
        rules = list(bindings(script))
        for future in client.create_acls(rules, request_timeout=30).values():
            future.result()
        until(lambda: {*rules} <= {*client.describe_acls(EVERY_RULE, request_timeout=30).result()}, GRANTED_S)

    def sign_in(self, user: str) -> Path:
        """The file for POINTSMAN_KAFKA_CONFIG by which a client is this user."""
        path = self._folder / f"{user}.properties"
        path.write_text(
            f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username={user}\nsasl.password={PASSWORD}\n"
        )
        return path


def bindings(script: Iterable[str]) -> Iterator[AclBinding]:
    """The rules that the commands add, as the client library takes them."""
    for line in script:
        words = shlex.split(line, comments=True)
        if not words or words[0] != "kafka-acls.sh":
            continue
        pairs = list(itertools.pairwise(words))
        (principal,) = (value for flag, value in pairs if flag == "--allow-principal")
        prefixed = ("--resource-pattern-type", "prefixed") in pairs
        pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
        for flag, kind in KINDS.items():
            for name in (value for word, value in pairs if word == flag):
                for operation in (OPERATIONS[value] for word, value in pairs if word == "--operation"):
                    yield AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)
