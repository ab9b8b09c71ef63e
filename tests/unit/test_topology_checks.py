"""What the parts of a topology ask of each other: each rule has a file that breaks it, and is named by key and line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from schemas.topology import parse_topology
from tests.support.topologies import TEXT, changed, faults_of, line_of


@dataclass(frozen=True)
class Case:
    """A change of the text, and the only fault that it makes: key path, a text on its line, a part of its message."""

    old: str
    new: str
    path: str
    line: str
    message: str


CASES = {
    "unknown agent in a chain": Case(
        "agents: [beta]", "agents: [betta]", "routes.papers.agents[0]", "betta", "no agent betta; did you mean beta?"
    ),
    "unknown agent with nothing near": Case(
        "agents: [beta]",
        "agents: [zzz]",
        "routes.papers.agents[0]",
        "zzz",
        "no agent zzz; there are: alpha, beta, gamma",
    ),
    "agent twice in a chain": Case(
        "agents: [beta]", "agents: [beta, beta]", "routes.papers.agents[1]", "beta, beta", "in this list already"
    ),
    "unknown agent in a panel": Case(
        "panel: [alpha, beta]", "panel: [alpha, beta, delta]", "routes.money.panel[2]", "panel:", "no agent delta"
    ),
    "agent twice in a panel": Case(
        "panel: [alpha, beta]", "panel: [alpha, beta, alpha]", "routes.money.panel[2]", "panel:", "in this list already"
    ),
    "write agent in a panel": Case(
        "panel: [alpha, beta]", "panel: [alpha, beta, gamma]", "routes.money.panel[2]", "panel:", "gamma writes"
    ),
    "panel smaller than panel_size": Case(
        "panel: [alpha, beta]", "panel: [alpha]", "routes.money.panel", "panel:", "1 of the 2 agents"
    ),
    "unknown fallback agent": Case(
        "fallback: {agent: alpha}", "fallback: {agent: alfa}", "routes.papers.fallback.agent", "alfa", "mean alpha?"
    ),
    "no fallback": Case(
        "    fallback: {agent: alpha}\n", "", "routes.papers.fallback", "papers:", "can end without an answer"
    ),
    "empty fallback": Case(
        "fallback: {agent: alpha}",
        "fallback: {}",
        "routes.papers.fallback",
        "fallback: {}",
        "can end without an answer",
    ),
    "blank fallback answer": Case(
        "answer: nobody knows", 'answer: " "', "routes.money.fallback.answer", 'answer: " "', "is blank"
    ),
    "blank rule answer": Case(
        "deadline_ms: 8000", 'low_value_answer: ""', "routes.money.low_value_answer", "low_value", "is blank"
    ),
    "route deadline below its agent's timeout": Case(
        "deadline_ms: 8000",
        "deadline_ms: 4999",
        "routes.money.deadline_ms",
        "4999",
        "4999 is below the timeout of agent beta (5000), gamma (5000)",
    ),
    "default deadline below an agent's timeout": Case(
        "deadline_ms: 9000",
        "deadline_ms: 4999",
        "routes.papers.deadline_ms",
        "papers:",
        "is not stated, and the default, 4999, is below the timeout of agent beta (5000)",
    ),
    "route deadline below its fallback agent's timeout": Case(
        "fallback: {agent: alpha}",
        "deadline_ms: 5000\n    fallback: {agent: slow}",
        "routes.papers.deadline_ms",
        "deadline_ms: 5000",
        "5000 is below the timeout of agent slow (5001)",
    ),
    "route deadline below its panel's timeout": Case(
        "panel: [alpha, beta]",
        "panel: [alpha, slower]",
        "routes.money.deadline_ms",
        "deadline_ms: 8000",
        "8000 is below the timeout of agent slower (8001)",
    ),
    "route deadline above the maximum": Case(
        "deadline_ms: 8000", "deadline_ms: 60001", "routes.money.deadline_ms", "60001", "above limits.deadline_max_ms"
    ),
    "default deadline above the maximum": Case(
        "deadline_ms: 9000", "deadline_ms: 60001", "defaults.deadline_ms", "60001", "above limits.deadline_max_ms"
    ),
    "tenant's deadline above the maximum": Case(
        "agents:\n  alpha",
        "tenants:\n  acme: {deadline_ms: 60001}\nagents:\n  alpha",
        "tenants.acme.deadline_ms",
        "60001",
        "above limits.deadline_max_ms",
    ),
    "tenant's deadline below a timeout, on a route that states none": Case(
        "agents:\n  alpha",
        "tenants:\n  acme: {deadline_ms: 900}\nagents:\n  alpha",
        "tenants.acme.deadline_ms",
        "acme",
        "900, which counts on route papers, is below the timeout of agent beta (5000), alpha (1000)",
    ),
    "deadline beyond the topics' retention": Case(
        "deadline_max_ms: 60000",
        "deadline_max_ms: 604800000",
        "limits.deadline_max_ms",
        "604800000",
        "is not below the time",
    ),
    "duplicate horizon beyond the topics' retention": Case(
        "deadline_max_ms: 60000",
        "duplicate_horizon_ms: 604800000",
        "limits.duplicate_horizon_ms",
        "604800000",
        "is not below the time",
    ),
    "deadline beyond the logs' retention": Case(
        "limits:\n  deadline_max_ms: 60000",
        "topic_policy: {logs_retention_ms: 3600000}\nlimits:\n  deadline_max_ms: 3600000",
        "limits.deadline_max_ms",
        "deadline_max_ms",
        "topic_policy.logs_retention_ms, 3600000",
    ),
    "more copies needed than there are": Case(
        "limits:\n",
        "topic_policy:\n  replication: 1\n  min_insync_replicas: 2\nlimits:\n",
        "topic_policy.min_insync_replicas",
        "min_insync",
        "2 is above topic_policy.replication, 1",
    ),
    "quorum above panel size": Case(
        "quorum: 2", "quorum: 3", "consensus.quorum", "quorum: 3", "3 is above consensus.panel_size, 2"
    ),
    "panel for high value smaller than any other": Case(
        "quorum: 2",
        "high_value_panel_size: 1",
        "consensus.high_value_panel_size",
        "high_value",
        "1 is below consensus.panel_size, 2",
    ),
    "bands out of order": Case(
        "single_above: 0.8", "single_above: 0.4", "bands.panel_above", "bands:", "0.5 is above bands.single_above, 0.4"
    ),
    "breaker times out of order": Case(
        "open_ms: 1000", "open_ms: 600001", "breaker.open_ms", "600001", "600001 is above breaker.open_ms_max, 600000"
    ),
    "health counts longer than the window": Case(
        "open_ms: 1000", "window_ms: 199", "limits.health_interval_ms", "limits:", "200 is above breaker.window_ms, 199"
    ),
    "record larger than a batch": Case(
        "deadline_max_ms: 60000",
        "batch_bytes_max: 262143",
        "limits.record_bytes_max",
        "limits:",
        "262144 is above limits.batch_bytes_max, 262143",
    ),
    "record larger than what may be in flight": Case(
        "deadline_max_ms: 60000",
        "inflight_bytes_max: 262143",
        "limits.record_bytes_max",
        "limits:",
        "above limits.inflight_bytes_max",
    ),
    "history buffer smaller than a batch": Case(
        "deadline_max_ms: 60000",
        "history_buffer_bytes_max: 16777215",
        "limits.history_buffer_bytes_max",
        "16777215",
        "is below limits.batch_bytes_max, 16777216",
    ),
    "phrase twice in a route": Case(
        "phrases: [contract]", "phrases: [Contract, ' CONTRACT ']", "routes.papers.phrases[1]", "CONTRACT", "this route"
    ),
    "phrase in two routes": Case(
        "phrases: [contract]", "phrases: [REVENUE]", "routes.papers.phrases[0]", "REVENUE", "is in route money already"
    ),
    "unknown default route": Case(
        "default_route: money",
        "default_route: monney",
        "default_route",
        "monney",
        "no route monney; did you mean money?",
    ),
    "blank intent": Case("  papers:\n", '  " ":\n', "routes. ", '" ":', "an intent needs a name"),
    "password in the file": Case(
        "kafka: {}", "kafka: {sasl.password: hunter2}", "kafka.sasl.password", "hunter2", "secrets do not belong"
    ),
    "property that is not the file's to set": Case(
        "kafka: {}", "kafka: {group.id: mine}", "kafka.group.id", "group.id", "leave it out: pointsman names its groups"
    ),
    "key in the file": Case(
        "kafka: {}", "kafka: {ssl.key.pem: hunter2}", "kafka.ssl.key.pem", "hunter2", "secrets do not"
    ),
}


def test_the_text_that_the_cases_change_is_valid() -> None:
    assert faults_of(TEXT) == ()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_broken_rule_is_reported_with_its_key_and_line(case: Case) -> None:
    text = changed((case.old, case.new))
    [fault] = faults_of(text)
    assert (fault.path, fault.line) == (case.path, line_of(text, case.line))
    assert case.message in fault.message
    assert "hunter2" not in fault.message


@pytest.mark.parametrize("name", ["Alpha", "1alpha", "al-pha", "al.pha", "", "alphä", "alpha\\n"])
def test_an_agent_name_that_is_no_part_of_a_topic_is_refused(name: str) -> None:
    text = changed(("  gamma:\n", f'  "{name}":\n'), ("[alpha, beta, gamma]", "[alpha, beta]"))
    [fault] = faults_of(text)
    assert fault.line == line_of(text, f'"{name}"')
    assert "is part of topic names" in fault.message


@pytest.mark.parametrize(("characters", "faults"), [(249 - 2 - len("agents..events.v1"), 0), (250 - 2 - 17, 1)])
def test_a_topic_name_beyond_what_kafka_takes_is_refused(characters: int, faults: int) -> None:
    text = changed(("  gamma:\n", f"  {'g' * characters}:\n"), ("[alpha, beta, gamma]", "[alpha, beta]"))
    found = faults_of(text)
    assert len(found) == faults
    assert all("250 characters; Kafka takes 249" in fault.message for fault in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[alpha, beta, gamma]", "[alpha, beta]"),  # an agent that no route uses
        ("deadline_ms: 8000", "deadline_ms: 5000"),  # the timeout of beta and gamma
        ("deadline_max_ms: 60000", "deadline_max_ms: 604799999"),
        ("deadline_max_ms: 60000", "deadline_max_ms: 9000"),
        ("single_above: 0.8", "single_above: 0.5"),
        ("open_ms: 1000", "open_ms: 600000"),
        ("deadline_max_ms: 60000", "batch_bytes_max: 262144"),
    ],
)
def test_what_is_just_within_a_rule_is_allowed(old: str, new: str) -> None:
    assert faults_of(changed((old, new))) == ()


def test_recovery_finds_what_it_reads_for_as_long_as_a_task_may_take() -> None:
    text = changed(("deadline_max_ms: 60000", "deadline_max_ms: 604799999"))
    topology = parse_topology(text, "x")
    topics = topology.topics()
    kept = {spec.name: spec.retention_ms for spec in topics.specs()}
    read = (topics.submitted, topics.results, topics.orchestrator, *topics.inboxes, *topics.logs)
    assert min(kept[name] for name in read) > topology.limits.deadline_max_ms


def test_faults_of_every_kind_are_reported_at_once_and_in_the_order_of_the_file() -> None:
    text = changed(
        ("single_above: 0.8", "singel_above: 0.8"),
        ("quorum: 2", "quorum: 3"),
        ("effect: idempotent", "effect: sometimes"),
        ("deadline_ms: 8000", "deadline_ms: soon"),
        ("agents: [beta]", "agents: [betta, 5]"),
        ("default_route: money", "default_route: paper"),
    )
    assert [fault.path for fault in faults_of(text)] == [
        "bands.singel_above",
        "consensus.quorum",
        "agents.beta.effect",
        "routes.money.deadline_ms",
        "routes.papers.agents[0]",
        "routes.papers.agents[1]",
        "default_route",
    ]


def test_no_rule_speaks_of_a_value_that_is_at_fault_itself() -> None:
    # The stand-in for the timeout, 5000, would be above the deadline; gamma may or may not write.
    text = changed(
        ("timeout_ms: 1000", "timeout_ms: 1s"),
        ("agents: [alpha, beta, gamma]", "agents: [alpha]"),
        ("panel: [alpha, beta]", "panel: [alpha, gamma]"),
        ("deadline_ms: 8000", "deadline_ms: 400"),
        ("    effect: write\n", "    effect: writes\n    timeout_ms: 10\n"),
        ("deadline_ms: 9000", "deadline_ms: no"),
        ("quorum: 2", "panel_size: few"),
    )
    assert [fault.path for fault in faults_of(text)] == [
        "defaults.deadline_ms",
        "consensus.panel_size",
        "agents.alpha.timeout_ms",
        "agents.gamma.effect",
    ]
