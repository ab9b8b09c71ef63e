"""A small valid topology as text, and its faults once a line of it is changed."""

from __future__ import annotations

from schemas.errors import Fault, TopologyError
from schemas.topology import parse_topology

TEXT = """\
prefix: t.
kafka: {}
defaults:
  deadline_ms: 9000
limits:
  deadline_max_ms: 60000
bands:
  single_above: 0.8
consensus:
  quorum: 2
breaker:
  open_ms: 1000
agents:
  alpha:
    run: pack.age:alpha
    effect: read
    timeout_ms: 1000
  beta:
    run: pack.age:beta
    effect: idempotent
    options: {a: 1}
  gamma:
    run: pack.age:gamma
    effect: write
  slow:
    run: pack.age:slow
    effect: read
    timeout_ms: 5001
  slower: {run: pack.age:slower, effect: read, timeout_ms: 8001}
routes:
  money:
    agents: [alpha, beta, gamma]
    panel: [alpha, beta]
    phrases:
      - revenue
      - {phrase: margin, confidence: 0.6}
    deadline_ms: 8000
    fallback:
      answer: nobody knows
  papers:
    agents: [beta]
    phrases: [contract]
    fallback: {agent: alpha}
default_route: money
"""


def changed(*changes: tuple[str, str]) -> str:
    """The text with each `old` replaced by `new`; each has to stand in it exactly once."""
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def faults_of(text: str) -> tuple[Fault, ...]:
    """Everything that is wrong with the text, in the order in which it is reported."""
    try:
        parse_topology(text, "topology.yaml")
    except TopologyError as error:
        return error.faults
    return ()


def line_of(text: str, marker: str) -> int:
    """Number, from 1, of the first line that holds `marker`."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if marker in line)
