"""A member whose questions for its coordinator are lost, while the broker answers all others: on the real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.local.broker import LocalBroker
from console.local.broker_config import BrokerDoor
from console.local.ports import free_ports
from schemas.topics import TopicSpec
from streams.transport import bounded, coordinator
from streams.transport.admin import ensure_topics
from streams.transport.clients import StrandedError, client_config
from streams.transport.consumer import BatchConsumer
from tests.support.brokers import Settings
from tests.support.deaf import FIND_COORDINATOR, Deaf
from tests.support.waiting import deadline_in

pytestmark = pytest.mark.broker
WAIT_S = 60.0


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[Deaf]:
    (port,) = free_ports(1)
    proxy = Deaf(port)
    broker = LocalBroker(tmp_path, short_lived=True, doors=[BrokerDoor("DEAF", port, proxy.port)])
    broker.start()
    ensure_topics(Settings(broker.address), [TopicSpec("work", None, 1, "delete", 3_600_000)])
    yield proxy
    proxy.close()
    broker.stop()


def poll_for(member: BatchConsumer, seconds: float) -> None:
    deadline = deadline_in(seconds)
    while time.monotonic() < deadline:
        member.poll()


def member_of(deaf: Deaf, **config: Any) -> BatchConsumer:
    """One that has its partition, and has committed."""
    config = client_config(Settings(f"127.0.0.1:{deaf.port}"), None, "consumer", group="members") | config
    member = BatchConsumer(config, str, rows_max=10, bytes_max=1 << 20, poll_s=0.1)
    member.subscribe(["work"])
    deadline = deadline_in(WAIT_S)
    while not member.assignment():
        assert time.monotonic() < deadline
        member.poll()
    member.commit(dict.fromkeys(member.assignment(), (0, "")))
    return member


def test_a_member_ends_instead_of_standing_still_for_ever(deaf: Deaf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "STRANDED_S", 8.0)
    member = member_of(deaf, **{"statistics.interval.ms": 500})
    deaf.lost = (FIND_COORDINATOR,)
    deaf.cut()
    with pytest.raises(StrandedError, match="no coordinator"):
        poll_for(member, WAIT_S)
    assert deaf.dropped > 0
    member.close(1.0)


def test_a_commit_that_nobody_will_answer_is_given_up(deaf: Deaf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LOOK_S", 1.0)
    # Of a member that has a place of its own: librdkafka would wait for its session's end, at least.
    member = member_of(deaf, **{"group.instance.id": "seat", "session.timeout.ms": 40_000})
    owned = member.assignment()
    deaf.lost = (FIND_COORDINATOR,)
    deaf.cut()
    began = time.monotonic()
    with pytest.raises(StrandedError, match="answers others"):
        member.commit(dict.fromkeys(owned, (0, "")))
    assert time.monotonic() - began < 30
    member.close(1.0)
