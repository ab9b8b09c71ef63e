"""The store: one process that keeps the history, in an engine of its own behind a door, or in a ClickHouse server.

I/O: files below the data directory, a loopback socket, ClickHouse over HTTP, Kafka.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.access import used_by
from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError
from schemas.registry import FileRegistry, JoinedRegistry
from schemas.settings import Settings, database_of
from schemas.topology import Topology
from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.lag import Lag
from streams.history.loader import Loader
from streams.history.migrations import migrate
from streams.history.owner import own
from streams.history.queries import connect
from streams.history.retention import retain
from streams.history.sink import Sink
from streams.transport.admin import require_topics
from streams.transport.clients import client_config
from streams.transport.foreign_ids import foreign_ids
from streams.transport.held import HeldBack
from streams.transport.producer import Producer
from streams.transport.telemetry import get_logger
from streams.transport.threads import DaemonPool, has_ended
from streams.transport.vacating import vacate

log = get_logger("pointsman.history")

POLL_S = 0.1
RETRY_S = 1.0
INSERT_TIMEOUT_S = 60
MIGRATION_TIMEOUT_S = 24 * 3600
"""A migration may copy all rows there are. To be cut off means to begin anew, so it gets as long as it takes."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def run_store(
    settings: Settings,
    topology: Topology,
    data_dir: Path | None,
    *,
    ready: Callable[[Mapping[str, object]], None],
    stop: threading.Event,
    lag: Lag | None = None,
) -> None:
    """Keep the history until `stop` is set; then load what is read, commit and end, within about four seconds.

    With `data_dir` the engine runs here and answers ClickHouse's HTTP interface on the loopback port that
    `settings.clickhouse` names (0 takes a free one); without it a server is expected there, and waited for. `ready` is
    called once with {"clickhouse": url}; `lag` is told how far the history is behind. Raises ConfigurationError (the
    port or the directory is taken, the tables are another version's, a topic is missing), UnreachableError (no broker),
    TransportError and DeliveryError (the process must end).
    """
    require_topics(settings, used_by("store", topology.topics()), topology)
    user, password = settings.clickhouse_login
    database = database_of(settings.clickhouse)
    with _clickhouse(settings, data_dir) as (url, engine):

        def prepared() -> Any:
            return prepare(url, user, password, topology, database)

        client = _prepare(prepared, stop)
        if client is None:
            return
        registry = FileRegistry.load()
        with foreign_ids(settings, registry, topology.topics()) as foreign:
            joined = registry if foreign is None else JoinedRegistry(registry, foreign.text)
            codec = Codec(joined, topology.limits.record_bytes_max)
            dead_letters = Producer(client_config(settings, topology, "producer", name="pointsman-store"))
            try:
                held = None if foreign is None else HeldBack(foreign)
                loader = Loader(topology, codec, prepared, dead_letters, engine, database, client)
                sink = Sink(settings, topology, loader, held, lag)
                sink.run(stop, lambda: ready({"clickhouse": url}))
            finally:
                dead_letters.close(1.0)
            vacate(sink.member)


def prepare(url: str, user: str, password: str, topology: Topology, database: str) -> Any:
    """A client of a history that has its tables: whoever drops one under us has it made again. Raises as `migrate`,
    and UnreachableError."""
    with closing(connect(url, user, password, send_receive_timeout=MIGRATION_TIMEOUT_S)) as patient:
        migrate(patient, database=database)
    client = connect(url, user, password, send_receive_timeout=INSERT_TIMEOUT_S)
    own(client, topology, database)
    retain(client, topology.history_policy, database)
    return client


@contextmanager
def _clickhouse(settings: Settings, data_dir: Path | None) -> Iterator[tuple[str, Engine | None]]:
    """The URL of the history: of a server, or of an engine that lives as long as this context, and that engine."""
    if data_dir is None:
        yield settings.clickhouse.rstrip("/"), None
        return
    parts = urlsplit(settings.clickhouse)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        raise ConfigurationError(
            f"an embedded history answers on loopback only, not on {settings.clickhouse}: "
            "name http://127.0.0.1:PORT, or leave the data directory out to use the server there",
            code=ErrorCode.HISTORY_ADDRESS,
        )
    engine = Engine(data_dir)
    try:
        port = 8123 if parts.port is None else parts.port
        door = Door(engine, port, *settings.clickhouse_login)
        try:
            yield door.url + parts.path.rstrip("/"), engine
        finally:
            door.close()
    finally:
        engine.close()


def _prepare(prepared: Callable[[], Any], stop: threading.Event) -> Any:
    """Wait for ClickHouse and bring its tables up to date; a client of it, None where `stop` came first."""
    lane, said = DaemonPool("history-prepare", 1), False
    try:
        while not stop.is_set():
            attempt = lane.submit(prepared)
            try:
                while not has_ended(attempt, POLL_S):
                    if stop.is_set():
                        return None
            except UnreachableError as error:
                if not said:
                    log.warning("ClickHouse does not answer; waiting for it", why=str(error))
                    said = True
                stop.wait(RETRY_S)
            else:
                return attempt.result()
        return None
    finally:
        lane.close()
