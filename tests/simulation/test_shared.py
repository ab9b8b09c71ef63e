"""The codec of a run, which reads each value once, says of any values what the real one says."""

from __future__ import annotations

from random import Random

import pytest

from agents.notes import claims
from schemas.codec import Codec
from streams.transport.batch import TopicPartition
from tests.simulation.shared import RememberingCodec, shared_registry

BYTES_MAX = 100_000
GARBAGE = (None, b"", b"\x07 not a record", b"\x00\x00\x00\xff\xffdatum")


@pytest.mark.parametrize("seed", range(20))
def test_what_was_read_before_is_what_the_codec_reads(seed: int) -> None:
    rng = Random(seed)
    real, remembering = Codec(shared_registry(), BYTES_MAX), RememberingCodec(BYTES_MAX)
    epochs = {TopicPartition("agents.a.events.v1", number): number for number in range(9)}
    values: list[bytes | None] = [*real.encode(claims(["a"] * 9, epochs), "AgentEvent")]
    for _ in range(12):
        start = rng.randrange(len(values))
        asked = rng.choice((values[start:], values[:start], rng.choices(values, k=rng.randint(1, 6))))
        if rng.random() < 0.3:
            asked = [*asked, rng.choice(GARBAGE)]
        found, expected = remembering.decode(asked, "AgentEvent"), real.decode(asked, "AgentEvent")
        assert found.batch.equals(expected.batch)
        assert found.faults == expected.faults
        assert found.rows.tolist() == expected.rows.tolist()
        assert found.schema_ids.tolist() == expected.schema_ids.tolist()
