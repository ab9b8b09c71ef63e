"""A TCP proxy in front of a Kafka node that loses what a network loses: requests of chosen kinds, and only those."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Collection
from contextlib import suppress

FIND_COORDINATOR = 10
"""Kafka's api key."""
_SIZE = struct.Struct(">i")
_API_KEY = struct.Struct(">h")


class Deaf:
    """Passes everything on to the loopback port `target`, but requests whose api keys are in `lost`.

    Have the node advertise `port` (console.local.broker_config.BrokerDoor). `dropped` counts what was lost.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.lost: Collection[int] = ()
        self.dropped = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends all connections; new ones are taken."""
        ended, self._open = self._open, []
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                node = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, node]
                for carry, source, sink in ((self._requests, client, node), (self._answers, node, client)):
                    threading.Thread(target=self._carry, args=(carry, source, sink), daemon=True).start()

    @staticmethod
    def _carry(
        carry: Callable[[socket.socket, socket.socket], None], source: socket.socket, sink: socket.socket
    ) -> None:
        with suppress(OSError), source, sink:
            carry(source, sink)

    def _requests(self, client: socket.socket, node: socket.socket) -> None:
        waiting = b""
        while data := client.recv(65_536):
            waiting += data
            while len(waiting) >= _SIZE.size and len(waiting) >= (end := _SIZE.size + _SIZE.unpack_from(waiting)[0]):
                request, waiting = waiting[:end], waiting[end:]
                if _API_KEY.unpack_from(request, _SIZE.size)[0] in self.lost:
                    self.dropped += 1
                else:
                    node.sendall(request)

    @staticmethod
    def _answers(node: socket.socket, client: socket.socket) -> None:
        while data := node.recv(65_536):
            client.sendall(data)
