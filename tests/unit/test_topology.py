"""The topology as a person meets it: the shipped file, sentences about a wrong one, and what its version covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.errors import TopologyError
from schemas.topology import NUMBER_MAX, Topology, load_topology, parse_topology
from streams.core.intents import PhraseRules
from streams.core.policy import Policy
from streams.core.routing import band_of
from tests.support.topologies import TEXT, changed, faults_of, line_of

ROUTES = {
    "financial_query": ("revenue_agent", "sql_agent", "spreadsheet_agent"),
    "document_search": ("search_agent", "pdf_agent", "summary_agent"),
    "customer_data": ("crm_agent", "profile_agent", "privacy_agent"),
    "operations": ("logs_agent", "units_agent", "runbook_agent"),
}

# A change of the text that breaks a shape, the path of the only fault that it makes, and part of its message.
SHAPES = [
    ("prefix: t.", "prefixx: t.", "prefixx", "is not a known key; did you mean prefix?"),
    ("timeout_ms: 1000", "tiemout_ms: 1000", "agents.alpha.tiemout_ms", "did you mean timeout_ms?"),
    ("answer: nobody knows", "awnser: nobody knows", "routes.money.fallback.awnser", "did you mean answer?"),
    (
        "- {phrase: margin, confidence: 0.6}",
        "- {phrase: margin, probability: 1}",
        "routes.money.phrases[1].probability",
        "is not a known key; there are: phrase, confidence",
    ),
    ("    run: pack.age:beta\n", "", "agents.beta.run", "is missing: an agent of kind python needs the code"),
    ("    effect: idempotent\n", "", "agents.beta.effect", "is missing and has no default"),
    ("run: pack.age:beta", "run: pack.age.beta", "agents.beta.run", "must name code as module:function"),
    ("effect: idempotent", "effect: writes", "agents.beta.effect", "read, idempotent or write, but is 'writes'"),
    ("effect: idempotent", "effect:", "agents.beta.effect", "must be read, idempotent or write, but is empty"),
    ("options: {a: 1}", "options: {a: [1]}", "agents.beta.options.a", "true, false or null, but is a list"),
    ("options: {a: 1}", "options: 1", "agents.beta.options", "must be text, a number, true, false or null"),
    ("timeout_ms: 1000", "timeout_ms: '1000'", "agents.alpha.timeout_ms", "must be a whole number, but is '1000'"),
    ("timeout_ms: 1000", "timeout_ms: 1000.0", "agents.alpha.timeout_ms", "must be a whole number, but is 1000.0"),
    ("timeout_ms: 1000", "timeout_ms: true", "agents.alpha.timeout_ms", "must be a whole number, but is true"),
    ("timeout_ms: 1000", "timeout_ms: 0", "agents.alpha.timeout_ms", "must be at least 1, but is 0"),
    ("timeout_ms: 1000", f"timeout_ms: {2**31}", "agents.alpha.timeout_ms", "must be at most 2147483647"),
    ("deadline_ms: 8000", f"deadline_ms: {NUMBER_MAX + 1}", "routes.money.deadline_ms", f"at most {NUMBER_MAX}"),
    ("quorum: 2", f"quorum: 1{'0' * 30}", "consensus.quorum", f"must be at most {NUMBER_MAX}"),
    ("quorum: 2", "accept_share: 0", "consensus.accept_share", "must be more than 0.0, but is 0"),
    ("single_above: 0.8", "single_above: .nan", "bands.single_above", "must be a finite number, but is nan"),
    ("single_above: 0.8", "single_above: .inf", "bands.single_above", "must be a finite number"),
    ("single_above: 0.8", "single_above: 1.5", "bands.single_above", "must be at most 1.0, but is 1.5"),
    ("single_above: 0.8", "single_above: high", "bands.single_above", "must be a number, but is 'high'"),
    ("prefix: t.", "prefix: t/", "prefix", "underscores and hyphens only, but is 't/'"),
    ("prefix: t.", f"prefix: {'t' * 65}", "prefix", "must have at most 64 characters"),
    ("- revenue", "- 5", "routes.money.phrases[0]", "must be text, or a mapping of phrase and conf"),
    ("- revenue", "- ' '", "routes.money.phrases[0]", "must not be blank, but is ' '"),
    ("agents: [beta]", "agents: beta", "routes.papers.agents", "must be a list, but is 'beta'"),
    ("agents: [beta]", "agents: []", "routes.papers.agents", "must not be empty"),
    ("agents: [beta]", "agents: [beta, 5]", "routes.papers.agents[1]", "must be text, but is 5"),
    ("fallback: {agent: alpha}", "fallback:", "routes.papers.fallback", "must be a mapping of keys, but is empty"),
    ("defaults:\n  deadline_ms: 9000", "defaults:", "defaults", "must be a mapping of keys, but is empty"),
    ("default_route: money", "default_route: 1", "default_route", "must be text, but is 1"),
    ("kafka: {}", "kafka: {linger.ms: [hunter2]}", "kafka.linger.ms", "must be text, a whole number"),
]  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Topology:
    return load_topology(Path(__file__).parents[2] / "topology.yaml")


def test_the_shipped_file_has_twelve_agents_on_four_intents(shipped: Topology) -> None:
    assert {intent: route.agents for intent, route in shipped.routes.items()} == ROUTES
    assert set(shipped.agents) == {agent for chain in ROUTES.values() for agent in chain}
    assert {name for name, agent in shipped.agents.items() if agent.effect != "read"} == {
        "profile_agent",
        "runbook_agent",
    }
    assert {name for name, agent in shipped.agents.items() if agent.kind == "batch"} == {"logs_agent", "units_agent"}


def test_every_shipped_route_ends_in_an_answer_and_one_answers_by_rule(shipped: Topology) -> None:
    assert all(route.fallback.answer for route in shipped.routes.values())
    assert any("{intent}" in (route.low_value_answer or "") for route in shipped.routes.values())


@pytest.mark.parametrize(
    ("text", "intent", "band"),
    [
        ("What was our revenue in EMEA in Q3?", "financial_query", "SINGLE"),
        ("Show gross margin by region for the last quarter", "financial_query", "SINGLE"),
        ("Compare this quarter to the last", "financial_query", "PANEL"),
        ("Total for Q1, please", "financial_query", "PANEL"),
        ("Which region is ahead?", "financial_query", "FALLBACK"),
        ("Find documents about parental leave", "document_search", "SINGLE"),
        ("Summarise the contract with Northwind", "document_search", "SINGLE"),
        ("Which clause covers termination?", "document_search", "SINGLE"),
        ("search for onboarding", "document_search", "PANEL"),
        ("What data do we hold on customer 1042?", "customer_data", "SINGLE"),
        ("Set the preferences of account 77", "customer_data", "SINGLE"),
        ("Is this client still with us?", "customer_data", "PANEL"),
        ("Show the errors in payments since noon", "operations", "SINGLE"),
        ("Convert 12 miles to kilometres", "operations", "SINGLE"),
        ("Restart checkout by its runbook", "operations", "SINGLE"),
        ("Why is payments failing?", "operations", "PANEL"),
        ("The billing service is slow", "operations", "PANEL"),
        ("Tell me a joke", None, "FALLBACK"),
    ],
)
def test_the_shipped_phrases_tell_natural_requests_apart(
    shipped: Topology, text: str, intent: str | None, band: str
) -> None:
    rules = PhraseRules.compile(shipped)
    found = rules.match(pa.array([text]))
    code, confidence = int(found.intent_code[0]), float(found.confidence[0])
    assert (rules.intents[code] if code >= 0 else None) == intent
    assert band_of(Policy.compile(shipped), confidence, "MEDIUM") == band


@pytest.mark.parametrize(("old", "new", "path", "message"), SHAPES)
def test_a_value_of_the_wrong_shape_is_explained_with_its_key_and_line(
    old: str, new: str, path: str, message: str
) -> None:
    text = changed((old, new))
    [fault] = faults_of(text)
    assert fault.path == path
    assert message in fault.message
    assert "hunter2" not in fault.message
    assert fault.line == (TEXT[: TEXT.index(old)].count("\n") + 1 if new else line_of(text, "  beta:"))


def test_a_long_value_is_shown_in_part() -> None:
    [fault] = faults_of(changed(("effect: idempotent", f"effect: {'x' * 1000}")))
    assert len(fault.message) < 120


@pytest.mark.parametrize(
    ("text", "message"), [("", "is empty"), ("# nothing", "is empty"), ("- a", "must be a mapping of keys")]
)
def test_a_file_that_is_no_mapping_is_one_fault(text: str, message: str) -> None:
    assert [fault.message for fault in faults_of(text)] == [message]


def test_without_agents_nothing_else_is_checked() -> None:
    faults = faults_of("routes: {r: {agents: [a]}}\ndefault_route: q\n")
    assert [str(fault) for fault in faults] == ["1:1: agents: is missing and has no default [T102]"]


def test_what_yaml_refuses_stands_beside_what_the_model_and_the_checks_refuse() -> None:
    text = changed(("quorum: 2", "quorum: 3\n  quorum: 2"), ("prefix: t.", "prefix: &p t."), ("[beta]", "[delta]"))
    assert [(fault.path, fault.line) for fault in faults_of(text + "colour: red\n")] == [
        ("prefix", 1),
        ("consensus.quorum", 11),
        ("routes.papers.agents[0]", line_of(text, "delta")),
        ("colour", text.count("\n") + 1),
    ]


def test_an_error_names_the_file_and_counts_the_faults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(changed(("quorum: 2", "quorum: 3"), ("agents: [beta]", "agents: [betta]")))
    with pytest.raises(TopologyError) as raised:
        load_topology(path)
    first, *others = str(raised.value).splitlines()
    assert first == f"{path}: 2 faults"
    assert others == [
        f"{path}:10:11: consensus.quorum: 3 is above consensus.panel_size, 2 [T307]",
        f"{path}:41:14: routes.papers.agents[0]: there is no agent betta; did you mean beta? [T203]",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"a: \xff", "is not UTF-8 at byte 3"),
        (b"#" * 1_048_577, "is larger than"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TopologyError, match=message):
        load_topology(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_topology(path) == parse_topology(TEXT, "text")


def test_voters_are_the_panel_or_else_the_chain_without_those_that_write() -> None:
    topology = parse_topology(TEXT, "text")
    assert topology.voters("money") == ("alpha", "beta")
    assert parse_topology(changed(("    panel: [alpha, beta]\n", "")), "text").voters("money") == ("alpha", "beta")
    assert topology.voters("papers") == ("beta",)


def test_a_plan_ends_in_the_fallback_agent_once() -> None:
    topology = parse_topology(TEXT, "text")
    assert topology.routes["papers"].plan == ("beta", "alpha")
    assert parse_topology(changed(("agents: [beta]", "agents: [alpha, beta]")), "text").routes["papers"].plan == (
        "alpha",
        "beta",
    )


@pytest.mark.parametrize(
    ("change", "decides"),
    [
        (("quorum: 2", "quorum: 1"), True),
        (("timeout_ms: 1000", "timeout_ms: 1001"), True),
        (("confidence: 0.6", "confidence: 0.61"), True),
        (("answer: nobody knows", "answer: nobody"), True),
        (("effect: idempotent", "effect: read"), True),
        (("agents:\n  alpha", "tenants: {acme: {deadline_ms: 9001}}\nagents:\n  alpha"), True),
        (("agents:\n  alpha", "tenants: {}\nagents:\n  alpha"), False),
        (("prefix: t.", "prefix: u."), False),
        (("run: pack.age:beta", "run: pack.age:better"), False),
        (("options: {a: 1}", "options: {a: 2}"), False),
        (("kafka: {}", "kafka: {linger.ms: 5}"), False),
        (("deadline_max_ms: 60000", "deadline_max_ms: 60000\n  batch_rows_max: 7"), False),
    ],
)
def test_the_version_covers_what_decides_and_nothing_else(change: tuple[str, str], decides: bool) -> None:
    version = parse_topology(TEXT, "text").version
    assert len(version) == 12
    assert (parse_topology(changed(change), "text").version != version) == decides


def test_a_tenant_overlays_the_defaults_key_by_key() -> None:
    tenants = "tenants: {acme: {value_tier: HIGH}, globex: {deadline_ms: 8500, data_class: null}}\nagents:\n  alpha"
    topology = parse_topology(changed(("agents:\n  alpha", tenants)), "text")
    shown = {name: topology.defaults_of(name).model_dump() for name in ("acme", "globex", "somebody else")}
    everyone = {"value_tier": "MEDIUM", "data_class": "INTERNAL", "deadline_ms": 9000}
    assert shown == {
        "acme": {**everyone, "value_tier": "HIGH"},
        "globex": {**everyone, "deadline_ms": 8500},
        "somebody else": everyone,
    }


def test_the_version_covers_the_order_of_routes() -> None:
    topology = parse_topology(TEXT, "text")
    document: dict[str, Any] = topology.model_dump()
    document["routes"] = dict(reversed(document["routes"].items()))
    assert Topology.model_validate(document).version != topology.version
