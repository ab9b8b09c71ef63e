"""The whole audit of a run: what its topics hold, held against itself and against the history.

I/O: none of its own; `view` asks the history.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from loadtest.audit_log import Log
from loadtest.auditor import Report, audit_tasks, compare


def audit(log: Log, view: Callable[[str], Iterable[Hashable]]) -> Report:
    """Holds a log against the history; `view` gives the facts of one kind that the history shows, by its name.

    The dead topic is part of the history: what is no record has to be there, and nothing else.
    """
    parts = [compare("dead topic", log.invalid, log.dead)]
    parts += [compare(kind, facts, view(kind)) for kind, facts in log.facts().items()]
    tasks = audit_tasks(log.submissions, log.dispatches, log.outcomes, log.results)
    return Report(tasks, len(log.dead), tuple(parts))
