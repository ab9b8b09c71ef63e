"""Which Kafka properties are refused, by librdkafka itself, and that no value is repeated."""

from __future__ import annotations

import pytest

from streams.transport.clients import _BY_ROLE, _COMMON, _FETCH
from streams.transport.properties import COMMON, property_faults


def test_what_librdkafka_takes_has_no_fault() -> None:
    assert property_faults({}) == {}
    ours = [_COMMON, *_BY_ROLE.values(), *_FETCH.values()]
    assert property_faults({name: value for each in ours for name, value in each.items()}) == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("securty.protocol", "hunter2", "is no property of librdkafka; did you mean security.protocol?"),
        ("zzzz", "hunter2", "is no property of librdkafka"),
        ("security.protocol", "hunter2", "librdkafka does not take this value"),
        ("linger.ms", "hunter2", "librdkafka does not take this value"),
        ("socket.timeout.ms", -5, "librdkafka does not take this value"),
    ],
)
def test_each_fault_is_said_alone_and_without_its_value(name: str, value: str | int, said: str) -> None:
    assert property_faults({"client.id": "good", name: value}) == {name: said}


def test_every_name_that_is_suggested_is_one() -> None:
    """A value of the wrong kind is refused as such; a name that there is not, as a name."""
    faults = {name: property_faults({name: "\x01"}).get(name, "") for name in COMMON}
    assert [name for name, said in faults.items() if said.startswith("is no property")] == []
