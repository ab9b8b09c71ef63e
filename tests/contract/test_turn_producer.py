"""A producer of turns on the real broker: what it takes arrives once and in order, whatever happens to its requests."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest
from aiokafka.protocol.produce import ProduceRequest
from confluent_kafka.admin import AdminClient

from console.chaos.carry import Mode
from console.chaos.proxy import SOUND, Link, Links, Trouble
from console.local.broker import LocalBroker
from schemas.errors import DeliveryError
from schemas.settings import read_properties
from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.batch import TopicPartition
from streams.transport.brokers import Brokers
from streams.transport.clients import client_config
from streams.transport.producer import Output, Producer
from streams.transport.sender import Sender
from streams.transport.turn_producer import TurnProducer, producer_for
from tests.support.brokers import Settings
from tests.support.secured import SecuredBroker
from tests.support.waiting import until
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

WAIT_S = 60.0
Open = Callable[..., TurnProducer]


@pytest.fixture
def out(broker: str) -> Iterator[Open]:
    """Opens producers; with properties of librdkafka's, and what they hear."""
    opened: list[TurnProducer] = []

    def open_(on_error: Callable[[DeliveryError], None] | None = None, **properties: Any) -> TurnProducer:
        given = {name.replace("_", "."): value for name, value in properties.items()}
        opened.append(TurnProducer(client_config(Settings(broker), None, "producer") | given, on_error))
        return opened[-1]

    yield open_
    for each in opened:
        each.close(0.0)


