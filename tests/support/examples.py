"""How many examples a property is shown.

Hypothesis's own profiles choose, in tests/conftest.py: `brief` as CI runs, `full` on request (docs/testing.md).
"""

from __future__ import annotations

from hypothesis import settings

FULL = 100
"""What the profile `full` shows a property that says nothing of its own."""
FEWEST = 10


def examples(full: int) -> settings:
    """So many with the profile `full`, and the profile's share of them with another."""
    share = settings().max_examples / FULL
    return settings(max_examples=max(min(full, FEWEST), round(full * share)))
