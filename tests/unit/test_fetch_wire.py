"""Fetches on the wire, against what aiokafka makes of the same."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4, FetchRequest_v11, FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from streams.transport.fetch_wire import Answer, Fetch

OFFSETS, NUMBERS = st.integers(-2, 2**63 - 1), st.integers(0, 2**31 - 1)
NAMES = st.text(max_size=8)
WANTED = st.lists(st.tuples(NAMES, st.lists(st.tuples(NUMBERS, OFFSETS, NUMBERS), max_size=3)), max_size=3)
ABORTED = st.lists(st.tuples(OFFSETS, OFFSETS), max_size=2)
FOUND = st.tuples(
    *(NUMBERS, st.integers(-1, 200), OFFSETS, OFFSETS, OFFSETS, ABORTED | st.none(), NUMBERS),
    st.binary(max_size=9) | st.none(),
)
ANSWERED = st.lists(st.tuples(NAMES, st.lists(FOUND, max_size=3)), max_size=3)


@given(limits=st.tuples(NUMBERS, NUMBERS, NUMBERS, st.sampled_from([0, 1])), topics=WANTED)
def test_a_request_is_what_aiokafka_sends(limits: tuple[int, ...], topics: list[Any]) -> None:
    ours, theirs = Fetch(*limits, topics), FetchRequest(*limits, topics, rack_id="")
    versions = {FetchRequest.API_KEY: (4, 11)}
    one, other = ours.prepare(versions), theirs.prepare(versions)
    assert one.encode() == other.encode()
    header = {"correlation_id": 7, "client_id": "me"}
    assert one.build_request_header(**header).encode() == other.build_request_header(**header).encode()


def test_an_older_broker_gets_what_it_understands() -> None:
    request = Fetch(1, 2, 3, 1, [("a", [(0, 5, 9)])]).prepare({FetchRequest.API_KEY: (0, 4)})
    assert isinstance(request, FetchRequest_v4)


@given(answer=ANSWERED)
def test_an_answer_holds_what_aiokafka_finds_in_it(answer: list[Any]) -> None:
    data = FetchResponse_v11(0, 0, 0, answer).encode()
    expected = FetchResponse_v11.decode(data)
    found = Answer.decode(BytesIO(data))
    assert [
        (topic, [(*each[:5], list(each[5]), *each[6:]) for each in partitions]) for topic, partitions in found.topics
    ] == [
        (topic, [(*each[:5], each[5] or [], each[6], each[7] or b"") for each in partitions])
        for topic, partitions in expected.topics
    ]


def test_the_answer_of_a_request_is_decoded_so() -> None:
    request = Fetch(1, 2, 3, 1, []).prepare({FetchRequest.API_KEY: (4, 17)})
    assert isinstance(request, FetchRequest_v11)
    assert request.RESPONSE_TYPE is Answer


@pytest.mark.parametrize("missing", [1, 9, 20])
def test_what_ends_too_soon_is_no_answer(missing: int) -> None:
    data = FetchResponse_v11(0, 0, 0, [("a", [(0, 0, 1, 1, 0, [], -1, b"")])]).encode()
    with pytest.raises(Exception, match="unpack_from requires"):
        Answer.decode(BytesIO(data[:-missing]))
