"""Keys of agents that only some kinds have: which may, which must, and what of their values is never repeated."""

from __future__ import annotations

import pytest
from annotated_types import Le, Lt

from schemas import topology
from schemas.topology import Topology, parse_topology
from schemas.topology_agent import Agent, Section, Summarising
from tests.support.topologies import faults_of

TEXT = """\
agents:
  a:
    effect: read
    %s
routes: {r: {agents: [a], fallback: {answer: x}}}
default_route: r
"""


def text(agent: str) -> str:
    return TEXT % agent.replace("; ", "\n    ")


@pytest.mark.parametrize(
    ("agent", "path", "line", "message"),
    [
        ("kind: http", "url", 2, "is missing: an agent of kind http needs the address that tasks are posted to"),
        ("kind: command", "command", 2, "is missing: an agent of kind command needs the program and its arguments"),
        ("kind: batch", "run", 2, "is missing: an agent of kind batch needs the code, as module:function"),
        ("run: a:b; context: false; summary: {run: m:f}", "summary", 6, "has no use: this agent is not shown its conv"),
        ("run: a:b; kind: batch; summary: {run: m:f}", "summary", 6, "has no use"),
        ("run: a:b; summary: {run: m}", "summary.run", 5, "must name code as module:function"),
        ("run: a:b; summary: {run: m:f, tokens_max: 5000}", "summary.tokens_max", 5, "must be at most 1600"),
        ("kind: http; url: http://x/; response_bytes_max: 67108865", "response_bytes_max", 6, "must be at most"),
        ("url: http://x/", "kind", 2, "is python, but the agent has url: state kind: http"),
        ("command: [x]; cwd: y", "kind", 2, "is python, but the agent has command: state kind: command"),
        ("kind: http; command: [x]", "kind", 4, "is http, but the agent has command: state kind: command"),
        ("kind: http; run: a:b", "kind", 4, "is http, but the agent has run: state kind: python"),
        ("kind: htpp; url: http://x/", "kind", 4, "must be python, batch, http or command, but is 'htpp'"),
        ("run: a:b; cwd: x", "cwd", 5, "is of kind command; this agent is of kind python"),
        ("run: a:b; response_bytes_max: 2000", "response_bytes_max", 5, "is of kind http or command; this agent"),
        ("kind: http; url: http://x/; run: a:b", "run", 6, "is of kind python or batch; this agent is of kind http"),
        ("kind: http; url: http://x/; env: {A: b}", "env", 6, "is of kind command; this agent is of kind http"),
        ("kind: http; urll: http://x/", "urll", 5, "is not a known key; did you mean url?"),
        ("kind: http; url: x.example", "url", 5, "must be http://HOST[:PORT]/PATH or https://, without user, password"),
        ("kind: http; url: 'http://hunter2:hunter2@x/'", "url", 5, "without user, password or fragment"),
        ("kind: http; url: 'http://x:99999/'", "url", 5, "names no host, or no port from 1 to 65535"),
        ("kind: http; url: 'http://x:0/'", "url", 5, "names no host, or no port from 1 to 65535"),
        ("kind: http; url: 'http://[::1/'", "url", 5, "names no host, or no port from 1 to 65535"),
        ("kind: command; command: x", "command", 5, "must be a list, but is 'x'"),
        ("kind: command; command: []", "command", 5, "must not be empty"),
        ("kind: command; command: ['']", "command[0]", 5, "is no name of a program"),
        ('kind: command; command: [x, "a\\0"]', "command[1]", 5, "holds a NUL"),
        ("kind: command; command: [x]; env: [A]", "env", 6, "must be a mapping of names"),
        ("kind: command; command: [x]; env: {A: 1}", "env.A", 6, "must be text, or {env: NAME}"),
        ("kind: command; command: [x]; env: {A: {}}", "env.A", 6, "needs text, or {env: NAME}"),
        ("kind: command; command: [x]; env: {A: {value: x, env: B}}", "env.A", 6, "one of them"),
        ("kind: command; command: [x]; env: {A: {evn: B}}", "env.A.evn", 6, "is not a known key; did you mean env?"),
        ("kind: command; command: [x]; env: {A: {env: a-b}}", "env.A.env", 6, "must name a variable"),
        ("kind: command; command: [x]; env: {1A: b}", "env.1A", 6, "is no name of a variable"),
        ("kind: command; command: [x]; env: {API_KEY: hunter2}", "env.API_KEY", 6, "secrets do not belong in this"),
        ("kind: command; command: [x]; env: {a_token: hunter2}", "env.a_token", 6, "write {env: NAME}"),
        ("kind: command; command: [x]; env: {A: {value: b, prefix: c}}", "env.A.prefix", 6, "belongs to env"),
        ('kind: command; command: [x]; env: {A: "b\\nhunter2"}', "env.A.value", 6, "must be one line of text"),
        ("kind: command; command: [x]; memory_mib_max: 1", "memory_mib_max", 6, "must be at least 16, but is 1"),
        ("kind: command; command: [x]; sandbox: always", "sandbox", 6, "must be auto, required or off"),
        ("kind: http; url: http://x/; headers: {Authorization: hunter2}", "headers.Authorization", 6, "secrets do not"),
        ("kind: http; url: http://x/; headers: {X-Api-Key: hunter2}", "headers.X-Api-Key", 6, "secrets do not"),
        ("kind: http; url: http://x/; headers: {Content-Type: a}", "headers.Content-Type", 6, "is set by the host"),
        ("kind: http; url: http://x/; headers: {'a b': c}", "headers.a b", 6, "is no name of a header"),
        ("kind: http; url: http://x/; headers: {a: {env: B, prefix: 5}}", "headers.a.prefix", 6, "must be text"),
        ('kind: http; url: http://x/; headers: {a: {env: B, prefix: "\\r"}}', "headers.a.prefix", 6, "one line"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_its_kind_is_one_fault_in_its_place(
    agent: str, path: str, line: int, message: str
) -> None:
    [fault] = faults_of(text(agent))
    assert (fault.path.removesuffix(".value"), fault.line) == (f"agents.a.{path}".removesuffix(".value"), line)
    assert message in fault.message
    assert "hunter2" not in fault.message


@pytest.mark.parametrize(
    "agent",
    [
        "run: a:b",
        "kind: http; url: https://x.example:8443/a/b?c=d",
        "kind: http; url: 'http://[::1]:80/'",
        "kind: http; url: http://x/; headers: {authorization: {env: T, prefix: 'Bearer '}, x-team: search}",
        "kind: command; command: [node, a.mjs]; env: {A: {env: B}, MAX_TOKENS: '5'}; cwd: x; network: true",
    ],
)
def test_what_fits_is_read_and_survives_a_round_trip(agent: str) -> None:
    topology = parse_topology(text(agent), "text")
    assert Topology.model_validate_json(topology.model_dump_json()) == topology


def test_a_program_runs_less_often_side_by_side_than_a_function_unless_it_is_stated() -> None:
    def running_max(agent: str) -> int:
        return parse_topology(text(agent), "text").agents["a"].running_max

    assert running_max("run: a:b") == running_max("kind: http; url: http://x/") == 64
    assert running_max("kind: command; command: [x]") == 4
    assert running_max("kind: command; command: [x]; concurrency: 9") == 9


def test_how_an_agent_is_reached_decides_nothing() -> None:
    one, other = (parse_topology(text(f"kind: http; url: http://{host}/"), "text") for host in "xy")
    assert one.version == other.version


def test_a_bound_that_a_key_states_is_not_lost_beside_the_common_one() -> None:
    """Pydantic takes the last of two: a key with a bound of its own must not have the one of all numbers, too."""
    for section in (Agent, Summarising, *(each for each in vars(topology).values() if is_section(each))):
        for name, field in section.model_fields.items():
            bounds = [each for each in field.metadata if isinstance(each, Le | Lt)]
            assert len(bounds) <= 1, f"{section.__name__}.{name}: {bounds}"


def is_section(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Section)
