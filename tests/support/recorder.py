"""The half of a recording producer that keeps dead letters; what else is sent, each test reads in its own way."""

from __future__ import annotations

from typing import NamedTuple

from schemas.deadletter import DeadLetter, parse
from schemas.topics import Topics


class Buried(NamedTuple):
    value: bytes | None
    key: bytes | None
    partition: int | None
    letter: DeadLetter


class DeadLetters:
    """`dead`: what was sent to the dead topic, in order; nothing else may be sent one by one."""

    def __init__(self, topics: Topics) -> None:
        self._dead_topic = topics.dead
        self.dead: list[Buried] = []

    def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> None:
        assert topic == self._dead_topic
        self.dead.append(Buried(value, key, partition, parse(headers or [])))
