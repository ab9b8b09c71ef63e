"""The table of codes: whole, true to the source, and its examples have the faults that they are examples of."""

from __future__ import annotations

import ast
import json
from typing import Any

import pytest
from ruamel.yaml import YAML

from console.cli.failures import exit_code
from console.explained.table import NOT_EMITTED, Explanation, met, table
from schemas.codes import ErrorCode, FaultCode
from schemas.errors import Fault
from schemas.records import RECORDS
from tests.support.source import calls, errors, modules
from tests.support.topologies import faults_of
from tests.unit.test_docs import faults

HOW = "give it an entry in console/explained/*.toml, and to an error or a fault also a member in schemas/codes.py"
# What the parts of a topology in the examples are parts of.
BASE = """
agents:
  sql_agent: {run: "my_agents:sql", effect: read}
  crm_agent: {run: "my_agents:crm", effect: read}
routes:
  figures: {agents: [sql_agent, crm_agent], phrases: [revenue], fallback: {answer: Nobody knows.}}
default_route: figures
"""
EXAMPLES = [each for each in table().values() if each.wrong]


def test_every_code_that_the_program_can_say_is_explained_and_no_other() -> None:
    assert set(table()) == set(met()), HOW


@pytest.mark.parametrize("codes", [FaultCode, ErrorCode])
def test_every_code_is_said_somewhere_in_the_source(codes: type[FaultCode | ErrorCode]) -> None:
    source = "".join(text for name, text in modules().items() if name != "schemas.codes")
    assert [code.name for code in codes if f"{codes.__name__}.{code.name}" not in source] == []


def test_every_symbol_is_written_somewhere_in_the_source_but_those_that_nothing_writes_yet() -> None:
    source = "".join(text for name, text in modules().items() if not name.startswith("console."))
    fields = (("OrchestratorEvent", "kind"), ("AgentEvent", "kind"), ("TaskResult", "status"), ("Slip", "band"))
    symbols = {symbol for record, field in fields for symbol in RECORDS[record].enums[field]} - {"UNKNOWN"}
    assert {symbol for symbol in symbols if f'"{symbol}"' not in source} == NOT_EMITTED - {"UNKNOWN"}


def test_the_first_digit_of_an_error_is_its_exit_code() -> None:
    wrong = [
        name
        for name, kind in errors().items()
        if kind.error_code.value[1] != str(int(exit_code(kind.__new__(kind)))) and name != "UncallableError"
    ]
    assert wrong == []
    assert len(errors()) > 15


def test_a_more_exact_code_has_the_exit_code_of_the_error_that_it_is_given_to() -> None:
    found = 0
    for place, call in calls():
        kind = errors().get(call.func.id) if isinstance(call.func, ast.Name) else None
        for keyword in call.keywords:
            if kind is not None and keyword.arg == "code" and isinstance(keyword.value, ast.Attribute):
                found += 1
                code = ErrorCode[keyword.value.attr]
                assert code.value[1] == kind.error_code.value[1], f"{place}: {kind.__name__} with {code}"
    assert found > 20


FAMILIES = {"PointsmanError", "ConfigurationError", "UnreachableError", "UsageError", "NotFoundError"}


def test_an_error_of_a_family_says_which_one_it_is() -> None:
    """What can be said of a family helps nobody: `raise ConfigurationError(text, code=ErrorCode.X)`."""
    without = [
        f"{place} {call.func.id}"
        for place, call in calls()
        if isinstance(call.func, ast.Name) and call.func.id in FAMILIES
        if not any(keyword.arg == "code" for keyword in call.keywords)
    ]
    assert without == [], HOW


@pytest.mark.parametrize("said", table().values(), ids=lambda said: said.code)
def test_an_explanation_says_enough_and_cites_only_what_is_there(said: Explanation) -> None:
    assert said.title
    assert said.means.endswith(".")
    if said.code[0] in "TE" and said.code[1].isdigit():
        assert said.why, "the usual reason"
        assert said.do, "what to do"
    assert bool(said.wrong) == bool(said.right)
    assert faults(f"{said.means}\n{said.why}\n{said.do}") == []


def test_most_faults_have_an_example() -> None:
    """All but what is no text, and what is wrong with code outside of the file (tests/unit/test_agents_registry.py)."""
    without = {code for code in FaultCode if not table()[code].wrong}
    assert {code.value for code in without} == {
        *("T001", "T002", "T003"),
        *(code for code in FaultCode if code.startswith("T4")),
    }


@pytest.mark.parametrize("said", EXAMPLES, ids=lambda said: said.code)
def test_an_example_has_the_fault_that_it_is_an_example_of(said: Explanation) -> None:
    wrong, right = (example_faults(text, said.code) for text in (said.wrong, said.right))
    if said.code < "T1":  # a text of its own, which needs no agents to break YAML's rules
        assert said.code in {fault.code for fault in wrong}
        assert said.code not in {fault.code for fault in right}
    else:
        assert [fault.code for fault in wrong] == [said.code]
        assert right == ()
    assert all(fault.line for fault in wrong)


def example_faults(text: str, code: str) -> tuple[Fault, ...]:
    if code < "T1":
        return faults_of(text)
    yaml = YAML(typ="safe", pure=True)
    return faults_of(json.dumps(merged(yaml.load(BASE), yaml.load(text))))


def merged(base: Any, part: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(part, dict)):
        return part
    return {key: merged(base.get(key), part[key]) if key in part else base[key] for key in {**base, **part}}
