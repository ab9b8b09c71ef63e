"""Records that their schema allows and that say what cannot be, on every topic: nothing stops, now or after a restart.

Extremes of each field, for an agent that is asked and for strangers, under keys of all sorts. Whoever writes them may
be a version to come, a program with a fault, or malice; what they decide is another matter than what they may stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pyarrow as pa
import pytest

from schemas.codec import Codec
from schemas.records import record
from schemas.registry import FileRegistry
from streams.history.queries import History
from tests.support.console import topology_file
from tests.support.fleet import TEXTS, Fleet, Load, wait_for

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

AGENT = "units_agent"
CODEC = Codec(FileRegistry.load(), 262_144)
GOOD = 30

Choice = Callable[[pa.DataType], Any]


def lowest(kind: pa.DataType) -> Any:
    return math.nan if pa.types.is_floating(kind) else -(1 << kind.bit_width - 1)


def highest(kind: pa.DataType) -> Any:
    return math.inf if pa.types.is_floating(kind) else (1 << kind.bit_width - 1) - 1


TEXT = "\x00 '\"\\ \u202e\U0001f9e8 {0} %s ;--"
VARIANTS: Mapping[str, tuple[Choice, str]] = {
    "lowest": (lowest, ""),
    "highest": (highest, AGENT),
    "nobody's": (lambda _: 1, TEXT),
}
"""What numbers become, and what texts do."""


def value(path: str, kind: pa.DataType, number: Choice, text: str, enums: Mapping[str, Sequence[str]], n: int) -> Any:
    """One value of a field; lists and maps hold two of their kind."""
    if path in enums:
        return enums[path][n % len(enums[path])]
    if pa.types.is_struct(kind):
        return {each.name: value(f"{path}.{each.name}", each.type, number, text, enums, n) for each in kind}
    if pa.types.is_map(kind):
        return [(text, text), (f"{text}2", text)]
    if pa.types.is_list(kind):
        return [value(path, kind.value_type, number, text, enums, n)] * 2
    if pa.types.is_boolean(kind):
        return True
    return text if pa.types.is_string(kind) else number(kind)


def nonsense(name: str) -> Iterator[bytes]:
    """Encoded records of one kind: each variant with each of the words that its fields may hold."""
    whole = record(name)
    for number, text in VARIANTS.values():
        for n in range(max(map(len, whole.enums.values()), default=1)):
            columns = [pa.array([value(f.name, f.type, number, text, whole.enums, n)], f.type) for f in whole.arrow]
            yield from CODEC.encode(pa.RecordBatch.from_arrays(columns, schema=whole.arrow), name)


def write_nonsense(fleet: Fleet) -> int:
    """Onto every topic, into every partition, under keys of all sorts; gives how many records."""
    producer = ck.Producer({"bootstrap.servers": fleet.settings.broker})
    refused: list[ck.KafkaError] = []
    written = 0
    for spec in fleet.topology.topics().specs():
        if spec.record is None or (spec.kind in {"inbox", "events"} and f".{AGENT}." not in spec.name):
            continue
        keys = [AGENT.encode(), b"\xff\xfe", b""] + [None] * (spec.cleanup == "delete")
        for number in range(spec.partitions):
            for n, each in enumerate(nonsense(spec.record)):
                key = keys[n % len(keys)]
                producer.produce(
                    spec.name, each, key, number, on_delivery=lambda error, _: refused.append(error) if error else None
                )
                written += 1
    assert producer.flush(60) == 0
    assert refused == []
    return written


def answered(fleet: Fleet, prefix: str) -> None:
    """Good tasks get their results, though there is nonsense all around them."""
    load = Load(fleet, TEXTS, GOOD, 100, prefix)
    load.start()
    load.finish(30)
    wanted = {f"{prefix}-{number}" for number in range(GOOD)}
    wait_for(lambda: wanted <= {end.task_id for end in fleet.log().results}, 60, "good tasks to have their results")


def test_what_no_version_writes_stops_nobody(broker: str, tmp_path: Path, repository: Path, prefix: str) -> None:
    names = ("store", "worker", "host")
    with Fleet(broker, tmp_path, topology_file(repository, tmp_path, prefix)) as fleet:
        fleet.start(*names)
        answered(fleet, "before")
        written = write_nonsense(fleet)
        answered(fleet, "beside")
        for name in names:
            assert fleet.children[name].running, fleet.said(name)[-4000:]
            fleet.kill(name)
        fleet.start(*names)
        answered(fleet, "after")
        with closing(History(fleet.clickhouse)) as history:
            count = "SELECT count() FROM results WHERE task_id LIKE 'after-%'"
            wait_for(lambda: history.query(count).rows[0][0] == GOOD, 60, "the history to go on")
        assert all(fleet.children[name].running for name in names)
        for name in names:
            assert fleet.stop(name), f"{name} ends by itself"
            assert "Traceback" not in fleet.said(name)
    assert written > 200
