"""Defaults by tenant, in columns and through the cell."""

from __future__ import annotations

import pyarrow as pa
import pytest

from agents.dispatches import Dispatched, attempts
from agents.inbox import Inbox
from schemas.tenants import TenantDefaults
from streams.core.cell import Cell
from streams.core.intake import Intake
from streams.core.policy import Policy
from tests.support import scenes
from tests.support.scenes import T0_MS

TENANTS = ["default", "acme", "corner", "same", "acme", ""]


@pytest.mark.parametrize("named", [True, False])
def test_columns_say_what_the_topology_says(named: bool) -> None:
    topology = scenes.topology() if named else scenes.topology(tenants={})
    defaults = TenantDefaults(topology)
    column, nothing = pa.array(TENANTS), pa.array(["UNKNOWN"] * len(TENANTS))
    wanted = [topology.defaults_of(tenant) for tenant in TENANTS]
    assert defaults.value_tiers(column, nothing).to_pylist() == [each.value_tier for each in wanted]
    assert defaults.data_classes(column, nothing) == [each.data_class for each in wanted]
    assert list(defaults.deadlines_ms(column)) == [each.deadline_ms for each in wanted]
    assert defaults.value_tiers(column, pa.array(["MEDIUM"] * len(TENANTS))).to_pylist() == ["MEDIUM"] * len(TENANTS)
    empty = pa.array([], pa.string())
    assert (defaults.value_tiers(empty, empty).to_pylist(), list(defaults.deadlines_ms(empty))) == ([], [])


def test_tenants_of_one_batch_share_no_plan_that_differs() -> None:
    """Equal tasks share a plan; those of tenants with other deadlines are not equal."""
    policy = Policy.compile(scenes.topology())
    cell = Cell(policy, 0)
    tasks = [
        {"task_id": tenant, "tenant": tenant, "text": "x", "intent": "papers", "value_tier": "MEDIUM"}
        for tenant in ("default", "acme", "corner", "other")
    ]
    intake = Intake.read(policy, scenes.submissions(tasks), T0_MS)
    effects = cell.submit(intake, T0_MS).one_by_one()
    deadlines = {each.datum: each.slip.deadline_default_ms - T0_MS for each in effects.dispatches}
    assert list(deadlines.values()) == [30_000, 6_000, 30_000, 30_000]
    assert [result.id for result in cell.tick(T0_MS + 6_000).results] == [("acme", "acme")]


def test_an_agent_sees_the_data_class_that_its_task_states_or_its_tenant_has() -> None:
    topology = scenes.topology(tenants={"acme": {"data_class": "PERSONAL"}})
    cell = Cell(Policy.compile(topology), 0)
    stated = [("a", "acme", "UNKNOWN"), ("b", "acme", "PUBLIC"), ("c", "default", "UNKNOWN")]
    tasks = {
        task_id: {"task_id": task_id, "tenant": tenant, "text": "x", "intent": "papers", "data_class": data_class}
        for task_id, tenant, data_class in stated
    }
    intake = Intake.read(cell.policy, scenes.submissions(list(tasks.values())), T0_MS)
    sent = [(each, tasks[each.datum.decode().split("/")[1]]) for each in cell.submit(intake, T0_MS).dispatches]
    facts = scenes.dispatch_facts(sent, [T0_MS] * len(sent))
    source = Dispatched.of(1, facts.batch, list(facts.keys))
    inbox = Inbox("beta", "agents.beta.inbox.v1", 0)
    read = attempts(source, [inbox] * len(sent), range(len(sent)), TenantDefaults(topology))
    assert [(each.id.task_id, each.task().data_class) for each in read] == [
        ("a", "PERSONAL"),
        ("b", "PUBLIC"),
        ("c", "INTERNAL"),
    ]
