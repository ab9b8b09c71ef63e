"""The tasks of a load test, by number: the same seed gives the same tasks.

Of all tasks 80 % are sure of their intent (one agent), 15 % half sure (a panel), 5 % unsure (the fallback agent); every
other one leaves its intent to the phrase rules. Conversations are Zipf-distributed. I/O: none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.topology import Topology

CONVERSATIONS = 100_000
ZIPF = 1.3
SURE, HALF_SURE, UNSURE = 0.95, 0.65, 0.3
SHARES = (0.80, 0.15, 0.05)
FILLER = "and please say where that comes from, in two or three plain sentences"


class Workload:
    """Tasks for the routes of a topology. `seed` makes another run."""

    def __init__(self, topology: Topology, seed: int) -> None:
        self._seed = seed
        self._intents = list(topology.routes)
        surest = {
            name: max(route.phrases, key=lambda phrase: phrase.confidence, default=None)
            for name, route in topology.routes.items()
        }
        self._texts = [f"{phrase.phrase if phrase else name} {FILLER}" for name, phrase in surest.items()]

    def tasks(self, numbers: range) -> dict[str, Any]:
        """Columns of TaskSubmitted, without submitted_at, of the tasks with these numbers."""
        draw = np.random.default_rng((self._seed, numbers.start))
        n = len(numbers)
        routes = draw.integers(0, len(self._intents), n).tolist()
        confidences = draw.choice([SURE, HALF_SURE, UNSURE], n, p=SHARES).tolist()
        conversations = [f"c{number % CONVERSATIONS}" for number in draw.zipf(ZIPF, n).tolist()]
        return {
            "task_id": [f"{self._seed}-{number}" for number in numbers],
            "conversation_id": conversations,
            "text": [self._texts[route] for route in routes],
            "intent": [self._intents[route] if row % 2 else None for row, route in enumerate(routes)],
            "confidence": confidences,
        }
