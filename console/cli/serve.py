"""The one-process commands: a worker, a host, a store or a registry, from its first log line to its certain end.

I/O: the ready file, a metrics port, stderr.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, UsageError, exit_code, explain
from console.cli.stopping import StopWatch, end
from console.cli.values import printable
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, PointsmanError, UnreachableError
from streams.transport.admin import check_broker
from streams.transport.metrics_server import MetricsServer
from streams.transport.stuck import end_if_stuck
from streams.transport.telemetry import configure_logging, get_logger

PORT_MAX = 65_535
HOLD_POLL_S = 0.02
HELD = "held"
COLLECT_AT = (200_000, 20, 20)

Ready = Callable[[Mapping[str, object]], None]
Run = Callable[[Ready, threading.Event], None]


@dataclass(frozen=True, slots=True)
class Life:
    """How a process tells that it serves, and what else than a signal begins and ends its service.

    With `hold` it loads all that it needs, the code of agents included, says so, and serves only once a line comes on
    its standard input: then whatever it replaces has ended, and the gap between the two is short.
    """

    ready_file: Path | None = None
    stop_with_stdin: bool = False
    hold: bool = False


class EndedUnaskedError(PointsmanError):
    """A process that serves until it is told to stop has returned before."""

    error_code = ErrorCode.ENDED_UNASKED

    def __init__(self, process: str) -> None:
        super().__init__(f"The {process} ended though nobody told it to; its log may say why.")


def serve_worker(deployment: Deployment, life: Life) -> NoReturn:
    """Routes and decides until it is told to stop."""
    gc.disable()  # until it serves, as where the command line is loaded
    from streams.transport.lean import spare_aiohttp, spare_pandas  # noqa: PLC0415  each process loads its part alone

    spare_pandas()  # before anything makes an array
    spare_aiohttp()  # before anything imports Faust
    from streams.app import run_worker  # noqa: PLC0415  as above

    def run(ready: Ready, stop: threading.Event) -> None:
        run_worker(deployment.settings, deployment.topology, ready=ready, stop=stop)

    _serve("worker", deployment, run, life)


def serve_host(deployment: Deployment, life: Life) -> NoReturn:
    """Runs agents until it is told to stop."""
    gc.disable()  # as above
    from agents.process import run_host  # noqa: PLC0415  as above
    from agents.registry import resolve  # noqa: PLC0415  as above
    from console.memory.lazily import RecallWhenAsked  # noqa: PLC0415  as above

    settings, topology = deployment.settings, deployment.topology

    def run(ready: Ready, stop: threading.Event) -> None:
        run_host(settings, topology, ready=ready, stop=stop, remembers=RecallWhenAsked(settings, topology))

    _serve("host", deployment, run, life, prepare=lambda: resolve(deployment.topology))


def serve_store(deployment: Deployment, data: Path | None, life: Life) -> NoReturn:
    """Keeps the history until it is told to stop; with `data`, ClickHouse runs in this process over that folder."""
    gc.disable()  # as above
    from console.memory.beside import with_summaries  # noqa: PLC0415  as above
    from streams.history.lag import Lag  # noqa: PLC0415  as above
    from streams.history.process import run_store  # noqa: PLC0415  as above

    def run(ready: Ready, stop: threading.Event) -> None:
        lag = Lag()
        told = with_summaries(deployment.settings, deployment.topology, ready, stop, lag)
        run_store(deployment.settings, deployment.topology, data, ready=told, stop=stop, lag=lag)

    _serve("store", deployment, run, life)


def serve_registry(deployment: Deployment, listen: str, life: Life) -> NoReturn:
    """Answers for the project's schemas until it is told to stop; `listen` is HOST:PORT. Raises UsageError."""
    from schemas.registry import FileRegistry  # noqa: PLC0415  as above
    from streams.registry.door import RegistryDoor  # noqa: PLC0415  as above

    host, port = _address(listen)

    def run(ready: Ready, stop: threading.Event) -> None:
        with closing(RegistryDoor(FileRegistry.load(), deployment.topology.topics(), port, host)) as door:
            ready({"registry": door.url})
            stop.wait()

    _serve("registry", deployment, run, life, asks_broker=False)


def _address(listen: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, where an IPv6 address stands in brackets. Raises UsageError."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise UsageError(f"--listen {listen} is not of the form HOST:PORT", code=ErrorCode.FLAG_VALUE)
    return host.removeprefix("[").removesuffix("]"), int(port)


def _serve(
    process: str,
    deployment: Deployment,
    run: Run,
    life: Life,
    *,
    prepare: Callable[[], object] = lambda: None,
    asks_broker: bool = True,
) -> NoReturn:
    """Runs until `run` returns or raises; then the process ends, whatever threads are left."""
    configure_logging(deployment.settings.log_level, process=process)
    log = get_logger("pointsman.process")
    stop, go_on = threading.Event(), threading.Event()
    end_if_stuck()
    StopWatch(stop, go_on, with_stdin=life.stop_with_stdin or life.hold).start()
    code: int = ExitCode.OK
    try:
        if life.hold:
            prepare()
            _write(life.ready_file, {HELD: True, "pid": os.getpid()})
            _await_either(go_on, stop)
        _spare_the_collector()
        if not stop.is_set():
            port = deployment.settings.metrics_port
            metrics = None if port is None else MetricsServer(deployment.settings.metrics_host, port)
            log.info("starting", topology=str(deployment.topology_path), version=deployment.topology.version)
            if asks_broker:
                check_broker(deployment.settings, deployment.topology)
            run(partial(_announce, life.ready_file, metrics), stop)
            _require_asked(process, stop)
        log.info("stopped")
    except BaseException as error:
        code = exit_code(error)
        # What is wrong with the surroundings is said below, in words; where it was noticed is of no use.
        foreseen = isinstance(error, (ConfigurationError, UnreachableError, OSError)) and code != ExitCode.FAILED
        log.log(logging.ERROR, "failed", exit_code=int(code), exc_info=not foreseen)
        _tell(f"pointsman {process}: {explain(error)}")
    end(code)


def _tell(text: str) -> None:
    # A stream that was closed before the process began is None; a process ends as well where nobody listens.
    if sys.__stderr__ is not None:
        with suppress(OSError):
            print(printable(text), file=sys.__stderr__, flush=True)


def _await_either(first: threading.Event, second: threading.Event) -> None:
    while not first.wait(HOLD_POLL_S) and not second.is_set():
        pass


def _spare_the_collector() -> None:
    """Tasks and records in hand are many small objects in no cycles: to walk them every 700 allocations is a third of
    a turn. What was loaded holds hardly any garbage, and to look for that takes a tenth of a start."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)
    gc.enable()


def _require_asked(process: str, stop: threading.Event) -> None:
    if not stop.is_set():
        raise EndedUnaskedError(process)


def _announce(ready_file: Path | None, metrics: MetricsServer | None, said: Mapping[str, object]) -> None:
    """Says that the process serves: in the log, at the metrics port, and in the ready file."""
    announced = {"pid": os.getpid(), "metrics": None if metrics is None else metrics.port, **said}
    get_logger("pointsman.process").info("ready", **announced)
    if metrics is not None:
        metrics.ready()
    _write(ready_file, announced)


def _write(ready_file: Path | None, announced: Mapping[str, object]) -> None:
    """Never seen half written."""
    if ready_file is not None:
        draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(announced) + "\n")
        draft.replace(ready_file)
