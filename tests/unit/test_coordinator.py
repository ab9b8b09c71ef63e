"""When a member of a group has to end, for its coordinator is nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.codes import ErrorCode
from streams.transport.clients import ConnectionWatch, StrandedError, client_config
from streams.transport.consumer import records_of
from streams.transport.coordinator import STRANDED_S, Coordination
from tests.support.brokers import Settings

BROKER, COORDINATOR = "127.0.0.1:9092/1", "GroupCoordinator"


def told(at_s: float, state: str = "wait-coord", broker: str = "UP", group: bool = True) -> str:
    brokers = {
        BROKER: {"state": broker, "source": "learned"},
        COORDINATOR: {"state": "UP", "source": "logical"},
    }
    seen: dict[str, Any] = {"ts": int(at_s * 1e6), "brokers": brokers}
    return json.dumps(seen | ({"cgrp": {"state": state}} if group else {}))


def test_a_coordinator_that_is_nowhere_for_a_minute_is_told() -> None:
    found = Coordination()
    assert found.look(told(100)) is None
    assert found.look(told(100 + STRANDED_S - 1, "query-coord")) is None
    said = found.look(told(100 + STRANDED_S))
    assert said is not None
    assert BROKER in said
    assert COORDINATOR not in said


@pytest.mark.parametrize("between", [{"state": "up"}, {"broker": "DOWN"}, {"group": False}])
def test_where_it_was_seen_or_nobody_was_the_minute_begins_anew(between: dict[str, Any]) -> None:
    found = Coordination()
    assert found.look(told(100)) is None
    assert found.look(told(130, **between)) is None
    assert found.look(told(100 + STRANDED_S)) is None
    assert found.look(told(100 + 2 * STRANDED_S)) is not None


def test_a_stranded_consumer_says_so_with_each_poll() -> None:
    watch = ConnectionWatch("test")
    for at_s in (0, STRANDED_S):
        watch.statistics(told(at_s))
    watch.statistics(told(STRANDED_S + 1, "up"))  # its partitions are others' by now
    for _ in range(2):
        with pytest.raises(StrandedError) as raised:
            records_of([], watch)
        assert raised.value.error_code is ErrorCode.NO_COORDINATOR


def test_members_of_groups_tell_statistics_and_others_do_not() -> None:
    settings = Settings("127.0.0.1:9092")
    assert client_config(settings, None, "consumer", group="g")["statistics.interval.ms"] > 0
    assert "statistics.interval.ms" not in client_config(settings, None, "consumer")
