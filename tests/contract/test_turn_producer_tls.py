"""A producer of turns and TLS, on a real broker: what it can be secured with, and what it says where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigurationError, DeliveryError
from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.turn_producer import TurnProducer, producer_for
from tests.support.brokers import Settings
from tests.support.certificates import PASSWORD, Authority
from tests.support.tls import USER, TlsBroker
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

WAIT_S = 60.0
SHORT = {"message.timeout.ms": "1500"}
Given = dict[str, str]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsBroker]:
    with TlsBroker(tmp_path_factory.mktemp("tls") / "broker") as broker:
        ensure_topics(Settings(broker.address), [TopicSpec("secured", None, 1, "delete", 3_600_000)])
        broker.know("scram")
        yield broker


def sent(address: str, given: Given, value: bytes) -> None:
    """Through whatever `producer_for` takes for it, which has to be the producer of turns."""
    to = producer_for(client_config(Settings(address, given), None, "producer"))
    assert isinstance(to, TurnProducer)
    with closing(to):
        to.send("secured", 0, [value])
        to.flush(WAIT_S)


def signed(tls: TlsBroker, mechanism: str, user: str, password: str = PASSWORD) -> Given:
    return {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(tls.authority.path),
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
    }


def mutual(tls: TlsBroker, authority: Authority | None = None, password: str | None = None) -> Given:
    certificate, key = (authority or tls.authority).issue("client", password=password)
    given = {
        "security.protocol": "SSL",
        "ssl.ca.location": str(tls.authority.path),
        "ssl.certificate.location": str(certificate),
        "ssl.key.location": str(key),
    }
    return given if password is None else given | {"ssl.key.password": password}


def test_what_is_secured_as_the_broker_wants_it_arrives(tls: TlsBroker) -> None:
    trusting = {"security.protocol": "ssl", "ssl.ca.location": str(tls.authority.path)}
    sent(tls.at("TLS"), trusting, b"tls")
    sent(tls.at("TLS").replace("127.0.0.1", "localhost"), trusting, b"by name")
    sent(tls.at("MUTUAL"), mutual(tls), b"mutual")
    sent(tls.at("MUTUAL"), mutual(tls, password=PASSWORD), b"with a password")
    sent(tls.at("SIGNED"), signed(tls, "PLAIN", USER), b"plain")
    sent(tls.at("SIGNED"), signed(tls, "SCRAM-SHA-512", "scram"), b"scram")
    expected = [b"tls", b"by name", b"mutual", b"with a password", b"plain", b"scram"]
    assert [each.value() for each in read_topic(tls.address, "secured")] == expected


@pytest.mark.parametrize(
    ("listener", "given", "words"),
    [
        ("TLS", "stranger", ["not trusted", "ssl.ca.location"]),
        ("ASTRAY", "trusting", ["IP address mismatch", "one of those that the certificate names"]),
        ("MUTUAL", "trusting", ["ssl.certificate.location"]),
        ("MUTUAL", "foreign", ["ssl.certificate.location"]),
        ("SIGNED", "wrong password", ["does not let ops in", "sasl.password"]),
        ("SIGNED", "wrong mechanism", ["does not let ops in", "sasl.mechanism (SCRAM-SHA-256)"]),
        ("TLS", "nothing", ["security.protocol (PLAINTEXT)"]),
        ("PLAINTEXT", "trusting", ["security.protocol (SSL)"]),
    ],
)
def test_what_is_not_says_what_failed_why_and_what_to_do(
    tls: TlsBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture, listener: str, given: str, words: list[str]
) -> None:
    trusting = {"security.protocol": "SSL", "ssl.ca.location": str(tls.authority.path)}
    stranger = Authority(tmp_path / "other", "stranger")
    settings: dict[str, Given] = {
        "trusting": trusting,
        "stranger": trusting | {"ssl.ca.location": str(stranger.path)},
        "foreign": mutual(tls, stranger),
        "wrong password": signed(tls, "PLAIN", USER, "wrong"),
        "wrong mechanism": signed(tls, "SCRAM-SHA-256", USER),
        "nothing": {},
    }
    address = tls.address if listener == "PLAINTEXT" else tls.at(listener)
    with pytest.raises(DeliveryError) as raised:
        sent(address, settings[given] | SHORT, b"never")
    said = str(raised.value)
    assert "1 record(s) to secured were not delivered" in said
    assert address in said
    assert not [word for word in words if word not in said], said
    assert "wrong" not in said.partition("sasl.mechanism")[0], said
    assert PASSWORD not in said
    assert [words[-1] in line for line in caplog.messages if "it keeps trying" in line] == [True]  # at once, and once
    assert b"never" not in [each.value() for each in read_topic(tls.address, "secured")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("files"), "ca")


def test_files_that_cannot_be_used_are_said_when_the_client_is_made(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("client", password=PASSWORD)
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("this is no certificate")
    good: dict[str, Any] = {"security.protocol": "SSL", "ssl.ca.location": str(authority.path)}
    mutual = good | {"ssl.certificate.location": str(certificate), "ssl.key.location": str(key)}
    missing = str(tmp_path / "nowhere.pem")
    for given, words in (
        (good | {"ssl.ca.location": missing}, ["ssl.ca.location is", missing, "No such file"]),
        (good | {"ssl.ca.location": str(no_pem)}, ["ssl.ca.location is", str(no_pem)]),
        (mutual | {"ssl.certificate.location": missing}, ["ssl.certificate.location is", missing, "no such file"]),
        (mutual | {"ssl.key.location": missing}, ["ssl.key.location is", missing, "no such file"]),
        (mutual, ["ssl.key.location is", "ssl.key.password"]),  # and does not ask at the terminal for it
        (mutual | {"ssl.key.password": "wrong"}, ["ssl.key.location is", "ssl.key.password"]),
    ):
        with pytest.raises(ConfigurationError) as raised:
            producer_for(client_config(Settings("127.0.0.1:1", given), None, "producer"))
        said = str(raised.value)
        assert not [word for word in words if word not in said], said
        assert "POINTSMAN_KAFKA_CONFIG" in said
        assert PASSWORD not in said


def test_without_a_mechanism_librdkafka_means_kerberos(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"security.protocol": "SASL_SSL", "sasl.username": "u", "sasl.password": "p"}
    opened: list[Any] = []
    monkeypatch.setattr("streams.transport.producer.ck.Producer", opened.append)
    producer_for(client_config(Settings("127.0.0.1:1", given), None, "producer"))
    assert len(opened) == 1
