"""The common piece of work: which tasks stand in the topic, and which policy decides about them.

The same seed gives the same bytes. Texts are made so that deciding takes what it takes in earnest: several phrases that
compete, words that only contain one, letters beyond ASCII, and no two texts alike. I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from loadtest.workload import HALF_SURE, SURE, UNSURE
from schemas.records import RECORDS
from schemas.registry import FileRegistry, Schema
from schemas.topology import Topology
from streams.client import Client, Prepared

SEED = 6
CHUNK = 5_000
HOUR_MS = 3_600_000
INFLIGHT_MAX = 50_000_000
SUBMITTED_AT_US = 1_750_000_000_000_000  # fixed, for the bytes to be the same

CONVERSATIONS = 100_000
ZIPF = 1.3
CONFIDENCE_SHARES = (0.80, 0.15, 0.05)  # sure, half sure, unsure
TIERS = ("UNKNOWN", "LOW", "MEDIUM", "HIGH")
TIER_SHARES = (0.5, 0.06, 0.39, 0.05)
# How many phrases a text gets; the rest of it says nothing.
PHRASES_SHARES = (0.05, 0.75, 0.15, 0.05)
STATED_SHARE = CAPITAL_SHARE = RIVAL_SHARE = 0.5
PLAIN = (
    *("please", "tell", "us", "what", "is", "known", "about", "the", "matter", "of", "Lisbon", "café", "Überblick"),
    # They hold phrases and are none.
    *("reportage", "salesman", "documentary", "marginalia", "accountant", "clientele", "catalogs", "unconverted"),
)
RECORDS_OF_PEERS = ("TaskSubmitted", "TaskDispatched", "TaskResult", "OrchestratorEvent")


def bench_topology(topology: Topology, prefix: str) -> Topology:
    """The same routes, phrases and agents, with room for tasks that no agent answers: none may time out in a run."""
    agents = {name: agent.model_copy(update={"timeout_ms": HOUR_MS}) for name, agent in topology.agents.items()}
    routes = {name: route.model_copy(update={"deadline_ms": 2 * HOUR_MS}) for name, route in topology.routes.items()}
    roomy = {"inflight_tasks_max": INFLIGHT_MAX, "inflight_bytes_max": INFLIGHT_MAX * 1_000}
    return topology.model_copy(
        update={
            "prefix": prefix,
            "delivery": "at_least_once",
            "agents": agents,
            "routes": routes,
            "limits": topology.limits.model_copy(update=roomy),
        }
    )


def tasks(topology: Topology, numbers: range, seed: int = SEED) -> dict[str, Any]:
    """Columns of TaskSubmitted. Conversations are Zipf-distributed."""
    n, draw = len(numbers), np.random.default_rng((seed, numbers.start))
    intents = list(topology.routes)
    states = draw.random(n) < STATED_SHARE
    routes = draw.integers(0, len(intents), n).tolist()
    confidences = draw.choice([SURE, HALF_SURE, UNSURE], n, p=CONFIDENCE_SHARES).tolist()
    return {
        "task_id": [f"{seed}-{number}" for number in numbers],
        "conversation_id": [f"c{number % CONVERSATIONS}" for number in draw.zipf(ZIPF, n).tolist()],
        "text": [_text(topology, draw, number) for number in numbers],
        "intent": [intents[route] if state else None for route, state in zip(routes, states, strict=True)],
        "confidence": [each if state else None for each, state in zip(confidences, states, strict=True)],
        "value_tier": draw.choice(TIERS, n, p=TIER_SHARES).tolist(),
        "submitted_at": SUBMITTED_AT_US,
    }


def _text(topology: Topology, draw: np.random.Generator, number: int) -> str:
    words = [PLAIN[index] for index in draw.integers(0, len(PLAIN), 12)]
    own = [phrase.phrase for phrase in list(topology.routes.values())[number % len(topology.routes)].phrases]
    every = [phrase.phrase for route in topology.routes.values() for phrase in route.phrases]
    for place in range(int(draw.choice(len(PHRASES_SHARES), p=PHRASES_SHARES))):
        phrase = str(draw.choice(every if place and draw.random() < RIVAL_SHARE else own))
        words.insert(
            int(draw.integers(0, len(words))), phrase.capitalize() if draw.random() < CAPITAL_SHARE else phrase
        )
    return f"{' '.join(words)}, case {number}."


def records(topology: Topology, count: int, seed: int = SEED) -> Iterator[Prepared]:
    """The tasks as keys and values, a chunk at a time, encoded by the product's own client."""
    with Client("unused:0") as client:
        for start in range(0, count, CHUNK):
            yield client.prepare_columns(tasks(topology, range(start, min(start + CHUNK, count)), seed))


def policy(topology: Topology) -> dict[str, Any]:
    """The topology as peers read it: all names and numbers that rules R4 to R6 need."""
    return {
        "version": topology.version,
        "default_route": topology.default_route,
        "tier": topology.defaults.value_tier,
        "bands": topology.bands.model_dump(),
        "quorum": topology.consensus.quorum,
        "panel_sizes": {"HIGH": topology.consensus.high_value_panel_size, "OTHER": topology.consensus.panel_size},
        "agents": {name: {"timeout_ms": agent.timeout_ms} for name, agent in topology.agents.items()},
        "routes": {
            intent: {
                "agents": list(route.agents),
                "voters": list(topology.voters(intent)),
                "chain": list(route.plan),
                "fallback_agent": route.fallback.agent,
                "fallback_answer": route.fallback.answer,
                "low_value_answer": route.low_value_answer,
                "deadline_ms": route.deadline_ms or topology.defaults.deadline_ms,
                "phrases": [{"phrase": each.phrase, "confidence": each.confidence} for each in route.phrases],
            }
            for intent, route in topology.routes.items()
        },
    }


def peer_config(topology: Topology, broker: str, group: str, state_dir: str) -> dict[str, Any]:
    """All that a peer is told, as JSON values."""
    topics, registry = topology.topics(), FileRegistry.load()
    schemas = {
        name: {
            "id": registry.register_schema(RECORDS[name].subject, Schema(RECORDS[name].avro)),
            "schema": json.loads(RECORDS[name].avro),
        }
        for name in RECORDS_OF_PEERS
    }
    return {
        "broker": broker,
        "group": group,
        "partitions": topology.partitions,
        "state_dir": state_dir,
        "policy": policy(topology),
        "topics": {
            "submitted": topics.submitted,
            "results": topics.results,
            "orchestrator": topics.orchestrator,
            "inboxes": {agent: topics.inbox(agent) for agent in topology.agents},
        },
        "schemas": {**schemas, "Slip": {"id": 0, "schema": json.loads(RECORDS["Slip"].avro)}},
    }
