"""Ids of a registry of the producers' own: learnt, asked for once, believed for a while, and never waited for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from console.local.ports import free_ports
from schemas.codec import Codec
from schemas.definitions import Definition, UnsupportedSchemaError
from schemas.errors import UnreachableError
from schemas.reasons import DeadReason
from schemas.registry import FileRegistry, JoinedRegistry
from schemas.settings import Settings
from schemas.topics import Topics
from streams.registry.door import RegistryDoor
from streams.transport import foreign_ids as module
from streams.transport.foreign_ids import AmbiguousIdError, ForeignIds, foreign_ids, subjects_of
from streams.transport.registry_client import IncompatibleSchemaError, RegistryClient, RegistryRefusedError
from tests.support.foreign_registry import ForeignRegistry
from tests.support.waiting import until
from tests.support.wire import RECORD_BYTES_MAX, definition, encode, frame, task, with_field, without_field

WAIT_S = 20.0
TOPICS = Topics(agents=("one",), partitions=2, prefix="t.")
SUBJECT = "t.tasks.submitted.v1-value"
FILE = FileRegistry.load()
TASK = definition("TaskSubmitted")
GROWN = with_field(TASK, {"name": "mood", "type": ["null", "string"], "default": None})


@pytest.fixture
def registry() -> Iterator[ForeignRegistry]:
    registry = ForeignRegistry(first_id=3)
    yield registry
    registry.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.02, 0.05))
    monkeypatch.setattr(module, "CONFIRM_S", 0.05)


@contextmanager
def knowing(registry: ForeignRegistry) -> Iterator[ForeignIds]:
    with foreign_ids(Settings(schema_registry=registry.url), FILE, TOPICS) as ids:
        assert ids is not None
        yield ids


def settled(ids: ForeignIds, *wanted: int) -> None:
    until(lambda: not ids.unsettled(wanted), WAIT_S)


def faults(ids: ForeignIds, *values: bytes, record: str = "TaskSubmitted") -> list[DeadReason | None]:
    """Of each value, what is wrong with it."""
    codec = Codec(JoinedRegistry(FILE, ids.text), RECORD_BYTES_MAX)
    found = {fault.row: fault.reason for fault in codec.decode(values, record).faults}
    return [found.get(row) for row in range(len(values))]


def value(schema_id: int, schema: Definition = TASK) -> bytes:
    return frame(schema_id) + encode(schema, task() | {"mood": "fine"})


@pytest.mark.parametrize("subject", subjects_of(TOPICS))
def test_what_the_registry_has_is_known_at_once(registry: ForeignRegistry, subject: str) -> None:
    first, second = registry.add(subject, TASK), registry.add(subject, GROWN)
    with knowing(registry) as ids:
        assert ids.unsettled([first, second, 11]) == set()
        assert faults(ids, value(first), value(second, GROWN), value(11)) == [None, None, None]
    # The file's id 3 is a breaker's state: for that record it still is.
    assert first == 3
    assert (
        FILE.get_schema(3).schema_str
        == JoinedRegistry(FILE, ids.text).get_schema(3, "pointsman.BreakerState").schema_str
    )


def test_a_task_under_a_foreign_id_is_dispatched_with_its_own_bytes(registry: ForeignRegistry) -> None:
    same, other = registry.add(SUBJECT, TASK | {"doc": "theirs"}), registry.add(SUBJECT, GROWN)
    with knowing(registry) as ids:
        codec = Codec(JoinedRegistry(FILE, ids.text), RECORD_BYTES_MAX)
        assert codec.dispatch_frame(same) == codec.frame("TaskDispatched") == frame(9)
        assert codec.dispatch_frame(other) is None  # encoded anew


def test_a_new_id_is_asked_for_once(registry: ForeignRegistry) -> None:
    with knowing(registry) as ids:
        new = registry.add(SUBJECT, GROWN)
        assert ids.unsettled([new]) == ids.unsettled([new]) == {new}
        settled(ids, new)
        assert faults(ids, value(new, GROWN)) == [None]
        assert registry.asked[f"GET /schemas/ids/{new}"] == 1


def test_an_id_that_nobody_gave_out_is_asked_for_twice_and_then_believed(
    registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with knowing(registry) as ids:
        for _ in range(5):
            settled(ids, 99, 98)
        assert faults(ids, value(99)) == [DeadReason.UNKNOWN_SCHEMA]
        assert (registry.asked["GET /schemas/ids/99"], registry.asked["GET /schemas/ids/98"]) == (2, 2)
        monkeypatch.setattr(module, "ABSENT_S", 0.5)
        settled(ids, 97)
        until(lambda: ids.unsettled([97]) == {97}, WAIT_S)  # believed for so long: asked for again


def test_an_instance_that_is_slow_to_know_is_asked_again(registry: ForeignRegistry) -> None:
    with knowing(registry) as ids:
        new = registry.add(SUBJECT, TASK)
        registry.unknown_for[new] = 1
        settled(ids, new)
        assert faults(ids, value(new)) == [None]


def test_garbage_does_not_keep_a_new_schema_waiting(registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONFIRM_S", 60.0)
    with knowing(registry) as ids:
        ids.unsettled(range(1_000, 1_020))
        new = registry.add(SUBJECT, TASK)
        settled(ids, new)
        assert ids.unsettled([1_000]) == {1_000}


def test_while_the_registry_is_away_what_is_known_stays_known_and_the_rest_waits(registry: ForeignRegistry) -> None:
    known = registry.add(SUBJECT, TASK)
    with knowing(registry) as ids:
        registry.is_down = True
        new = registry.add(SUBJECT, GROWN)
        before = registry.asked.total()
        assert ids.unsettled([known, new, 55]) == {new, 55}
        time.sleep(0.3)
        assert ids.unsettled([known, new, 55]) == {new, 55}
        assert registry.asked.total() - before < 20
        assert faults(ids, value(known)) == [None]
        registry.is_down = False
        settled(ids, new, 55)
        assert faults(ids, value(new, GROWN), value(55)) == [None, DeadReason.UNKNOWN_SCHEMA]


def test_a_registry_that_is_away_at_start_is_learnt_later(
    registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEARN_S", 0.1)
    known = registry.add(SUBJECT, TASK)
    registry.is_down = True
    with knowing(registry) as ids:
        assert ids.unsettled([11]) == set()
        registry.is_down = False
        until(lambda: ids.text(known) is not None, WAIT_S)


def test_a_schema_that_cannot_be_read_as_a_task_is_said_to_be_wrong(registry: ForeignRegistry) -> None:
    wrong = {
        registry.add("orders-value", {"type": "record", "name": "Order", "namespace": "shop", "fields": []}),
        registry.add(SUBJECT, without_field(TASK, "text")),
        registry.add(
            SUBJECT, with_field(TASK, {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}})
        ),
        registry.add("keys", "no JSON at all"),
    }
    with knowing(registry) as ids:
        settled(ids, *wrong)
        assert {*faults(ids, *(frame(each) + b"x" for each in wrong))} == {DeadReason.WRONG_SCHEMA}
        with pytest.raises(UnsupportedSchemaError, match="text is missing"):
            ids.text(sorted(wrong)[1])


def test_a_schema_of_another_id_space_that_the_file_means_otherwise_ends_the_start() -> None:
    registry = ForeignRegistry(first_id=11)
    try:
        registry.add(SUBJECT, TASK)
        with knowing(registry) as ids:  # the same schema under the same id: as one would have it
            assert ids.unsettled([11]) == set()
    finally:
        registry.close()
    registry = ForeignRegistry(first_id=11)
    try:
        registry.add("elsewhere", GROWN)
        with pytest.raises(AmbiguousIdError, match="schema id 11 is one TaskSubmitted in"), knowing(registry):
            pass
    finally:
        registry.close()


def test_two_meanings_that_are_found_later_end_whoever_asks(
    registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEARN_S", 0.05)
    registry.is_down = True
    registry.texts[11] = json.dumps(GROWN)
    with knowing(registry) as ids:
        registry.is_down = False

        def raised() -> bool:
            try:
                ids.unsettled([11])
            except AmbiguousIdError:
                return True
            return False

        until(raised, WAIT_S)


def test_what_is_kept_is_bounded(registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_MAX", 3)
    monkeypatch.setattr(module, "ABSENT_MAX", 3)
    first = registry.add(SUBJECT, TASK)
    with knowing(registry) as ids:
        for number in range(4):
            ids.unsettled([first])  # in use
            new = registry.add("other", TASK | {"doc": str(number)})
            settled(ids, new, 1_000 + number)
        assert len(ids._texts) == len(ids._absent) == 3
        assert ids.unsettled([first, new]) == set()


def test_a_registry_asks_for_a_password_and_errors_do_not_show_it() -> None:
    registry = ForeignRegistry(first_id=70, user="ünal", password="s3cret")
    try:
        known = registry.add(SUBJECT, TASK)
        environ = {
            "POINTSMAN_SCHEMA_REGISTRY": registry.url,
            "POINTSMAN_SCHEMA_REGISTRY_USER": "ünal",
            "POINTSMAN_SCHEMA_REGISTRY_PASSWORD": "s3cret",
        }
        with foreign_ids(Settings.resolve({}, environ), FILE, TOPICS) as ids:
            assert ids is not None
            assert ids.text(known) is not None
        client = RegistryClient(registry.url, "ünal", "wrong-s3cret")
        with pytest.raises(RegistryRefusedError, match="HTTP 401 Unauthorized") as refused:
            client.versions(SUBJECT)
        assert "s3cret" not in str(refused.value)
    finally:
        registry.close()


def test_without_a_registry_there_is_nothing_to_ask() -> None:
    with foreign_ids(Settings.resolve({}, {}), FILE, TOPICS) as ids:
        assert ids is None


def test_our_own_door_is_a_registry_like_any_other() -> None:
    door = RegistryDoor(FILE, TOPICS, 0)
    client = RegistryClient(door.url)
    try:
        assert client.versions(SUBJECT) == [1]
        assert client.version(SUBJECT, 1) == (11, client.schema(11))
        assert client.version(SUBJECT, 2) is None
        assert client.schema(9001) is None
        assert client.versions("nobody") == []
        assert client.register(SUBJECT, json.dumps(TASK)) == 11
        with pytest.raises(RegistryRefusedError, match="read-only mode"):
            client.register(SUBJECT, json.dumps(GROWN))
    finally:
        client.close()
        door.close()


def test_a_registry_says_what_it_does_not_take(registry: ForeignRegistry) -> None:
    client = RegistryClient(f"{registry.url}/")
    registry.refuses = True
    with pytest.raises(IncompatibleSchemaError, match="incompatible with an earlier schema"):
        client.register(SUBJECT, json.dumps(TASK))
    client.close()


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://no-such-host.invalid:{port}"])
def test_a_registry_that_is_not_there_is_unreachable(address: str) -> None:
    url = address.format(port=free_ports(1)[0])
    with pytest.raises(UnreachableError, match=f"Cannot reach the schema registry at {url} ") as unreachable:
        RegistryClient(url).schema(1)
    assert "object at 0x" not in str(unreachable.value)


def test_a_server_that_is_no_registry_is_told_from_one_that_has_no_such_schema(
    registry: ForeignRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "answer", lambda *_: (404, {"title": "Not found"}))
    with pytest.raises(RegistryRefusedError, match="HTTP 404"):
        RegistryClient(registry.url).schema(1)
    monkeypatch.setattr(registry, "answer", lambda *_: (200, ["what?"]))
    with pytest.raises(RegistryRefusedError, match="no list of versions"):
        RegistryClient(registry.url).versions(SUBJECT)
    with pytest.raises(RegistryRefusedError, match="no schema"):
        RegistryClient(registry.url).schema(1)
