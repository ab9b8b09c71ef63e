"""What a broken build is: something else in the place of one function of the product. I/O: none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.simulation.standins import replaced

TWICE = frozenset({"P1", "A2", "E1"})
"""What says that something was done twice: one of these, by what it was."""

WITHIN = 480
"""So many seeds of its profile must catch a broken build.

Many times what any takes: the rarest show in one of a hundred, and whatever changes what seeds draw deals them anew.
"""


class Mutant(NamedTuple):
    """`place` is the dotted path of what `stand_in` takes the place of; `profile`: the kind of run that shows it."""

    place: str
    stand_in: Any
    codes: frozenset[str]
    profile: str


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    with replaced((mutant.place, mutant.stand_in)):
        yield
