"""How long a dispatch may lie unread with a host that is behind or gone: what worker and host have to agree on.

The worker takes an attempt for timed out so much later, the host begins it so much later at most. I/O: none.
"""

from __future__ import annotations


def wait_ms(most_ms: int, routed_ms: int, deadline_ms: int) -> int:
    """`most_ms` is `limits.dispatch_wait_ms`. Half of the task's time at most, so that another agent can be asked."""
    return max(0, min(most_ms, (deadline_ms - routed_ms) // 2))
