"""What a person who wrote an unknown name most likely meant. I/O: none."""

from __future__ import annotations

from collections.abc import Iterable

ALIKE_MIN = 60  # of 100: below this a suggestion misleads
LISTED_MAX = 12


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most like `name`; None where none is like it."""
    from rapidfuzz import fuzz, process  # noqa: PLC0415  nobody waits for it who writes no unknown name

    found = process.extractOne(name.lower(), list(choices), scorer=fuzz.ratio, score_cutoff=ALIKE_MIN)
    return None if found is None else str(found[0])


def suggest(name: str, choices: Iterable[str]) -> str:
    """`; did you mean agents?`, or where nothing is near, the names there are; put behind a statement about `name`."""
    names = list(choices)
    found = nearest(name, names)
    if found is not None:
        return f"; did you mean {found}?"
    if not names:
        return ""
    more = ", ..." if len(names) > LISTED_MAX else ""
    return f"; there are: {', '.join(names[:LISTED_MAX])}{more}"
