"""Peers run for real, on a real broker, and are held against the oracle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from console.local.broker import LocalBroker
from loadtest.peers.contestants import CONTESTANTS, Contestant
from loadtest.peers.run import Bench
from schemas.settings import Settings
from schemas.topology import load_topology

pytestmark = pytest.mark.broker

WARM_UP, MEASURED = 500, 2_000
# Everyone gets a panel of three: enough records are written, and most of them are wrong.
BIASED = """
import runpy
from loadtest.peers.shared.decide import Decider
honest = Decider.route
Decider.route = lambda self, task: (*honest(self, task)[:2], "HIGH")
runpy.run_module("loadtest.peers.plain_loop.main", run_name="__main__")
"""


@pytest.fixture(scope="module")
def bench(local_broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    settings = Settings.resolve({"broker": local_broker.address}, {})
    folder, topology = tmp_path_factory.mktemp("peers"), load_topology(Path("topology.yaml"))
    found = Bench(settings, local_broker.pid or 0, topology, folder, WARM_UP, MEASURED, settle_s=0.2)
    found.prepare()
    return found


@pytest.mark.parametrize("name", ["pointsman", "plain-loop", "batched-loop"])
def test_a_peer_of_ours_decides_as_the_oracle_does(bench: Bench, name: str) -> None:
    result = bench.run(CONTESTANTS[name], 0)
    assert result.fault is None
    assert result.records == pytest.approx(MEASURED, abs=4)  # each partition is cut at a whole record
    assert result.cpu_s > 0
    assert result.broker_cpu_s > 0


def program(name: str, arguments: Sequence[str]) -> Contestant:
    return replace(CONTESTANTS["plain-loop"], name=name, command=lambda _broker, _topology: list(arguments))


def test_a_peer_that_decides_otherwise_is_void(bench: Bench) -> None:
    result = bench.run(program("biased", [sys.executable, "-c", BIASED]), 0)
    assert result.fault is not None
    assert "records are wrong" in result.fault


def test_a_peer_that_ends_is_void_and_its_words_are_told(bench: Bench) -> None:
    result = bench.run(program("dead", [sys.executable, "-c", "raise SystemExit('no such thing')"]), 0)
    assert result.fault is not None
    assert "no such thing" in result.fault
    assert result.records == 0
