"""How long a dispatch may lie unread with a host that is behind or gone: what worker and host have to agree on.

The worker takes an attempt for timed out so much later, the host begins it so much later at most. I/O: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def wait_ms(most_ms: int, routed_ms: int, deadline_ms: int) -> int:
    """`most_ms` is `limits.dispatch_wait_ms`. Half of the task's time at most, so that another agent can be asked."""
    return max(0, min(most_ms, (deadline_ms - routed_ms) // 2))


def waits_ms(
    most_ms: int, routed_ms: npt.NDArray[np.int64], deadlines_ms: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The same, of many."""
    return np.asarray(np.clip((deadlines_ms - routed_ms) // 2, 0, most_ms), np.int64)
