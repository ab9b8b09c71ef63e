"""The registry's door: the schemas of schemas/registry.json by HTTP, as Confluent's serializers and tools ask for them.

It holds no state and no secret, and changes nothing; any number of them may serve one deployment. I/O: a socket.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.registry import FileRegistry
from schemas.topics import Topics
from streams.registry.answers import Answers
from streams.registry.catalog import Catalog
from streams.transport.http_server import BoundedServer, Exchange

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
BODY_BYTES_MAX = 1024 * 1024


class RegistryDoor:
    """Serves the file's schemas for these topics on `host`:`port` (0 takes a free one) until `close`.

    Raises ConfigurationError where the address cannot be had.
    """

    def __init__(self, registry: FileRegistry, topics: Topics, port: int, host: str = "127.0.0.1") -> None:
        self._registry = registry
        try:
            self._server = _Server(host, port, Answers(Catalog(registry, topics)))
        except OSError as error:
            raise ConfigurationError(
                f"the schema registry cannot listen on {_shown(host)}:{port} ({error.strerror}). Is another registry "
                "running there? Name another address with --listen HOST:PORT.",
                code=ErrorCode.REGISTRY_ADDRESS,
            ) from error
        self.port = self._server.port
        self.url = f"http://{_shown(host)}:{self.port}"
        self._server.start()

    def serve(self, topics: Topics) -> None:
        """From the next request on, answer for these topics."""
        self._server.answers = Answers(Catalog(self._registry, topics))

    def close(self, timeout_s: float = 1.0) -> None:
        """Take no more requests, and give those at work `timeout_s`."""
        self._server.close(timeout_s)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Server(BoundedServer):
    def __init__(self, host: str, port: int, answers: Answers) -> None:
        self.answers = answers
        super().__init__(host, port, _Exchange)


class _Exchange(Exchange):
    server: _Server

    def serve(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            return self._refuse(411, "a body must come with its Content-Length")
        if int(length) > BODY_BYTES_MAX:
            return self._refuse(413, f"a body may have {BODY_BYTES_MAX} bytes")
        body = self.rfile.read(int(length))
        self._say(*self.server.answers.to(self.command, self.path, body))
        return None

    def _refuse(self, status: int, why: str) -> None:
        """Without having read the body: what is left of it would be taken for the next request."""
        self.close_connection = True
        self._say(status, {"error_code": status, "message": why})

    def _say(self, status: int, document: Any) -> None:
        self.answer(status, json.dumps(document).encode(), {"Content-Type": CONTENT_TYPE})