@pytest.fixture
def link(broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    """What the producers' connections go through."""
    with Links() as links:
        link = links.open("to the broker", int(broker.rpartition(":")[2]))
        connect = Brokers._connect
        monkeypatch.setattr(Brokers, "_connect", lambda self, host, _: connect(self, host, link.port))
        yield link


def created(broker: str, *names: str, partitions: int = 2) -> None:
    ensure_topics(Settings(broker), [TopicSpec(name, None, partitions, "delete", 3_600_000) for name in names])


def stands(broker: str, topic: str, partition: int | None = None) -> list[bytes | None]:
    return [each.value() for each in read_topic(broker, topic) if partition in (None, each.partition())]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The produce requests that were made."""
    made: list[Any] = []
    send = Brokers.send

    async def noted(self: Brokers, node: int, request: Any) -> Any:
        if isinstance(request, ProduceRequest):
            made.append(request)
        return await send(self, node, request)

    monkeypatch.setattr(Brokers, "send", noted)
    return made


def test_records_come_back_as_they_were_sent(broker: str, prefix: str, out: Open) -> None:
    name = f"{prefix}as-sent"
    created(broker, name)
    to = out()
    to.send(name, 0, [b"a", None, b""], [b"k", b"gone", None])
    to.send_one(name, b"with headers", b"key", 1, [("one", b"1"), ("none", None)])
    to.send(name, 0, [])
    assert len(to) == 4
    to.flush(WAIT_S)
    assert len(to) == 0
    found = {(each.partition(), each.offset()): each for each in read_topic(broker, name)}
    told = {place: (each.key(), each.value(), each.headers()) for place, each in found.items()}
    assert told == {
        (0, 0): (b"k", b"a", None),
        (0, 1): (b"gone", None, None),
        (0, 2): (None, b"", None),
        (1, 0): (b"key", b"with headers", [("one", b"1"), ("none", None)]),
    }
    with pytest.raises(ValueError, match="needs a partition"):
        to.send_one(name, b"somewhere")


def test_a_turn_is_one_request_however_many_topic_partitions_it_writes_to(
    broker: str, prefix: str, out: Open, requests: list[Any]
) -> None:
    names = [f"{prefix}turn-{number}" for number in range(12)]
    created(broker, *names, partitions=4)
    to = out(linger_ms=1)
    for turn in range(3):
        for name in names:
            for partition in range(4):
                to.send(name, partition, [b"%d" % turn] * 5)
        to.flush(WAIT_S)
        if turn == 0:
            requests.clear()  # of which the first waited for leaders, and may have been several
    assert len(requests) <= 4  # two turns; one may have been cut in two by the 10 ms for which records wait
    for name in names:
        assert stands(broker, name, 3) == [b"0"] * 5 + [b"1"] * 5 + [b"2"] * 5


def test_what_nobody_hurries_goes_by_itself(broker: str, prefix: str, out: Open) -> None:
    name = f"{prefix}by-itself"
    created(broker, name)
    to = out()
    to.send(name, 0, [b"a"])
    until(lambda: len(to) == 0, WAIT_S)


def test_more_than_a_batch_holds_goes_in_several_and_in_order(broker: str, prefix: str, out: Open) -> None:
    name = f"{prefix}many"
    created(broker, name)
    to = out(batch_num_messages=100, batch_size=10_000)
    values = [b"%05d" % number + b"x" * (200 if number % 7 == 0 else 0) for number in range(5_000)]
    to.send(name, 1, values)
    to.send(name, 1, [b"last", b"y" * 50_000])  # one that is larger than a batch may be
    to.flush(WAIT_S)
    assert stands(broker, name) == [*values, b"last", b"y" * 50_000]


def test_an_answer_that_is_lost_leaves_no_record_twice(
    broker: str, prefix: str, out: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second request is done, and its answer thrown away: it is sent again under the same numbers."""
    name = f"{prefix}unheard"
    created(broker, name)
    send, asked = Brokers.send, 0

    async def forgetful(self: Brokers, node: int, request: Any) -> Any:
        nonlocal asked
        answer = await send(self, node, request)
        if isinstance(request, ProduceRequest):
            asked += 1
            if asked % 2:
                raise OSError("nobody heard it")
        return answer

    monkeypatch.setattr(Brokers, "send", forgetful)
    to, values = out(), [b"%03d" % number for number in range(60)]
    for start in range(0, 60, 5):
        to.send(name, 0, values[start : start + 5])
        to.poll()
        time.sleep(0.02)
    to.flush(WAIT_S)
    assert asked >= 4
    assert stands(broker, name) == values


def test_cut_and_half_open_connections_lose_nothing_and_repeat_nothing(
    local_broker: LocalBroker, broker: str, prefix: str, link: Link, out: Open
) -> None:
    name = f"{prefix}cut"
    created(broker, name)
    to, values = out(socket_timeout_ms=1_500), [b"%03d" % number for number in range(120)]
    troubles = iter((Mode.CUT, Mode.SILENT, Mode.NO_ANSWERS))
    for turn in range(40):
        if turn % 13 == 3:
            link.set(Trouble(next(troubles)))
        if turn % 13 == 10:
            link.set(SOUND)
        to.send(name, 0, values[3 * turn : 3 * turn + 3])
        to.poll()
        time.sleep(0.05)
    to.flush(WAIT_S)
    assert stands(broker, name) == values


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.SILENT])
def test_who_polls_while_no_broker_answers_wakes_nobody(
    mode: Mode, broker: str, prefix: str, link: Link, out: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All clients of a host went round so, and took the cores that the broker needed to start."""
    name, rounds = f"{prefix}away", [0]
    created(broker, name)
    send_what_waits = Sender._send_what_waits

    async def counted(self: Sender, brokers: Brokers) -> None:
        rounds[0] += 1
        await send_what_waits(self, brokers)

    monkeypatch.setattr(Sender, "_send_what_waits", counted)
    to = out(socket_timeout_ms=15_000)
    to.send(name, 0, [b"before"])
    to.flush(WAIT_S)
    link.set(Trouble(mode))
    to.send(name, 0, [b"meanwhile"])
    to.poll()
    time.sleep(0.2)
    to.send(name, 0, [b"behind it"])
    before, polls = rounds[0], 1_000
    for _ in range(polls):
        assert not to.drained()
        time.sleep(0.001)
    assert rounds[0] - before < polls / 20
    link.set(Trouble(Mode.CUT))
    link.set(SOUND)
    to.flush(WAIT_S)
    assert stands(broker, name, 0) == [b"before", b"meanwhile", b"behind it"]


def test_behind_what_was_given_up_on_its_way_the_next_record_is_taken(
    broker: str, prefix: str, link: Link, out: Open
) -> None:
    """Its numbers were never used, and nobody knows: what follows must not wait for them. Others are as they were."""
    name = f"{prefix}given-up"
    created(broker, name)
    to = out(socket_timeout_ms=1_500)
    for partition in range(2):
        to.send(name, partition, [b"before"])
    to.flush(WAIT_S)
    link.set(Trouble(Mode.SILENT))
    to.send(name, 0, [b"given up"] * 3)
    assert not to.drained(0.3)
    assert to.withdraw(0.2) == 3
    link.set(Trouble(Mode.CUT))
    link.set(SOUND)
    for partition in range(2):
        to.send(name, partition, [b"after"])
    to.flush(WAIT_S)
    assert stands(broker, name, 0) == [b"before", b"after"]
    assert stands(broker, name, 1) == [b"before", b"after"]


@pytest.mark.timeout(180)
def test_a_broker_that_is_killed_and_comes_back_has_each_record_once(tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker", heap_mib=512, short_lived=True) as own:
        created(own.address, "killed")
        with closing(TurnProducer(client_config(Settings(own.address), None, "producer"))) as to:
            values = [b"%04d" % number for number in range(2_000)]
            for start in range(0, 2_000, 10):
                to.send("killed", start // 10 % 2, values[start : start + 10])
                to.poll()
                if start == 800:
                    own.kill()
                if start == 1_200:
                    own.start()
                time.sleep(0.005)
            to.flush(WAIT_S)
        found = stands(own.address, "killed", 0), stands(own.address, "killed", 1)
    assert sorted(value for part in found for value in part if value) == values
    assert all(part == sorted(part, key=lambda value: value or b"") for part in found)


def test_a_topic_that_is_made_later_is_waited_for_and_never_made_by_asking(broker: str, prefix: str, out: Open) -> None:
    name = f"{prefix}later"
    to = out()
    to.send(name, 1, [b"early"])
    assert not to.drained(1.0)
    assert name not in AdminClient({"bootstrap.servers": broker}).list_topics(timeout=10).topics
    created(broker, name)
    to.flush(WAIT_S)
    assert stands(broker, name, 1) == [b"early"]


def test_what_cannot_be_delivered_in_time_is_a_failure_that_stays(broker: str, prefix: str, out: Open) -> None:
    heard: list[DeliveryError] = []
    to = out(heard.append, message_timeout_ms=1_000)
    to.send(f"{prefix}nowhere", 0, [b"a", b"b"])
    with pytest.raises(DeliveryError, match="within 1 s") as raised:
        to.flush(WAIT_S)
    assert raised.value.topic == f"{prefix}nowhere"
    assert len(heard) == 1
    for again in (to.poll, to.drained, lambda: to.send(f"{prefix}nowhere", 0, [b"c"])):
        with pytest.raises(DeliveryError):
            again()
    assert len(heard) == 1


def test_without_a_broker_it_fails_in_time_and_says_so() -> None:
    given = {"message.timeout.ms": 500, "queue.buffering.max.messages": 3}
    with closing(TurnProducer(client_config(Settings("127.0.0.1:1"), None, "producer") | given)) as to:
        to.send("anything", 0, [b"a", b"b"])
        with pytest.raises(DeliveryError, match=r"within 0\.5 s"):
            to.send("anything", 0, [b"c", b"d"])  # no room, until it is known that there will be none


def test_no_room_for_too_long_is_a_failure() -> None:
    config = client_config(Settings("127.0.0.1:1"), None, "producer") | {"queue.buffering.max.messages": 3}
    with closing(TurnProducer(config, queue_timeout_s=0.2)) as to:
        to.send("anything", 0, [b"a"] * 5)  # where nothing waits there is room for all that comes at once
        with pytest.raises(DeliveryError, match="stayed full"):
            to.send("anything", 0, [b"b"])
        to.abandon()
        to.send("anything", 0, [b"c"])
        assert to.withdraw(0.1) == 1


def test_a_backlog_that_no_request_holds_goes_in_several(tmp_path: Path) -> None:
    """A broker closes the connection on whom a request comes from that is larger than it takes."""
    with SmallRequests(tmp_path / "broker", heap_mib=384, short_lived=True) as own:
        created(own.address, "backlog", partitions=16)
        with closing(TurnProducer(client_config(Settings(own.address), None, "producer"))) as to:
            assert own.pid is not None
            os.kill(own.pid, signal.SIGSTOP)
            try:
                values = [os.urandom(300_000) for _ in range(3)]  # nothing that could be compressed
                for partition in range(16):
                    to.send("backlog", partition, values)
                to.poll()
            finally:
                os.kill(own.pid, signal.SIGCONT)
            to.flush(WAIT_S)
        assert [stands(own.address, "backlog", number) == values for number in range(16)] == [True] * 16


class SmallRequests(LocalBroker):
    """Takes requests of 9 MiB instead of 100."""

    def _write_config(self) -> Path:
        config = super()._write_config()
        config.write_text(config.read_text() + f"\nsocket.request.max.bytes={9 << 20}\n")
        return config


def test_records_that_no_broker_takes_are_refused(broker: str, prefix: str, out: Open) -> None:
    name = f"{prefix}large"
    created(broker, name)
    to = out()
    with pytest.raises(DeliveryError, match="2000000 bytes"):
        to.send(name, 0, [b"a", b"x" * 2_000_000])
    to.flush(WAIT_S)
    assert stands(broker, name) == []
    huge = os.urandom(1_500_000)  # as it is allowed here, and not by the broker
    to = out(message_max_bytes=2_000_000)
    to.send(name, 0, [huge])
    with pytest.raises(DeliveryError, match="MESSAGE_SIZE_TOO_LARGE"):
        to.flush(WAIT_S)


def _stands_still(pid: int | None) -> bool:
    """Whether each of its threads has heard of SIGSTOP."""
    states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


def test_what_is_on_its_way_to_a_slow_broker_is_waited_for_and_what_is_not_is_dropped(
    local_broker: LocalBroker, broker: str, prefix: str, out: Open, requests: list[Any]
) -> None:
    name = f"{prefix}slow"
    created(broker, name)
    to = out()
    to.send(name, 0, [b"before"])
    to.flush(WAIT_S)
    before = len(requests)
    assert local_broker.pid is not None
    os.kill(local_broker.pid, signal.SIGSTOP)
    try:
        until(lambda: _stands_still(local_broker.pid), WAIT_S)  # else it may still answer
        to.send(name, 0, [b"on its way"] * 3)
        to.poll()
        until(lambda: len(requests) > before, WAIT_S)
        to.send(name, 0, [b"never"] * 2)  # the broker is busy with the request before
        time.sleep(0.5)
        threading.Timer(0.3, os.kill, (local_broker.pid, signal.SIGCONT)).start()
        assert to.withdraw(WAIT_S) == 2
    finally:
        os.kill(local_broker.pid, signal.SIGCONT)
    to.send(name, 0, [b"after"])
    to.flush(WAIT_S)
    assert stands(broker, name) == [b"before", *[b"on its way"] * 3, b"after"]


def test_a_mistake_of_ours_is_a_failure_and_no_silence(
    broker: str, prefix: str, out: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{prefix}mistake"
    created(broker, name)

    async def mistaken(_: Brokers, __: int, request: Any) -> Any:
        raise LookupError(type(request).__name__)

    to = out()
    to.send(name, 0, [b"a"])
    to.flush(WAIT_S)
    monkeypatch.setattr(Brokers, "send", mistaken)
    to.send(name, 0, [b"b"])
    with pytest.raises(DeliveryError, match="LookupError"):
        to.flush(WAIT_S)


def test_another_producer_with_the_same_number_is_not_taken_for_this_one(broker: str, prefix: str, out: Open) -> None:
    name = f"{prefix}two"
    created(broker, name)
    for to in (out(), out()):
        to.send(name, 0, [b"a"])
        to.flush(WAIT_S)
    assert stands(broker, name) == [b"a", b"a"]


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_can_be_read(broker: str, prefix: str, out: Open, compression: str) -> None:
    name = f"{prefix}{compression}"
    created(broker, name)
    to = out(compression_type=compression)
    to.send(name, 0, [b"again and again"] * 50)
    to.flush(WAIT_S)
    assert stands(broker, name) == [b"again and again"] * 50


def test_passwords_are_said_as_librdkafka_says_them(tmp_path: Path) -> None:
    with SecuredBroker(tmp_path / "broker", ["ops"]) as secured:
        created(secured.inside, "secured")
        secured.grant(["kafka-acls.sh --add --allow-principal User:ops --operation Write --topic secured"])
        settings = Settings(secured.address, dict(read_properties(secured.sign_in("ops"))))
        to = producer_for(client_config(settings, None, "producer"))
        assert isinstance(to, TurnProducer)
        with closing(to):
            to.send("secured", 0, [b"a"])
            to.flush(WAIT_S)
            to.send("forbidden", 0, [b"a"])
            with pytest.raises(DeliveryError, match="AUTHORIZATION"):
                to.flush(WAIT_S)
        assert stands(secured.inside, "secured") == [b"a"]


KERBEROS = {"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}


@pytest.mark.parametrize(
    "given",
    [
        KERBEROS,
        {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.config": "x=y"},
        {"security.protocol": "ssl", "ssl.keystore.location": "/etc/keys.p12"},
        {"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"},
        {"acks": "1", "enable.idempotence": "false"},
        {"delivery.timeout.ms": "60000"},
        {"broker.address.family": "v4"},
    ],
    ids=lambda given: next(reversed(given)),
)
def test_what_only_librdkafka_can_do_is_left_to_librdkafka(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[str, Any] = {}

    def instead(config: dict[str, Any]) -> None:
        opened.update(config)

    monkeypatch.setattr(ck, "Producer", instead)  # this librdkafka may have been built without it
    to: Output = producer_for(client_config(Settings("127.0.0.1:1", given), None, "producer"))
    assert isinstance(to, Producer)
    assert {name: opened[name] for name in given} == given


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"security.protocol": "PLAINTEXT"},
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "u",
            "sasl.password": "p",
        },
        {"compression.type": "zstd", "linger.ms": "20"},
    ],
    ids=str,
)
def test_what_is_common_is_ours(given: dict[str, str]) -> None:
    to = producer_for(client_config(Settings("127.0.0.1:1", given), None, "producer"))
    with closing(to):
        assert isinstance(to, TurnProducer)


def test_who_leads_is_asked_again_where_it_has_changed(
    broker: str, prefix: str, out: Open, requests: list[Any]
) -> None:
    """Of a broker of one node nothing ever moves: what was heard is spoilt instead."""
    name = f"{prefix}moved"
    created(broker, name)
    to = out()
    to.send(name, 0, [b"a"])
    to.flush(WAIT_S)
    asked: list[TopicPartition] = []
    leader = Brokers.leader

    def wrong_once(self: Brokers, tp: TopicPartition) -> int | None:
        asked.append(tp)
        return 77 if len(asked) < 3 else leader(self, tp)

    with pytest.MonkeyPatch.context() as spoilt:
        spoilt.setattr(Brokers, "leader", wrong_once)
        to.send(name, 0, [b"b"])
        to.flush(WAIT_S)
    assert len(asked) >= 3
    assert stands(broker, name) == [b"a", b"b"]
