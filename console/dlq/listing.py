"""`pointsman dlq list`: the dead letters that are meant, or how many there are for which reason.

I/O: Kafka, stdout, stderr.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.output import Format, Output, Row
from console.dlq.opened import Opened, opened
from console.dlq.rows import row_of, shown, time_of, told
from console.dlq.selection import Selection
from streams.transport.dead_topic import Letter

COLUMNS = ("id", "at", "topic", "reason", "attempt", "redriven")
SUMMARY_COLUMNS = ("origin_topic", "reason", "letters", "redriven", "first_at", "last_at")


def list_letters(deployment: Deployment, selection: Selection, *, limit: int, form: Format, out: Output) -> ExitCode:
    """Prints the newest `limit` of them, the oldest first. Raises UnreachableError, NotFoundError."""
    with opened(deployment) as dead:
        markers, found = dead.select(selection)
        newest: deque[Letter] = deque(maxlen=limit)
        count = 0
        for letter, _ in found:
            newest.append(letter)
            count += 1
        letters = sorted(newest, key=lambda letter: (letter.at_ms, letter.partition, letter.offset))
        bodies = dead.bodies.read(letters)
        rows = [row_of(letter, body, markers.of(letter)) for letter, body in zip(letters, bodies, strict=True)]
    out.records(map(shown, rows) if form is Format.TABLE else rows, COLUMNS, form)
    if count > len(rows):
        out.note(f"{told(count - len(rows), 'older one')} not shown: --limit, or --summary for their counts.")
    if form is Format.TABLE:
        out.note("`pointsman dlq show ID` tells all of one." if rows else f"No dead letter{_asked(selection)}.")
    return ExitCode.OK


def _asked(selection: Selection) -> str:
    return "" if selection.asks_nothing and selection.redriven is None else " that this asks for"


@dataclass(slots=True)
class _Count:
    letters: int = 0
    redriven: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def add(self, at_ms: int, *, is_redriven: bool) -> None:
        self.first_ms = min(self.first_ms, at_ms) if self.letters else at_ms
        self.last_ms = max(self.last_ms, at_ms)
        self.letters += 1
        self.redriven += is_redriven


def summarise(deployment: Deployment, selection: Selection, *, form: Format, out: Output) -> ExitCode:
    """Prints a row for each topic and reason, the most frequent first."""
    with opened(deployment) as dead:
        counts = _counted(dead, selection)
    ranked = sorted(counts.items(), key=lambda each: (-each[1].letters, each[0]))
    rows: list[Row] = [
        {
            "origin_topic": topic or None,
            "reason": reason or None,
            "letters": count.letters,
            "redriven": count.redriven,
            "first_at": time_of(count.first_ms),
            "last_at": time_of(count.last_ms),
        }
        for (topic, reason), count in ranked
    ]
    out.records(rows, SUMMARY_COLUMNS, form)
    if form is Format.TABLE:
        letters, redriven = (sum(getattr(count, name) for count in counts.values()) for name in ("letters", "redriven"))
        out.note(f"{told(letters, 'dead letter')}, {redriven} of them redriven.")
    return ExitCode.OK


def _counted(dead: Opened, selection: Selection) -> dict[tuple[str, str], _Count]:
    markers, found = dead.select(selection)
    counts: dict[tuple[str, str], _Count] = {}
    for letter, _ in found:
        kind = (letter.said.origin.topic if letter.said.origin else "", letter.said.reason)
        counts.setdefault(kind, _Count()).add(letter.at_ms, is_redriven=bool(markers.of(letter)))
    return counts
