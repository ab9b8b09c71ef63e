"""When what the store has read goes into the history."""

from __future__ import annotations

import pytest

from schemas.topology import Limits
from streams.history.sink import BUSY_INTERVALS, BUSY_ROWS, is_due

LIMITS = Limits(history_interval_ms=1_000, history_rows_max=50_000)


@pytest.mark.parametrize(
    ("rows", "waited_s", "due"),
    [
        (0, 3_600.0, False),
        (1, 0.9, False),
        (1, 1.0, True),
        (BUSY_ROWS - 1, 1.0, True),
        (BUSY_ROWS, 1.0, False),
        (BUSY_ROWS, float(BUSY_INTERVALS), True),
        (49_999, 0.5, False),
        (50_000, 0.0, True),
    ],
)
def test_few_rows_wait_an_interval_many_wait_longer_and_too_many_not_at_all(
    rows: int, waited_s: float, *, due: bool
) -> None:
    assert is_due(rows, waited_s, LIMITS) is due
