"""Delivery modes without a broker: when a cut is due, what a refusal leaves, and how often a lost transaction is lived
through."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas.epochs import Epochs
from schemas.settings import Settings
from schemas.topology import Agent, Route, Topology
from streams import app
from streams.processors.cuts import Cuts, InTransaction
from streams.transport.batch import TopicPartition
from streams.transport.clients import CommitRejectedError, client_config
from streams.transport.slots import instance_of
from streams.transport.transactions import TransactionLostError

TOPOLOGY = Topology(
    prefix="eu.",
    agents={"one": Agent(run="m:f", effect="read")},
    routes={"work": Route(agents=("one",))},
    default_route="work",
)
SUBMITTED = TopicPartition("tasks", 0)


class Transactions:
    """A producer that notes what it commits, and a driver that says whether partitions are ours."""

    def __init__(self) -> None:
        self.has_output, self.owns = False, True
        self.committed: list[tuple[Mapping[Any, Any], Any]] = []

    def drained(self, _timeout_s: float) -> bool:
        return True

    def membership(self, tps: Iterable[tuple[str, int]]) -> Any:
        if not self.owns:
            raise CommitRejectedError(f"not ours: {list(tps)}")
        return b"generation 7"

    async def commit(self, positions: Mapping[Any, Any], membership: Any) -> None:
        self.has_output = False
        self.committed.append((positions, membership))


async def test_output_alone_makes_a_cut_due_and_it_carries_positions_and_the_generation() -> None:
    fakes = Transactions()
    cuts, committer = (
        Cuts("tasks", cast("Any", fakes), Epochs(), lambda _: [(3, 7)]),
        InTransaction(cast("Any", fakes), fakes),
    )
    assert not cuts.is_due
    cuts.positions[SUBMITTED] = 5
    first = cuts.take(lambda _: False, lambda: {0: 900}, 0.0)
    assert first is not None
    await cuts.commit(committer, first)
    assert not cuts.is_due
    fakes.has_output = True  # a time-out was due, and nothing was read
    assert cuts.is_due
    second = cuts.take(lambda _: False, lambda: {0: 950}, 0.0)
    assert second is not None
    await cuts.commit(committer, second)
    assert fakes.committed == [
        ({SUBMITTED: (5, '{"low_watermark_ms":900,"epochs":[[3,7]]}')}, b"generation 7"),
        ({SUBMITTED: (5, '{"low_watermark_ms":950,"epochs":[[3,7]]}')}, b"generation 7"),
    ]


async def test_partitions_that_are_not_ours_leave_the_transaction_open() -> None:
    fakes = Transactions()
    cuts, committer = (
        Cuts("tasks", cast("Any", fakes), Epochs(), lambda _: [(3, 7)]),
        InTransaction(cast("Any", fakes), fakes),
    )
    cuts.positions[SUBMITTED], fakes.has_output, fakes.owns = 5, True, False
    cut = cuts.take(lambda _: False, lambda: {0: 900}, 0.0)
    assert cut is not None
    await cuts.commit(committer, cut)
    assert fakes.committed == []
    assert cuts.is_due


def outlive(lives_s: list[float], monkeypatch: pytest.MonkeyPatch, stop: threading.Event | None = None) -> int:
    """How often it was served, where each life but the last ends with a loss after so many seconds."""
    now, served = [0.0], list[float]()

    def serve() -> None:
        life_s = lives_s[len(served)]
        served.append(life_s)
        now[0] += life_s
        if len(served) < len(lives_s):
            raise TransactionLostError("lost")

    monkeypatch.setattr("streams.app.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(app, "LOSS_PAUSE_S", 0.0)
    with suppress(TransactionLostError):
        app._outlive_losses(serve, stop or threading.Event())
    return len(served)


def test_a_lost_transaction_is_lived_through_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outlive([1, 1], monkeypatch) == 2
    assert outlive([1] * 6, monkeypatch) == 6
    assert outlive([1] * 20, monkeypatch) == 6, "five in a row, and the sixth is too many"
    assert outlive([1, 1, 1, 1, 100] * 4, monkeypatch) == 20, "a minute at work, and it begins again"


def test_who_is_told_to_stop_does_not_begin_again_and_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    stop.set()
    assert outlive([1, 1, 1], monkeypatch, stop) == 1

    def lose() -> None:
        raise TransactionLostError("lost")

    app._outlive_losses(lose, stop)


@pytest.mark.parametrize(("slot", "name"), [("a-1", "a-1"), ("@hostname", socket.gethostname())])
def test_a_slot_names_the_transactions(slot: str, name: str) -> None:
    settings = Settings.resolve({"worker_slot": slot}, {})
    assert app._transactional_id(settings, TOPOLOGY) == f"eu.pointsman-worker-{name}"


def test_a_slot_is_a_place_in_the_group_and_other_topics_are_another_member() -> None:
    settings = Settings.resolve({}, {})
    place = instance_of("a-1", ["t1", "t2"])
    config = client_config(settings, TOPOLOGY, "consumer", group="g", instance=place)
    assert config["group.instance.id"] == place == instance_of("a-1", ["t2", "t1"])
    assert instance_of("@hostname", ["t1"]) == instance_of(socket.gethostname(), ["t1"])
    assert len({place, instance_of("a-1", ["t1"]), instance_of("a-2", ["t1", "t2"])}) == 3
    alone = client_config(settings, TOPOLOGY, "consumer", group="g", instance=instance_of(None, ["t1"]))
    assert "group.instance.id" not in alone
    assert config["session.timeout.ms"] > alone["session.timeout.ms"]


def test_without_a_slot_each_process_has_an_id_of_its_own() -> None:
    settings = Settings.resolve({}, {})
    ids = {app._transactional_id(settings, TOPOLOGY) for _ in range(3)}
    assert len(ids) == 3
    assert all(each.startswith("eu.pointsman-worker-") for each in ids)
