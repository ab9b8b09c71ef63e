"""The port at which a process is watched: its metrics, and whether it serves.

I/O: a socket; on loopback unless a setting says otherwise.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import REGISTRY, make_wsgi_app

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from streams.transport.telemetry import READY

StartResponse = Callable[..., Any]


class MetricsServer:
    """Answers `/metrics` in Prometheus' text format, and `/ready` with 200 once `ready` was called, before with 503.

    `port` 0 takes a free one; `self.port` is the actual one. It answers in threads of its own until the process ends.
    Raises ConfigurationError where the address cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        self._metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(REGISTRY)
        self._is_ready = False
        READY.set(0)
        try:
            self._server = _Server((host, port), _Quiet)
        except OSError as error:
            raise ConfigurationError(
                f"Metrics cannot be served at {host}:{port}: {error.strerror or error}. Choose another port with "
                "--metrics-port (0 takes a free one), or another address with POINTSMAN_METRICS_HOST.",
                code=ErrorCode.SETTING,
            ) from error
        self._server.set_app(self._answer)
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="pointsman-metrics", daemon=True).start()

    def ready(self) -> None:
        """The process serves from now on."""
        self._is_ready = True
        READY.set(1)

    def close(self) -> None:
        """For tests: a process's server ends with it."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start)
        if path == "/ready":
            return _said(start, HTTPStatus.OK if self._is_ready else HTTPStatus.SERVICE_UNAVAILABLE)
        return _said(start, HTTPStatus.NOT_FOUND)


def _said(start: StartResponse, status: HTTPStatus) -> Iterable[bytes]:
    start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{status.phrase}\n".encode()]


class _Server(ThreadingMixIn, WSGIServer):
    """A slow reader must not keep the others waiting."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Nobody wants a log line for each scrape."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name in the library
        pass
