"""Settings: whose word counts, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import ConfigurationError
from schemas.settings import DATABASE, Settings, database_of


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_default() -> None:
    environ = {"POINTSMAN_BROKER": "env:1", "POINTSMAN_LOG_LEVEL": "debug", "POINTSMAN_METRICS_PORT": "0"}
    settings = Settings.resolve({"broker": "flag:1", "log_level": None}, environ)
    assert (settings.broker, settings.log_level, settings.metrics_port) == ("flag:1", "debug", 0)
    assert settings.clickhouse == "http://127.0.0.1:8123"
    assert settings.topology == Path("topology.yaml")


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.resolve({}, {"POINTSMAN_BROKER": ""}).broker == "127.0.0.1:9092"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"POINTSMAN_METRICS_PORT": "70000"}, "POINTSMAN_METRICS_PORT: must be a port number"),
        ({"POINTSMAN_LOG_LEVEL": "loud"}, "POINTSMAN_LOG_LEVEL: must be one of debug"),
        ({"POINTSMAN_CLICKHOUSE": "http://me:hunter2@host:1"}, "without user; /DATABASE may follow"),
        ({"POINTSMAN_CLICKHOUSE": "http://host:1/two/parts"}, "/DATABASE may follow"),
        ({"POINTSMAN_CLICKHOUSE": "http://host:1/a`b"}, "/DATABASE may follow"),
        ({"POINTSMAN_CLICKHOUSE": "http://host:70000/acme"}, "/DATABASE may follow"),
        ({"POINTSMAN_KAFKA_CONFIG": "/nowhere/at.all"}, "cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Settings.resolve({}, environ)
    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_secrets_come_from_environment_and_file_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("# ours\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b=hunter2\n")
    environ = {"POINTSMAN_KAFKA_CONFIG": str(file), "POINTSMAN_CLICKHOUSE_PASSWORD": "hunter2"}
    settings = Settings.resolve({"clickhouse_password": "from a flag", "kafka": {"x": "y"}}, environ)
    assert settings.kafka == {"security.protocol": "SASL_SSL", "sasl.password": "a=b=hunter2"}
    assert settings.clickhouse_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_a_broken_properties_file_is_named_by_line_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("a=b\nsasl.password hunter2\n")
    with pytest.raises(ConfigurationError, match=r"client\.properties:2: not of the form") as raised:
        Settings.resolve({}, {"POINTSMAN_KAFKA_CONFIG": str(file)})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "database"),
    [
        ("http://host:1", DATABASE),
        ("http://host:1/", DATABASE),
        ("http://host:1/acme_2", "acme_2"),
        ("https://host/acme/", "acme"),
    ],
)
def test_an_address_of_clickhouse_may_name_a_database(address: str, database: str) -> None:
    if not address.endswith("acme/"):
        assert Settings.resolve({"clickhouse": address}, {}).clickhouse == address
    assert database_of(address) == database
