"""Where a process finds its services: flags win over the environment, that over a `dev` nearby, that over the defaults.

What a deployment decides (agents, routes, limits) is the topology; this is what one machine or one operator decides.
Secrets come only from here: from the environment, or from the file that POINTSMAN_KAFKA_CONFIG names. I/O: that file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

PREFIX = "POINTSMAN_"
KAFKA_CONFIG = f"{PREFIX}KAFKA_CONFIG"
SECRETS = frozenset({"clickhouse_password", "schema_registry_password"})
LEVELS = ("debug", "info", "warning", "error")
SLOTTED = ("worker", "host", "store")
SLOT_MAX = 64


def _checked_servers(text: str) -> str:
    """Raises ValueError where librdkafka would try in vain, and say no more than that nobody answers."""
    if not all(_SERVER.fullmatch(each.strip()) and _port(each) <= PORT_MAX for each in text.split(",")):
        raise ValueError("no HOST:PORT")
    return text


def _checked_port(url: str) -> str:
    if _port(url.rstrip("/")) > PORT_MAX:
        raise ValueError("no port")
    return url


def database_of(url: str) -> str:
    """Which database of a ClickHouse an address means: http://HOST:PORT/NAME, else the usual one."""
    return urlsplit(url).path.strip("/") or DATABASE


def _slot(kind: str) -> Any:
    """The field that names the place of a process of this kind."""
    said = f"Name of this {kind}'s place, kept over restarts, no two alike; @hostname: this machine's name."
    return Field(None, pattern=rf"^[a-zA-Z0-9._@-]{{1,{SLOT_MAX}}}$", description=said)


def _port(address: str) -> int:
    """The number behind the last colon; 0 where there is none."""
    digits = re.search(r":(\d+)\s*(/[^:/]*)?$", address)
    return int(digits[1]) if digits else 0


PORT_MAX = 65535
DATABASE = "pointsman"
"""Of a history whose address names none."""

NOTHING: Mapping[str, str] = MappingProxyType({})
_SERVER = re.compile(r"((PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)://)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?")
Servers = Annotated[str, AfterValidator(_checked_servers)]
WithPort = Annotated[str, AfterValidator(_checked_port)]


class Settings(BaseModel):
    """One process's settings. `kafka` holds librdkafka properties (SASL and TLS among them)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: Servers = Field("127.0.0.1:9092", description="Kafka's bootstrap servers, HOST:PORT.")
    clickhouse: WithPort = Field(
        "http://127.0.0.1:8123",
        pattern=r"^https?://[^/@\s]+(/([A-Za-z_][A-Za-z0-9_]{0,63})?)?$",
        description="ClickHouse's HTTP address; with a path, as in http://HOST:PORT/acme, the database `acme` there.",
    )
    clickhouse_user: str = Field("default", description="Who asks ClickHouse.")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="Only from the environment.")
    schema_registry: str | None = Field(
        None, pattern=r"^https?://[^@\s?#]+$", description="The producers' own schema registry, where they use one."
    )
    schema_registry_user: str | None = Field(None, description="Who asks the schema registry.")
    schema_registry_password: SecretStr = Field(SecretStr(""), description="Only from the environment.")
    topology: Path = Field(Path("topology.yaml"), description="The topology file.")
    kafka: Mapping[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="A file of librdkafka properties for every client, `name=value` a line: SASL, TLS, passwords.",
    )
    worker_slot: str | None = _slot("worker")
    host_slot: str | None = _slot("host")
    store_slot: str | None = _slot("store")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Prometheus port, with `/metrics` and `/ready`; 0: a free one."
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="Address that the Prometheus port listens on; 0.0.0.0 in a container."
    )
    log_level: str = Field("info", pattern=rf"^({'|'.join(LEVELS)})$", description="Least level that is logged.")

    @property
    def clickhouse_login(self) -> tuple[str, str]:
        """User and password, in the clear: for whoever connects, and for nothing else."""
        return self.clickhouse_user, self.clickhouse_password.get_secret_value()

    @classmethod
    def resolve(
        cls, flags: Mapping[str, object], environ: Mapping[str, str], nearby: Mapping[str, str] = NOTHING
    ) -> Settings:
        """Settings by name: a flag that is not None, else POINTSMAN_<NAME>, else `nearby`, else the default.

        `nearby` is what `schemas.nearby.serving` found: a `pointsman dev` in this folder.

        Raises ConfigurationError that names the flag or the variable, and never quotes a secret.
        """
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name in cls.model_fields:
            variable = f"{PREFIX}{name.upper()}"
            if name != "kafka" and name not in SECRETS and flags.get(name) is not None:
                values[name], sources[name] = flags[name], f"--{name.replace('_', '-')}"
            elif name != "kafka" and environ.get(variable):
                values[name], sources[name] = environ[variable], variable
            elif name in nearby:
                values[name], sources[name] = nearby[name], f"{name} of the pointsman dev in this folder"
        if environ.get(KAFKA_CONFIG):
            values["kafka"] = read_properties(Path(environ[KAFKA_CONFIG]))
        try:
            return cls(**values)
        except ValidationError as error:
            lines = [_explain(dict(each), sources) for each in error.errors(include_input=False, include_url=False)]
            raise ConfigurationError("\n".join(lines), code=ErrorCode.SETTING) from None


def read_properties(path: Path) -> Mapping[str, str]:
    """A librdkafka properties file: `name=value` a line, # for comments. Raises ConfigurationError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        text = f"{KAFKA_CONFIG}: {path} cannot be read: {why}"
        raise ConfigurationError(text, code=ErrorCode.KAFKA_CONFIG) from None
    properties: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(("#", "!")):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            # The line is not shown: it may hold a password.
            raise ConfigurationError(f"{path}:{number}: not of the form name=value", code=ErrorCode.KAFKA_CONFIG)
        properties[name.strip()] = value.strip()
    return MappingProxyType(properties)


def _explain(error: dict[str, Any], sources: Mapping[str, str]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    slot = f"must be at most {SLOT_MAX} letters, digits, dots, dashes and underscores"
    wanted = {
        "broker": "must be HOST:PORT, or several with commas between them",
        "clickhouse": "must be http://HOST:PORT or https://HOST:PORT, without user; /DATABASE may follow",
        "schema_registry": "must be http://HOST:PORT or https://HOST:PORT, a path may follow, without user or query",
        "log_level": f"must be one of {', '.join(LEVELS)}",
        **dict.fromkeys((f"{kind}_slot" for kind in SLOTTED), slot),
        "metrics_port": "must be a port number from 0 to 65535",
    }
    return f"{sources.get(name, name)}: {wanted.get(name, error['msg'])}"
