"""A task that waits for long costs the next recovery one record, not all that was decided since.

Real processes on a real broker; the worker is killed while the task waits.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from schemas.access import group_of
from streams.client import Client
from streams.processors.recovery import low_watermark_of
from streams.transport.clients import client_config
from streams.transport.requests import committed
from tests.support.fleet import Fleet, wait_for
from tests.support.waiting import leaving

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

QUICK, LITTLE = 1_500, 300
OLD_S = 2.5
"""Past the age of a spilled task, and past the duplicates' horizon and the margin of TOPOLOGY together."""

AGENTS = """
import asyncio
from pathlib import Path

from agents.contract import Answer


async def at_once(task, context):
    return Answer("yes", confidence=0.9)


async def in_the_end(task, context):
    while not Path({gate!r}).exists():
        await asyncio.sleep(0.1)
    return Answer("at last", confidence=0.9)
"""

TOPOLOGY = """
prefix: "{prefix}"
partitions: 1
delivery: {delivery}
agents:
  quick: {{run: "spill_agents:at_once", effect: read, timeout_ms: 60000}}
  patient: {{run: "spill_agents:in_the_end", effect: read, timeout_ms: 200000}}
routes:
  quick: {{agents: [quick], deadline_ms: 120000, fallback: {{answer: "Nobody knows."}}}}
  patient: {{agents: [patient], deadline_ms: 220000, fallback: {{answer: "Nobody knows."}}}}
default_route: quick
limits:
  spill_after_ms: 1000
  clock_skew_margin_ms: 1000
  duplicate_horizon_ms: 1000
"""


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_recovery_reads_little_though_a_task_has_waited_for_long(
    broker: str, tmp_path: Path, prefix: str, delivery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, path = tmp_path / "gate", tmp_path / "topology.yaml"
    (tmp_path / "spill_agents.py").write_text(AGENTS.format(gate=str(gate)))
    path.write_text(TOPOLOGY.format(prefix=prefix, delivery=delivery))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("host", "worker")
        submit(fleet, "patient", ["patient"])
        quick = [f"q{number}" for number in range(QUICK)]
        submit(fleet, "quick", quick)
        wait_for(lambda: len(ended(fleet)) == QUICK, 60, "all of the others to be answered")
        time.sleep(OLD_S)
        moved_ms = int(time.time() * 1000)
        submit(fleet, "quick", ["mover"])  # an idle worker has nothing to commit for a while
        wait_for(lambda: low_watermark_ms(fleet) > moved_ms, 60, "a cut that does not wait for the task that waits")
        for _ in range(2):
            fleet.kill("worker")
            fleet.start("worker")
            live = said(fleet, "live")[-1]
            assert live["unfinished"] == 1, "it came back from its one record"
            folded = said(fleet, "folded")[-1]
            assert folded["spilled"] > 0, "where the machine is slow, others were spilled, too"
            assert folded["records"] < LITTLE, f"a fold of everything reads {3 * QUICK}"
        gate.touch()
        wait_for(lambda: "patient" in ended(fleet), 60, "the task that waited to be answered")
        assert fleet.stop("worker"), "it ends by itself"
        fleet.start("worker")
        assert said(fleet, "live")[-1]["unfinished"] == 0
        assert sorted(ended(fleet)) == sorted(["patient", "mover", *quick]), "each once"
        assert [each.task_id for each in fleet.log().dispatches].count("patient") == 1


def submit(fleet: Fleet, intent: str, task_ids: list[str]) -> None:
    tasks = [{"task_id": task_id, "text": "x", "intent": intent, "confidence": 1.0} for task_id in task_ids]
    with Client.of(fleet.settings, fleet.topology) as client:
        client.submit_many(tasks)


def ended(fleet: Fleet) -> list[str]:
    return [each.task_id for each in fleet.log().results]


def low_watermark_ms(fleet: Fleet) -> int:
    """Where the next recovery begins to read, as the group has it."""
    config = client_config(fleet.settings, None, "consumer", group=group_of("worker", fleet.topology.prefix))
    with leaving(ck.Consumer(config)) as member:
        [(_, metadata)] = committed(member, [(fleet.topology.topics().submitted, 0)]).values()
    return low_watermark_of(metadata)


def said(fleet: Fleet, event: str) -> list[dict[str, Any]]:
    """What the worker's log says under this name, over its lives."""
    lines = [json.loads(line) for line in fleet.said("worker").splitlines() if f'"event": "{event}"' in line]
    assert lines, f"the worker said nothing of {event}"
    return lines
