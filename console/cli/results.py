"""`pointsman results`: the latest results, all of them, or those that come.

I/O: Kafka, stdout, stderr.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from console.cli.deployment import Deployment
from console.cli.feed import COLUMNS, brief, row_of
from console.cli.output import Format, Output
from streams.client import Client, Result

LATEST = 20
# Widths of what is printed while it comes; longer values push their row, the answer ends it.
WIDTHS = dict(zip(COLUMNS, (36, 9, 16, 15, 18, 6, 8, 20), strict=True))


def print_results(
    deployment: Deployment, *, follow: bool, from_beginning: bool, limit: int | None, form: Format, out: Output
) -> None:
    """Prints results in the order of their decision; while following, as they come. Raises UnreachableError."""
    with Client.of(deployment.settings, deployment.topology, "pointsman-results") as client:
        with client.results(start="beginning" if from_beginning else "end") as feed:
            if follow:
                _follow(islice(feed, limit), form, out)
            else:
                count = limit or (None if from_beginning else LATEST)
                found = feed.held(None if from_beginning else count)
                results = found[:count] if from_beginning else found[-(count or 0) :]
                out.records(map(brief if form is Format.TABLE else row_of, results), COLUMNS, form)
        if feed.undecodable:
            out.note(f"{feed.undecodable} records of the results topic could not be decoded and were skipped")


def _follow(results: Iterable[Result], form: Format, out: Output) -> None:
    out.note("following the results; Ctrl-C ends it")
    if form is Format.TABLE:
        out.stream(map(brief, results), WIDTHS)
    for result in results:
        out.json_line(row_of(result))
