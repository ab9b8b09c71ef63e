"""A schema registry of somebody else's: it gives out ids of its own, can be down, slow to know, or ask for a password.

It stands for Confluent's in tests, over HTTP. I/O: a loopback socket.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.definitions import Definition
from streams.transport.http_server import BoundedServer, Exchange


class ForeignRegistry:
    """Ids count from `first_id`; one text has one id under all subjects, as in Confluent's."""

    def __init__(self, first_id: int = 1, *, user: str = "", password: str = "") -> None:
        self.texts: dict[int, str] = {}
        self.subjects: dict[str, list[int]] = {}
        self.asked: Counter[str] = Counter()  # requests by method and path
        self.is_down = False
        self.unknown_for: Counter[int] = Counter()  # how many times yet an id is answered with "no such schema"
        self.refuses = False  # new schemas, as one that judges their compatibility
        self._next = first_id
        login = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.authorization = f"Basic {login}" if user else None
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._server.start()

    def add(self, subject: str, schema: Definition | str) -> int:
        """Its id, as if a producer had registered it."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        schema_id = next((each for each, known in self.texts.items() if known == text), 0)
        if not schema_id:
            schema_id, self._next = self._next, self._next + 1
            self.texts[schema_id] = text
        if schema_id not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(schema_id)
        return schema_id

    def close(self) -> None:
        self._server.close()

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        path = urlsplit(target).path
        self.asked[f"{method} {path}"] += 1
        if self.is_down:
            return 503, {"error_code": 50003, "message": "not now"}
        match (method, *[unquote(segment) for segment in path.split("/")[1:]]):
            case ("GET", "schemas", "ids", number):
                return self._schema(int(number))
            case ("GET", "subjects", subject, "versions") if subject in self.subjects:
                return 200, list(range(1, len(self.subjects[subject]) + 1))
            case ("GET", "subjects", subject, "versions", version) if subject in self.subjects:
                schema_id = self.subjects[subject][int(version) - 1]
                return 200, {"subject": subject, "id": schema_id, "schema": self.texts[schema_id]}
            case ("POST", "subjects", subject, "versions") if not self.refuses:
                return 200, {"id": self.add(subject, json.loads(body)["schema"])}
            case ("POST", *_):
                return 409, {"error_code": 409, "message": "incompatible with an earlier schema"}
        return 404, {"error_code": 40401, "message": "Subject not found"}

    def _schema(self, schema_id: int) -> tuple[int, Any]:
        if schema_id not in self.texts or self.unknown_for[schema_id] > 0:
            self.unknown_for[schema_id] -= 1
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, {"schema": self.texts[schema_id]}


class _Server(BoundedServer):
    def __init__(self, registry: ForeignRegistry) -> None:
        self.registry = registry
        super().__init__("127.0.0.1", 0, _Exchange)


class _Exchange(Exchange):
    server: _Server

    def serve(self) -> None:
        registry = self.server.registry
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status, document = registry.answer(self.command, self.path, body)
        if registry.authorization not in (None, self.headers.get("Authorization")):
            status, document = 401, {"error_code": 401, "message": "Unauthorized"}
        self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})
