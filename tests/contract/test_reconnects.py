"""How often a client of ours knocks where a broker was: what listens there is busy with starting it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import AdminClient

from streams.transport.clients import ConnectionWatch, Role, client_config, opened
from streams.transport.requests import connect
from streams.transport.topic_admin import admin_client
from tests.support.brokers import Settings
from tests.support.waiting import leaving

LOOKED_S = 3.0
OFTEN = 10.0  # connections a second; each costs a thread of librdkafka's, and whoever listens


class Door:
    """Takes connections, and closes them at once, as what stands before a broker that is away."""

    def __init__(self) -> None:
        self.knocks = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                self.knocks += 1
                connection.close()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def door() -> Iterator[Door]:
    with closing(Door()) as found:
        yield found


def _knocks(door: Door, poll: Callable[[float], Any]) -> float:
    """A second, after the first one, in which it may be in a hurry."""
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        poll(0.1)
    before, began = door.knocks, time.monotonic()
    while time.monotonic() < began + LOOKED_S:
        poll(0.1)
    return (door.knocks - before) / (time.monotonic() - began)


@pytest.mark.parametrize("role", ["consumer", "producer", "admin"])
def test_a_client_does_not_storm_a_broker_that_is_away(door: Door, role: Role) -> None:
    config = client_config(Settings(door.address), None, role, group="away" if role == "consumer" else None)
    watch = ConnectionWatch("away")
    if role == "consumer":
        with leaving(opened(ck.Consumer, config, watch)) as consumer:
            consumer.subscribe(["something"])
            found = _knocks(door, consumer.poll)
    else:
        kind = {"producer": ck.Producer, "admin": AdminClient}[role]
        found = _knocks(door, opened(kind, config, watch).poll)
    assert 0 < found < OFTEN


def test_nor_does_one_that_is_to_connect_at_once(door: Door) -> None:
    config = client_config(Settings(door.address), None, "consumer")
    with leaving(opened(ck.Consumer, config, ConnectionWatch("away"))) as consumer:
        assert 0 < _knocks(door, lambda _: connect(consumer, "something")) < OFTEN
    admin = admin_client(Settings(door.address), None, ConnectionWatch("away"))
    assert 0 < _knocks(door, admin.poll) < OFTEN
