"""What a poll brought, in columns: the last offset of each topic-partition, whatever the order of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streams.transport.batch import by_channel, from_messages


class Place(NamedTuple):
    topic: str
    partition: int


@dataclass(frozen=True)
class Message:
    """As librdkafka gives it: with a text of its own for its topic."""

    place: Place
    at: int

    def topic(self) -> str:
        return "".join(list(self.place.topic))

    def partition(self) -> int:
        return self.place.partition

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_000 + self.at

    def key(self) -> bytes | None:
        return None if self.at % 3 else b"key"

    def value(self) -> bytes | None:
        return None if self.at % 5 else bytes(self.at)

    def headers(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self.value() or b"")


PLACES = st.builds(Place, st.sampled_from(["log.a.v1", "log.b.v1", "submitted"]), st.integers(0, 2))


@given(st.lists(PLACES, min_size=1, max_size=40), st.integers(1, 40))
def test_the_ends_are_the_last_offsets_of_what_a_batch_holds(places: list[Place], rows_max: int) -> None:
    messages = [Message(place, at) for at, place in enumerate(places)]
    found = by_channel(messages, lambda topic: topic[:3], rows_max=rows_max, bytes_max=10**6)
    assert sum(map(len, found)) == len(messages)
    for batch in found:
        own = list(zip(batch.topics, batch.partitions.tolist(), batch.offsets.tolist(), strict=True))
        assert batch.ends == {(topic, number): offset for topic, number, offset in own}
        assert list(batch.ends) == list(dict.fromkeys((topic, number) for topic, number, _ in own))
        assert [Message(Place(*where), at).value() for *where, at in own] == batch.values
        assert (batch.timestamps_ms == batch.offsets + 1_000).all()


def test_records_of_a_topic_share_one_text_of_its_name() -> None:
    messages = [Message(Place("log.a.v1", at % 2), at) for at in range(6)]
    [batch] = by_channel(messages, lambda _: "", rows_max=10, bytes_max=10**6)
    assert len(set(map(id, batch.topics))) == 1


def test_without_records_there_are_no_ends() -> None:
    assert from_messages([], "channel").ends == {}
