"""The generator's bytes: the same for the same seed, in whatever steps they are made, and those of the codec."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loadtest.ahead import AHEAD, Ahead
from loadtest.scenario import Mix
from loadtest.schedule import Schedule, Stage
from loadtest.workload import BLOCK, Workload
from schemas.admission import admit
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import Topology, load_topology
from streams.transport.partitioner import murmur2, partitions_of

NOW_US = 1_760_000_000_000_000


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(FileRegistry.load(), 262_144)


@pytest.fixture(scope="module")
def topology() -> Topology:
    return load_topology(Path(__file__).resolve().parents[2] / "topology.yaml")


def records(workload: Workload, first: int, upto: int, step: int) -> dict[str, tuple[int, bytes, bytes]]:
    """By task id: partition, key, value."""
    found = {}
    for start in range(first, upto, step):
        count = min(step, upto - start)
        what, who = workload.draw(start, count)
        times = NOW_US + 1000 * np.arange(start, start + count)
        for tick in workload.ticks(start, what, who, times):
            for key, value in zip(tick.keys, tick.values, strict=True):
                found[value[6:18].decode()] = (tick.partition, key, value)
    return found


def test_the_same_seed_gives_the_same_bytes_in_whatever_steps(codec: Codec, topology: Topology) -> None:
    one = records(Workload(topology, codec, 7), 0, 3_000, 1_000)
    other = records(Workload(topology, codec, 7), 0, 3_000, 77)
    assert len(one) == 3_000
    assert one == other
    assert records(Workload(topology, codec, 8, run="s7"), 0, 100, 100) != records(
        Workload(topology, codec, 7), 0, 100, 100
    )


def test_tasks_made_ahead_are_those_made_tick_by_tick(codec: Codec, topology: Topology) -> None:
    """Each is handed out once, when it is asked for, in its partition's order, across the bounds of blocks."""
    schedule = Schedule([Stage(1, 3_000), Stage(0.5, 7_000)])
    workload, made = Workload(topology, codec, 7), Ahead(Workload(topology, codec, 7), schedule)
    made.begin(NOW_US)
    first = 0
    for upto in (1, 2, 700, AHEAD - 1, AHEAD, AHEAD + 1, schedule.tasks):
        what, who = workload.draw(first, upto - first)
        alone = workload.ticks(first, what, who, NOW_US + schedule.offsets_us(np.arange(first, upto)))
        found: dict[int, list[tuple[int, bytes, bytes]]] = {}
        for tick in made.between(first, upto):
            found.setdefault(tick.partition, []).extend(zip(tick.numbers, tick.keys, tick.values, strict=True))
        assert found == {tick.partition: list(zip(tick.numbers, tick.keys, tick.values, strict=True)) for tick in alone}
        assert sorted(number for rows in found.values() for number, *_ in rows) == list(range(first, upto))
        first = upto


def test_tasks_made_ahead_of_one_beginning_are_not_those_of_another(codec: Codec, topology: Topology) -> None:
    made = Ahead(Workload(topology, codec, 7), Schedule([Stage(1, 10)]))
    values = []
    for began_us in (NOW_US, NOW_US + 1, NOW_US):
        made.begin(began_us)
        values.append([tick.values for tick in made.between(0, 10)])
    assert values[0] == values[2] != values[1]


def test_a_draw_does_not_depend_on_where_a_range_begins(codec: Codec, topology: Topology) -> None:
    workload = Workload(topology, codec, 3)
    what, who = workload.draw(BLOCK - 5, 10)
    later, _ = workload.draw(BLOCK, 5)
    assert what[5:].tolist() == later.tolist()
    assert len(who) == 10


def test_what_is_joined_is_what_the_codec_would_write(codec: Codec, topology: Topology) -> None:
    found = records(Workload(topology, codec, 1, mix=Mix(text_bytes=120)), 0, 2_000, 500)
    values, keys = [each[2] for each in found.values()], [each[1] for each in found.values()]
    decoded = admit(codec, "TaskSubmitted", values, keys)
    assert decoded.faults == []
    assert codec.encode(decoded.batch, "TaskSubmitted") == values
    assert decoded.batch.column("task_id").to_pylist() == list(found)
    number = [int(each[3:]) for each in found]
    assert decoded.batch.column("submitted_at").to_pylist() == [NOW_US + 1000 * each for each in number]
    assert {len(text) for text in decoded.batch.column("text").to_pylist()} == {120}


def test_shares_are_those_of_the_mix(codec: Codec, topology: Topology) -> None:
    mix = Mix(single=0.6, panel=0.3, fallback=0.1, stated_intent=0.25, hot=0.5, conversations=1_000)
    found = records(Workload(topology, codec, 1, mix=mix), 0, 20_000, 5_000)
    batch = codec.decode([each[2] for each in found.values()], "TaskSubmitted").batch
    bands = Counter(batch.column("confidence").to_pylist())
    assert {value: round(count / 20_000, 1) for value, count in bands.items()} == {0.95: 0.6, 0.65: 0.3, 0.3: 0.1}
    assert batch.column("intent").null_count / 20_000 == pytest.approx(0.75, abs=0.02)
    [(_, hottest), (_, second)] = Counter(batch.column("conversation_id").to_pylist()).most_common(2)
    assert hottest / 20_000 == pytest.approx(0.57, abs=0.03)
    assert second < hottest / 4


def test_keys_go_where_kafkas_own_clients_would_put_them() -> None:
    """Kafka's UtilsTest: "foobar" hashes to -790332482, "21" to -973932308."""
    assert [murmur2(b"foobar") - 2**32, murmur2(b"21") - 2**32] == [-790332482, -973932308]
    assert murmur2(b"") == 275646681
    assert partitions_of([b"foobar", b"21"], 1).tolist() == [0, 0]
