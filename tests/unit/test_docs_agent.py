"""The README's example of an agent of one's own: its code runs, and the topology with it in it is valid."""

from __future__ import annotations

import asyncio
import io
import types
from typing import Any

import pytest
from ruamel.yaml import YAML

from agents.contract import EMPTY_CONTEXT, AgentRefused, Answer, Task
from loadtest.oracle_sums import intent_of
from schemas.topology import Topology, parse_topology
from tests.unit.test_docs import ROOT, block


def module() -> types.ModuleType:
    text = block("python", "# my_agents.py")
    made = types.ModuleType("my_agents")
    exec(compile(text, "my_agents.py", "exec"), made.__dict__)
    return made


def topology() -> Topology:
    """The shipped topology with the README's fragment written into its sections."""
    yaml = YAML(typ="safe", pure=True)
    shipped: dict[str, Any] = yaml.load((ROOT / "topology.yaml").read_text("utf-8"))
    for section, entries in yaml.load(block("yaml", "agents:")).items():
        shipped[section] |= entries
    text = io.StringIO()
    yaml.dump(shipped, text)
    return parse_topology(text.getvalue(), "the README's topology")


def test_the_fragment_makes_a_valid_topology_that_names_the_code() -> None:
    agent = topology().agents["opening_hours_agent"]
    assert agent.run is not None
    name, _, function = agent.run.partition(":")
    assert name == "my_agents"
    assert callable(getattr(module(), function))


def test_its_phrase_routes_to_it() -> None:
    intent, confidence = intent_of(topology(), "What are the opening hours in Oslo?")
    assert topology().routes[intent].agents == ("opening_hours_agent",)
    assert confidence > topology().bands.single_above


def test_the_agent_answers_and_refuses() -> None:
    run = module().opening_hours
    answer = asyncio.run(run(Task("t", "What are the opening hours in Oslo?"), EMPTY_CONTEXT))
    assert isinstance(answer, Answer)
    assert "Oslo" in answer.text
    with pytest.raises(AgentRefused):
        asyncio.run(run(Task("t", "What are the opening hours on the moon?"), EMPTY_CONTEXT))
