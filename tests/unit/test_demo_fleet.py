"""The examples that are programs: what they answer, and how they join the demo's fleet, or do not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agents.calls import Caller
from agents.contract import Context, Interaction
from agents.outcome import Outcome
from agents.registry import resolve_agent
from agents.runners.make import make_runner
from console.cli.deployment import Deployment
from console.demo.fleet import EXAMPLES, joined, with_examples
from schemas.settings import Settings
from schemas.topology import Agent, load_topology
from schemas.topology_yaml import read_yaml
from tests.support.agents_attempts import attempt_of
from tests.unit.test_docs import ROOT

STATED: dict[str, Any] = read_yaml((EXAMPLES / "topology.yaml").read_text("utf-8")).data
# Starting an interpreter on a machine that has other things to do.
TIMEOUT_MS = 60_000


class Asked:
    """One example, as the host calls it."""

    def __init__(self, name: str) -> None:
        fields = STATED["agents"][name]
        agent = Agent.model_validate({**fields, "cwd": str(EXAMPLES / fields["cwd"])})
        self._caller = Caller(make_runner(name, agent, resolve_agent(agent)), writes=False)

    async def ask(self, text: str, *earlier: str) -> Outcome:
        context = Context(tuple(Interaction("t", asked, None, "COMPLETED", 0) for asked in earlier))
        (outcome,) = await self._caller.call([attempt_of(text=text, timeout_ms=TIMEOUT_MS)], context)
        return outcome

    async def close(self) -> None:
        await self._caller.close()


@pytest_asyncio.fixture(params=STATED["agents"])
async def asked(request: pytest.FixtureRequest) -> AsyncIterator[Asked]:
    example = Asked(request.param)
    yield example
    await example.close()


@pytest.mark.parametrize("asked", ["pint_agent"], indirect=True)
async def test_an_interpreter_of_its_own_with_packages_of_its_own(asked: Asked) -> None:
    with pytest.raises(ModuleNotFoundError):
        __import__("pint")
    outcome = await asked.ask("Convert 7 furlongs to metres")
    assert (outcome.kind, outcome.answer) == ("COMPLETED", "7 furlongs = 1408.18 metres")
    assert outcome.citations[0].startswith("Pint ")
    assert (await asked.ask("98.6 f in c?")).vote_key == "37 celsius"
    assert (await asked.ask("How many miles are in 42.195 km?")).vote_key == "26.2188 mile"
    assert (await asked.ask("Convert 10 km to kg")).error_class == "WRONG_INPUT"
    assert (await asked.ask("Convert 4 bananas to kg")).error == "Pint does not know the unit bananas"
    assert (await asked.ask("errors in payments")).kind == "REFUSED"


@pytest.mark.parametrize("asked", ["clock_agent"], indirect=True)
async def test_one_in_node(asked: Asked) -> None:
    first = "What time is it in Tokyo when it is 23:15 in Nairobi?"
    outcome = await asked.ask(first)
    assert (outcome.kind, outcome.answer) == ("COMPLETED", "When it is 23:15 in Nairobi, it is 05:15 in Tokyo.")
    assert outcome.payload == '{"zone":"Asia/Tokyo","time":"05:15"}'
    assert (await asked.ask("And what time is it in Dubai?", "hello", first)).vote_key == "00:15 dubai"
    assert (await asked.ask("And what time is it in Dubai?")).kind == "REFUSED"
    assert (await asked.ask("What time is it in Atlantis when it is 10:00 in Paris?")).error_class == "INTERNAL"
    assert (await asked.ask("What time is it in Lima when it is 25:00 in Rome?")).error_class == "WRONG_INPUT"


def shipped() -> Deployment:
    path = ROOT / "topology.yaml"
    return Deployment(Settings(), load_topology(path), path)


def test_the_examples_join_the_shipped_fleet(tmp_path: Path) -> None:
    notes: list[str] = []
    found = with_examples(shipped(), tmp_path, notes.append)
    assert set(found.topology.agents) == {*shipped().topology.agents, "pint_agent", "clock_agent"}
    assert found.topology.routes["operations"].agents[-2:] == ("pint_agent", "runbook_agent")
    assert found.topology.routes["operations"].phrases == shipped().topology.routes["operations"].phrases
    assert load_topology(found.topology_path) == found.topology
    assert notes == [
        "joined by agents that are programs of their own: pint_agent (.venv/bin/python), clock_agent (node)"
    ]


def test_an_interpreter_that_is_not_there_costs_its_agent_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    notes: list[str] = []
    found = with_examples(shipped(), tmp_path, notes.append).topology
    assert notes[0] == "clock_agent is left out of the fleet: there is no program node on PATH"
    assert "clock_agent" not in found.agents
    assert "time_zones" not in found.routes
    assert "pint_agent" in found.agents
    monkeypatch.setattr("console.demo.fleet.EXAMPLES", tmp_path / "nowhere")
    assert with_examples(shipped(), tmp_path, notes.append) == shipped()


def test_another_fleet_is_left_as_it_is() -> None:
    topology = shipped().topology
    routes = {"operations": {"agents": ["logs_agent", "units_agent"]}}
    assert joined(topology, {}, routes) is None, "it would lose an agent"
