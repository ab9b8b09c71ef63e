"""A call of librdkafka that may wait for ever, and its deadline."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from streams.transport import bounded
from streams.transport.bounded import LOOKS, rebalance_callback, within
from streams.transport.clients import CommitUnavailableError, StrandedError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LOOK_S", 0.02)


def refuse() -> None:
    raise CommitUnavailableError("not now")


def never() -> bool:
    pytest.fail("nobody else has to be asked")


def test_what_ends_in_time_is_as_it_was() -> None:
    assert within(lambda: 7, never) == 7
    with pytest.raises(CommitUnavailableError, match="not now"):
        within(refuse, never)


def held_by(held: threading.Event) -> Callable[[], bool]:
    return lambda: held.wait(30.0)


def test_a_call_that_takes_for_ever_is_left_behind_once_the_broker_answers_others() -> None:
    held, answers = threading.Event(), iter([True, False, *[True] * LOOKS])
    with pytest.raises(StrandedError, match="answers others"):
        within(held_by(held), lambda: next(answers))
    assert not list(answers), "a broker that was away in between is waited for anew"
    held.set()


def test_no_outage_is_waited_out_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "OUTAGE_S", 0.1)
    held = threading.Event()
    with pytest.raises(StrandedError, match="no broker can be reached"):
        within(held_by(held), lambda: False)
    held.set()


def test_an_outage_that_ends_costs_nothing() -> None:
    held, looks = threading.Event(), iter(range(3))

    def is_answered() -> bool:
        if next(looks) == 2:
            held.set()
        return False

    assert within(held_by(held), is_answered)


def test_in_a_rebalance_callback_the_caller_s_thread_makes_the_call() -> None:
    own = threading.get_ident()
    with rebalance_callback():
        assert within(threading.get_ident, never) == own
    assert within(threading.get_ident, never) != own
