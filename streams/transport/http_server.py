"""What the HTTP servers of this project share: a thread a connection, a bound on them, and an end that waits for those
at work.

They are doors for tools beside the pipeline; nothing of the pipeline's own way goes through them. I/O: a socket.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

from streams.transport.telemetry import get_logger

log = get_logger("pointsman.http")

CONNECTIONS_MAX = 64
IDLE_TIMEOUT_S = 60.0
POLL_S = 0.05
LINGER_S = 2.0
LINGER_BYTES_MAX = 16 << 20
PIECE_BYTES = 256 * 1024


class BoundedServer(ThreadingHTTPServer):
    """Listens on `host` (a name, an IPv4 or an IPv6 address) and `port` (0 takes a free one) and answers by `exchange`,
    from threads of its own, between `start` and `close`. Raises OSError where the address cannot be had."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, host: str, port: int, exchange: type[Exchange]) -> None:
        # As ThreadingHTTPServer reads it when it makes its socket.
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((host, port), exchange)
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(target=self.serve_forever, args=(POLL_S,), name="http", daemon=True)

    def server_bind(self) -> None:
        """Without the look-up of our own name that the base class makes: it may take seconds, and nobody asks."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Take no more requests, and give those at work `timeout_s`."""
        self.shutdown()
        self.server_close()
        self._thread.join(timeout_s)
        self._end_connections(timeout_s)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread per connection, and a bound on them."""
        with self._changed:
            full = len(self._connections) >= CONNECTIONS_MAX
            if not full:
                self._connections.add(request)
        if full:
            with suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            super().shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        _linger(request)
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def _end_connections(self, timeout_s: float) -> None:
        """Idle connections end at once; those at work may still answer."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            for each in self._connections:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RD)
            while self._connections and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._connections:
                log.warning("requests were still at work when the door closed", connections=len(self._connections))

    def handle_error(self, *_: Any) -> None:
        """A connection that broke is the client's affair."""
        log.debug("a connection broke", why=repr(sys.exception()))


def _linger(connection: socket.socket) -> None:
    """Says that nothing more comes, and takes what the client still sends, for a while: closed over a body that nobody
    read, the connection is reset, and a client in the middle of sending never sees why it was refused."""
    deadline, left = time.monotonic() + LINGER_S, LINGER_BYTES_MAX
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while left > 0 and (wait := deadline - time.monotonic()) > 0:
            connection.settimeout(wait)
            taken = len(connection.recv(1 << 16))
            if not taken:
                return
            left -= taken


class Exchange(BaseHTTPRequestHandler):
    """One connection's requests, in HTTP/1.1; a subclass answers them in `serve`, by `command` and `path`."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    # Header and body leave as one packet, and at once: a delayed acknowledgement costs 40 ms.
    disable_nagle_algorithm = True
    wbufsize = -1

    def serve(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.serve()

    def do_HEAD(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def do_PUT(self) -> None:
        self.serve()

    def do_DELETE(self) -> None:
        self.serve()

    def answer(self, status: int, body: bytes, headers: Mapping[str, str], size: int | None = None) -> None:
        """Sends a whole answer; to HEAD, all of it but the body. `size`: of a body that the caller sends himself."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def answer_file(self, status: int, file: BinaryIO, headers: Mapping[str, str]) -> None:
        """Sends a file as the answer, from its beginning, piece by piece."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.answer(status, b"", headers, size)
        shutil.copyfileobj(file, self.wfile, PIECE_BYTES)
        self.wfile.flush()

    def version_string(self) -> str:
        return "pointsman"

    def log_message(self, *_: Any) -> None:
        """What tools ask is no matter for the log."""
