"""What a broken build is here: something else in the place of one name of the product, and the laws that must fail.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import Phase, is_hypothesis_test, settings

from tests.simulation.standins import replaced

Law = Callable[..., None]

TIMES = 5


class Mutant(NamedTuple):
    """`place` is the dotted path of what `stand_in` takes the place of. Each law fails by `error`."""

    place: str
    stand_in: Any
    laws: tuple[Law, ...]
    error: type[BaseException] = AssertionError


def broken(mutant: Mutant, law: Law) -> None:
    """Raises what the law says of this build. It may take some times as many examples as otherwise: they are drawn from
    what stands in the code that is loaded, too, so that they change with what ran before, whatever the seed."""
    with replaced((mutant.place, mutant.stand_in)):
        if not is_hypothesis_test(law):
            law()
            return
        own = law._hypothesis_internal_use_settings  # type: ignore[attr-defined]
        calm = settings(
            own,
            max_examples=TIMES * own.max_examples,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            print_blob=False,
        )
        with replaced((f"{law.__module__}.{law.__name__}._hypothesis_internal_use_settings", calm)):
            law()
