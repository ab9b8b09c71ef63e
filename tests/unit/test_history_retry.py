"""How soon an insert is tried again while ClickHouse is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from schemas.admission import SUBMISSION
from schemas.errors import UnreachableError
from schemas.topology import load_topology
from streams.history.loader import Loader
from streams.transport.producer import Producer
from tests.support.history_rows import NoLetters
from tests.support.submissions import packed
from tests.support.wire import new_codec, task, to_batch

TOPOLOGY = load_topology(Path("topology.yaml"))
CODEC = new_codec()
FOR_LONG = 40


class Server:
    """A ClickHouse that is away for so many tries."""

    def __init__(self, tries: int) -> None:
        self.tries, self.inserts = tries, 0

    def connect(self) -> Server:
        if self.tries:
            self.tries -= 1
            raise UnreachableError("ClickHouse", "http://127.0.0.1:1", "refused", "Is it running?")
        return self

    def raw_insert(self, *_: Any, **__: Any) -> None:
        self.inserts += 1


def test_an_insert_follows_within_a_second_of_a_clickhouse_that_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(FOR_LONG)
    waited: list[float] = []
    loader = Loader(TOPOLOGY, CODEC, server.connect, cast("Producer", NoLetters()))
    monkeypatch.setattr(loader._stopping, "wait", waited.append)
    values = CODEC.encode(to_batch(SUBMISSION, [task(task_id="t1")]), SUBMISSION)
    loader.load([loader.read(packed(0, 0, values, [b"t1"]).unpacked())])
    assert server.inserts == 1
    assert len(waited) == FOR_LONG
    assert max(waited) <= 1.0
    assert min(waited) > 0  # nor is it asked all the time


def test_the_client_that_has_made_the_tables_is_the_one_that_inserts_first() -> None:
    given, asked = Server(0), Server(0)
    loader = Loader(TOPOLOGY, CODEC, asked.connect, cast("Producer", NoLetters()), client=given)
    values = CODEC.encode(to_batch(SUBMISSION, [task(task_id="t1")]), SUBMISSION)
    loader.load([loader.read(packed(0, 0, values, [b"t1"]).unpacked())])
    assert (given.inserts, asked.inserts) == (1, 0)
