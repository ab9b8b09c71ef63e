"""`pointsman results`: the latest results, all of them, or those that come.

I/O: Kafka, stdout, stderr.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from console.cli.deployment import Deployment
from console.cli.feed import COLUMNS, ResultFeed, Row, brief
from console.cli.output import Format, Output
from streams.transport.admin import check_broker

LATEST = 20
# Widths of what is printed while it comes; longer values push their row, the answer ends it.
WIDTHS = dict(zip(COLUMNS, (36, 9, 16, 15, 18, 6, 8, 20), strict=True))


def print_results(
    deployment: Deployment, *, follow: bool, from_beginning: bool, limit: int | None, form: Format, out: Output
) -> None:
    """Prints results in the order of their decision; while following, as they come. Raises UnreachableError."""
    check_broker(deployment.settings, deployment.topology)
    with ResultFeed(deployment) as feed:
        if follow:
            _follow(feed, from_beginning, limit, form, out)
        else:
            count = limit or (None if from_beginning else LATEST)
            found = sorted(feed.until_now(None if from_beginning else count), key=_decided)
            rows = found[:count] if from_beginning else found[-(count or 0) :]
            out.records(rows if form is not Format.TABLE else map(brief, rows), COLUMNS, form)
        if feed.undecodable:
            out.note(f"{feed.undecodable} records of the results topic could not be decoded and were skipped")


def _decided(row: Row) -> tuple[bool, object]:
    return (row["decided_at"] is not None, row["decided_at"])


def _follow(feed: ResultFeed, from_beginning: bool, limit: int | None, form: Format, out: Output) -> None:
    if from_beginning:
        feed.from_beginning()
    else:
        feed.from_end()
    out.note("following the results; Ctrl-C ends it")
    rows = islice(_endless(feed), limit)
    if form is Format.TABLE:
        out.stream(map(brief, rows), WIDTHS)
    for row in rows:
        out.json_line(row)


def _endless(feed: ResultFeed) -> Iterator[Row]:
    while True:
        yield from feed.poll()
