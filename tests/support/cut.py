"""A TCP proxy in front of ClickHouse that loses what a network loses: the answer, and only that, of an insert."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Cut:
    """Passes everything on to `url`, but answers to inserts: the next `lose` of them are dropped with the connection.

    While `away`, nobody is there at all. `lost` counts the answers that were dropped, `on_loss` is told of each.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 8123)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.lose, self.lost = 0, 0
        self.away = threading.Event()
        self.on_loss = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.away.is_set():
            client.close()
            return
        upstream = socket.create_connection(self._upstream)
        is_insert = threading.Event()
        up = threading.Thread(target=self._pass_up, args=(client, upstream, is_insert), daemon=True)
        up.start()
        with suppress(OSError):
            while data := upstream.recv(65_536):
                if self.away.is_set() or (is_insert.is_set() and self._is_lost()):
                    break
                is_insert.clear()
                client.sendall(data)
        for each in (client, upstream):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _is_lost(self) -> bool:
        """The engine has answered, so the rows are in; nobody will hear of it."""
        with self._lock:
            if self.lose == 0:
                return False
            self.lose, self.lost = self.lose - 1, self.lost + 1
        self.on_loss.set()
        return True

    def _pass_up(self, client: socket.socket, upstream: socket.socket, is_insert: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if data.startswith(b"POST") and b"INSERT" in data.split(b"\r\n", 1)[0]:
                    is_insert.set()
                upstream.sendall(data)
        with suppress(OSError):
            upstream.shutdown(socket.SHUT_WR)
