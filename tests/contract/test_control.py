"""The view of a compacted topic on the real broker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from schemas.codec import Codec
from schemas.epochs import EPOCH_MAX
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.topology import Agent, Route, Topology
from streams.control import BreakerView
from streams.core.breaker import Phase, State, columns
from streams.transport.admin import ensure_topics
from streams.transport.clients import TransportError, client_config
from streams.transport.producer import Producer
from tests.support.waiting import deadline_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.broker

OPEN = State(Phase.OPEN, epoch=3, reason="FAILURE_RATE", since_ms=5, until_ms=9, trips=2)
HALF_OPEN = State(Phase.HALF_OPEN, epoch=4, reason="OPEN_TIME_ENDED", since_ms=9, trips=2, probe_partitions=(1, 3))


@dataclass(frozen=True)
class Settings:
    broker: str
    kafka: dict[str, str] = field(default_factory=dict)


class Deployment:
    """A topic of breakers, a producer to it and views of it."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.settings = Settings(broker)
        self.topology = Topology(
            prefix=prefix,
            agents={"a": Agent(run="m:f", effect="read"), "b": Agent(run="m:f", effect="read")},
            routes={"all": Route(agents=("a", "b"))},
            default_route="all",
        )
        self.topic = self.topology.topics().breakers
        self.producer = Producer(client_config(self.settings, self.topology, "producer"))
        self.codec = Codec(FileRegistry.load(), 262_144)
        self.views: list[BreakerView] = []

    def create(self) -> None:
        specs = [spec for spec in self.topology.topics().specs() if spec.name == self.topic]
        ensure_topics(self.settings, specs)

    def put(self, agent_id: str, state: State | None) -> None:
        value = None
        if state is not None:
            value = self.codec.encode(table("BreakerState", columns({agent_id: state}), 1), "BreakerState")[0]
        self.put_raw(agent_id.encode(), value)

    def put_raw(self, key: bytes, value: bytes | None) -> None:
        self.producer.send(self.topic, 0, [value], [key])
        self.producer.flush(10)

    def view(self) -> BreakerView:
        view = BreakerView(self.settings, self.topology, Codec(FileRegistry.load(), 262_144))
        self.views.append(view)
        return view


@pytest.fixture
def deployment(broker: str, prefix: str) -> Iterator[Deployment]:
    deployment = Deployment(broker, prefix)
    yield deployment
    for view in deployment.views:
        view.close()
    deployment.producer.close()


def phases(view: BreakerView) -> dict[str, Phase]:
    return {agent_id: state.phase for agent_id, state in view.snapshot().items()}


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = deadline_in(within_s)
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_it_starts_with_all_that_stands_there(deployment: Deployment) -> None:
    deployment.create()
    deployment.put("a", State(epoch=1))
    deployment.put("a", OPEN)
    deployment.put("b", HALF_OPEN)
    deployment.put("gone", OPEN)
    deployment.put("gone", None)
    view = deployment.view()
    view.start()
    shown = view.snapshot()
    assert phases(view) == {"a": Phase.OPEN, "b": Phase.HALF_OPEN}
    assert (shown["a"].until_ms, shown["a"].trips) == (9, 2)
    assert (shown["b"].epoch, shown["b"].probe_partitions) == (4, (1, 3))


def test_it_follows_within_a_second(deployment: Deployment) -> None:
    deployment.create()
    view = deployment.view()
    view.start()
    before, version = view.snapshot(), view.version
    deployment.put("a", OPEN)
    put_at = time.monotonic()
    assert eventually(lambda: view.version > version)
    assert time.monotonic() - put_at < 1.0
    assert phases(view) == {"a": Phase.OPEN}
    assert before == {}  # an old snapshot stays as it was
    deployment.put("a", None)
    assert eventually(lambda: not view.snapshot())


def test_two_views_see_the_same(deployment: Deployment) -> None:
    deployment.create()
    views = [deployment.view(), deployment.view()]
    for view in views:
        view.start()
    deployment.put("b", HALF_OPEN)
    for view in views:
        assert eventually(lambda view=view: phases(view) == {"b": Phase.HALF_OPEN})  # type: ignore[misc]


def test_a_bad_record_costs_no_neighbour(deployment: Deployment) -> None:
    deployment.create()
    deployment.put("a", OPEN)
    for key, value in ((b"a", b"\x00garbage"), (b"a", b""), (b"\xff", b"x")):
        deployment.put_raw(key, value)
    # No state could follow it: the worker that has to write one would end, and so would each after it.
    deployment.put("a", State(phase=Phase.CLOSED, epoch=EPOCH_MAX + 1))
    deployment.put("b", HALF_OPEN)
    view = deployment.view()
    view.start()
    assert phases(view) == {"a": Phase.OPEN, "b": Phase.HALF_OPEN}


def test_a_missing_topic_is_said_at_start(deployment: Deployment) -> None:
    view = deployment.view()
    with pytest.raises(TransportError, match="missing"):
        view.start()


def test_a_view_whose_thread_ended_is_no_longer_read(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.create()
    view = deployment.view()
    view.start()

    def fail(timeout_s: float | None = None) -> None:
        raise TransportError("the position is gone")

    monkeypatch.setattr(view._consumer, "poll", fail)

    def is_gone() -> bool:
        try:
            view.snapshot()
        except TransportError as error:
            return "the position is gone" in str(error)
        return False

    assert eventually(is_gone)
