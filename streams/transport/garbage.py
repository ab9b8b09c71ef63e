"""Makes Python's cycle collector rare: a batch's objects go by reference count, and what stays is never walked.

With the defaults each 700 new objects start a collection, so that a turn of some thousand tasks spent a third of its
time in them. I/O: none.
"""

from __future__ import annotations

import gc

YOUNG_MAX = 500_000
"""Objects made and not yet gone before the youngest are looked at; cycles among them are few and small.

More than a turn and the tasks in flight come to: with a tenth of it, what lives for a second was walked over and over.
"""

YOUNG_ROUNDS, MIDDLE_ROUNDS = 20, 50


def calm_collector() -> None:
    """Call it once a process has loaded what stays: that is never walked again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, YOUNG_ROUNDS, MIDDLE_ROUNDS)


def thaw() -> None:
    """The opposite, once what was there is needed no more: what lies in cycles is found again, and goes."""
    gc.unfreeze()
    gc.collect()
