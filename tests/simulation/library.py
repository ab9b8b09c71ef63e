"""Puts the in-memory broker's clients where the transport has imported confluent_kafka's.

A client whose `bootstrap.servers` is not the address of an in-memory cluster is the real one. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import confluent_kafka as ck
from confluent_kafka import admin

from streams.transport import producer, requests
from tests.simulation.admin import AdminClient
from tests.simulation.consumer import Consumer
from tests.simulation.fetching import places as fetching
from tests.simulation.producer import Producer
from tests.simulation.standins import replaced
from tests.simulation.turns import Nodes, Turns, Wires
from tests.simulation.wire import Cluster

ADDRESS = "memory:9092"
MODULES = (
    "streams.transport.consumer",
    "streams.transport.producer",
    "streams.transport.faust_reader",
    "streams.transport.admin",
    "streams.transport.topic_admin",
)


class Library:
    """Takes the place of the module `confluent_kafka`: its clients are those of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.__dict__.update(_THE_REST)
        self._cluster = cluster

    def __getattr__(self, name: str) -> Any:
        return getattr(ck, name)

    def Consumer(self, config: Mapping[str, Any]) -> Any:  # noqa: N802  the module's name
        return Consumer(self._cluster, config) if _is_ours(config) else ck.Consumer(config)

    def Producer(self, config: Mapping[str, Any]) -> Any:  # noqa: N802  the module's name
        return Producer(self._cluster, config) if _is_ours(config) else ck.Producer(config)

    def AdminClient(self, config: Mapping[str, Any]) -> Any:  # noqa: N802  the module's name
        return AdminClient(self._cluster, config) if _is_ours(config) else admin.AdminClient(config)


_THE_REST = {name: what for name, what in vars(ck).items() if name not in vars(Library)}
"""Of confluent_kafka: looked up in one step."""


def _is_ours(config: Mapping[str, Any]) -> bool:
    return bool(config.get("bootstrap.servers") == ADDRESS)


def _vacate(cluster: Cluster, config: Mapping[str, Any]) -> None:
    if _is_ours(config) and "group.instance.id" in config and cluster.broker.is_up:
        cluster.broker.group(config["group.id"]).vacate(config["group.instance.id"])


def _connect(consumer: Any, topic: str) -> None:
    """An in-memory client is connected from the beginning."""
    if not isinstance(consumer, Consumer):
        _REALLY_CONNECT(consumer, topic)


_REALLY_CONNECT = requests.connect


@contextmanager
def installed(cluster: Cluster, *modules: str, has_turns: bool = False) -> Iterator[Library]:
    """In the transport, and in further modules that have imported confluent_kafka as `ck`.

    The producer of turns is librdkafka's, and so the cluster's; with `has_turns` it is itself, on virtual connections.
    """
    library = Library(cluster)
    places: list[tuple[str, Any]] = [(f"{module}.ck", library) for module in (*MODULES, *modules)]
    nodes = Nodes(cluster)
    places.append(("streams.transport.sender.Brokers", partial(Wires, nodes)))
    turns = partial(Turns, nodes) if has_turns else producer.Producer
    places.append(("streams.transport.turn_producer.TurnProducer", turns))
    places += fetching(nodes)
    # The in-memory client's commits have a deadline, as librdkafka's ought to.
    places.append(("streams.transport.requests.within", lambda call, _: call()))
    places += [(f"streams.transport.{module}.connect", _connect) for module in ("requests", "faust_reader")]
    places += [(f"{module}.vacate", partial(_vacate, cluster)) for module in ("streams.app", "agents.process")]
    with replaced(*places, ("streams.transport.topic_admin.AdminClient", library.AdminClient)):
        yield library
