"""How tasks of a kind begin is made once, for as long as the same agents may be asked."""

from __future__ import annotations

import pytest

from streams.core import openings
from streams.core.availability import Blocked
from streams.core.intake import Kind
from streams.core.openings import Openings
from streams.core.policy import Policy
from tests.support import scenes

POLICY = Policy.compile(scenes.topology())
NOBODY = Blocked(frozenset(), frozenset())
SURE = Kind("money", 0.9, "MEDIUM", 30_000)
KINDS = (SURE, Kind("talk", 0.6, "HIGH", 30_000), Kind("money", 0.2, "MEDIUM", 30_000), Kind("money", 0.9, "LOW", 1))


def asked(found: Openings, blocked: Blocked) -> tuple[str, ...]:
    (opening,) = found.of([SURE], blocked)
    assert opening.plan is not None
    return opening.plan.first


def test_a_kind_is_planned_once() -> None:
    found = Openings(POLICY)
    first = found.of(KINDS, NOBODY)
    assert all(one is other for one, other in zip(first, found.of(KINDS, NOBODY), strict=True))
    assert [each.plan is None for each in first] == [False, False, False, True], "low value is answered by rule"
    assert [each.is_unsure for each in first] == [False, False, True, False]


def test_whom_a_breaker_or_a_person_takes_out_is_asked_no_longer_and_again_when_it_is_back() -> None:
    found = Openings(POLICY)
    assert asked(found, NOBODY) == ("alpha",)
    assert asked(found, Blocked(frozenset({"alpha"}), frozenset())) == ("beta",)
    assert asked(found, Blocked(frozenset(), frozenset({"alpha", "beta"}))) == ("gamma",)
    assert asked(found, NOBODY) == ("alpha",)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings, "OPENINGS_MAX", len(KINDS))
    found = Openings(POLICY)
    for number in range(10):
        kinds = [kind._replace(default_ms=kind.default_ms + number) for kind in KINDS]
        assert [each.plan is None for each in found.of(kinds, NOBODY)] == [False, False, False, True]
        assert len(found._known) == len(KINDS)
