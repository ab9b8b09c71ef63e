"""The whole audit of a run: what its topics hold, held against itself and against the history.

I/O: Kafka; `view` asks the history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable

from loadtest.audit_log import Log, LogTail
from loadtest.auditor import Report, audit_tasks
from loadtest.invariants import compare
from schemas.topology import Topology
from streams.transport.clients import BrokerSettings

View = Callable[[str], Iterable[Hashable]]

POLL_S = 0.3


def audit(log: Log, view: View) -> Report:
    """Holds a log against the history; `view` gives the facts of one kind that the history shows, by its name.

    The dead topic is part of the history: what is no record has to be there, and nothing else.
    """
    parts = [compare("dead topic", log.invalid, log.dead)]
    parts += [compare(kind, facts, view(kind)) for kind, facts in log.facts().items()]
    tasks = audit_tasks(log.submissions, log.dispatches, log.outcomes, log.results)
    return Report(tasks, len(log.dead), tuple(parts))


def audit_at_rest(
    settings: BrokerSettings,
    topology: Topology,
    view: View,
    timeout_s: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Log, Report]:
    """The audit, once it finds everything in its place; the last one made when time is up.

    `meanwhile` is called before each try. Raises what it raises, and as `read_log`.
    """
    until, tail = time.monotonic() + timeout_s, LogTail(settings, topology)
    while True:
        meanwhile()
        log = tail.read_on()
        report = audit(log, view)
        if report.sound or time.monotonic() > until:
            return log, report
        time.sleep(POLL_S)
