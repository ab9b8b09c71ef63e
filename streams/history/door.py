"""The door: ClickHouse's HTTP interface on loopback, in front of the embedded engine.

So that our own queries, any ClickHouse client and plain curl work while the pipeline runs, and a server can take the
engine's place unseen. Left out: external tables, ClickHouse's own block compression, progress headers. Whoever may
ask has the rights of this process, its files included: hence loopback only, and a password where one is set.
I/O: a loopback socket, the engine.
"""

from __future__ import annotations

import hmac
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from streams.history.bodies import encoded, gathered
from streams.history.engine import Answer, Engine, EngineError, Handle, fault
from streams.history.exchange import Request, content_type, empty_block, read_request, status_of, summary
from streams.history.sessions import Sessions
from streams.history.statements import answer_format, insert_head, is_query, refused, without_format
from streams.transport.http_server import BoundedServer, Exchange

# Where an insert's head ends and its data begins must show within this.
HEAD_BYTES_MAX = 256 * 1024


class Door:
    """Serves `engine` on 127.0.0.1:`port` (0 takes a free one) from threads of its own, until `close`.

    A password, where one is given, is asked of everybody; the user must be `user` in any case. Raises
    ConfigurationError where the port cannot be had.
    """

    def __init__(self, engine: Engine, port: int, user: str = "default", password: str = "") -> None:
        try:
            self._server = _Server(engine, port, user, password)
        except OSError as error:
            raise ConfigurationError(
                f"the history cannot listen on 127.0.0.1:{port} ({error.strerror}). Is another store, or a ClickHouse "
                "server, running there? Name another port with --clickhouse http://127.0.0.1:PORT.",
                code=ErrorCode.HISTORY_PORT,
            ) from error
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"
        self._server.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Take no more requests, and give those at work `timeout_s`."""
        self._server.close(timeout_s)
        self._server.sessions.close()


class _Server(BoundedServer):
    def __init__(self, engine: Engine, port: int, user: str, password: str) -> None:
        self.engine, self.sessions = engine, Sessions(engine)
        self.user, self.password = user, password
        super().__init__("127.0.0.1", port, _Exchange)


class _Exchange(Exchange):
    server: _Server

    def serve(self) -> None:
        match self.command:
            case "GET":
                self._get()
            case "POST":
                self._post()
            case _:
                self.close_connection = True  # as below
                self._answer(501, b"Only GET and POST are served here\n")

    def _get(self) -> None:
        path = urlsplit(self.path)
        match path.path:
            case "/ping" | "/replicas_status":
                self._answer(200, b"Ok.\n")
            case "/" if path.query:
                self._serve(path.query, read_only=True)
            case "/":
                self._answer(200, b"Ok.\n")
            case _:
                self._answer(404, b"There is no handle for this path; statements go to /\n")

    def _post(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/":
            self._serve(path.query, read_only=False)
        else:
            self.close_connection = True  # its body is unread
            self._answer(404, b"There is no handle for this path; statements go to /\n")

    def _serve(self, query_string: str, *, read_only: bool) -> None:
        with ExitStack() as held:
            self._exchange(query_string, held, read_only=read_only)

    def _exchange(self, query_string: str, held: ExitStack, *, read_only: bool) -> None:
        """`held` closes what the answer is read from."""
        query_id = str(uuid.uuid4())
        try:
            self._refuse_browsers()
            request = read_request(query_string, self.headers, self.rfile, read_only=read_only)
            self._authenticate(request)
            spool = held.enter_context(_spool()) if request.spooled else None
            answer, output = self._run(request, spool)
        except EngineError as error:
            # What is left of the request's body would be read as the next request.
            self.close_connection = True
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "X-ClickHouse-Query-Id": query_id}
            self._answer(status_of(error), (error.message.rstrip() + "\n").encode(errors="replace"), headers)
            return
        headers = {
            "Content-Type": content_type(output),
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Format": output,
            "X-ClickHouse-Timezone": self.server.engine.timezone,
            "X-ClickHouse-Summary": summary(answer),
        }
        if spool is not None and spool.seek(0, os.SEEK_END):
            self.answer_file(200, spool, headers)
            return
        accepted = self.headers.get("Accept-Encoding", "") if request.compressed else ""
        body, encoding = encoded(answer.body, accepted)
        self._answer(200, body, headers | ({"Content-Encoding": encoding} if encoding else {}))

    def _refuse_browsers(self) -> None:
        """A page in somebody's browser may send requests to loopback, under a name of its own choice: not here."""
        host = urlsplit("//" + self.headers.get("Host", "127.0.0.1")).hostname
        foreign = self.headers.get("Sec-Fetch-Site", "none") != "none"
        if foreign or "Origin" in self.headers or host not in ("127.0.0.1", "localhost", "::1"):
            raise fault(497, "ACCESS_DENIED", "This door serves programs on this machine, not web pages")

    def _authenticate(self, request: Request) -> None:
        expected = self.server.password.encode()
        known = request.user == self.server.user
        if not known or (expected and not hmac.compare_digest(expected, request.password.encode())):
            text = f"{request.user}: Authentication failed: password is incorrect, or there is no user with such name"
            raise fault(516, "AUTHENTICATION_FAILED", text)

    def _run(self, request: Request, spool: BinaryIO | None) -> tuple[Answer, str]:
        """The statement is the `query` parameter followed by the body, as in ClickHouse."""
        start, rest = _beginning(request)
        head = insert_head(start)
        if why := refused(start if head is None else head.head.encode()):
            raise fault(62, "SYNTAX_ERROR", why)
        if head is not None:
            # An insert takes no parameters of its own: the handle carries them.
            request.settings |= {f"param_{name}": value for name, value in request.params.items()}
            with self.server.sessions.handle(request, start) as handle:
                answer = handle.insert(head.head, head.format, chain((start[head.data_at :],), rest))
            return answer, request.output
        sql = start + gathered(rest)
        if not sql.strip():
            raise fault(62, "SYNTAX_ERROR", "Empty query")
        output = answer_format(sql) or request.output
        with self.server.sessions.handle(request, sql) as handle:
            if spool is not None and is_query(sql):
                return handle.spool(without_format(sql), output, request.params, spool), output
            answer = handle.run(sql, request.output, request.params)
            if output == "Native" and not answer.body and is_query(sql):
                answer = replace(answer, body=_columns_of(handle, sql, request))
            return answer, output

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.answer(status, body, headers or {"Content-Type": "text/plain; charset=UTF-8"})


@contextmanager
def _spool() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file


def _columns_of(handle: Handle, sql: bytes, request: Request) -> bytes:
    """What a server answers to a query without rows; the embedded engine leaves it out."""
    described = handle.run(b"DESCRIBE (" + without_format(sql) + b"\n)", "JSONCompact", request.params)
    return empty_block([(name, kind) for name, kind, *_ in json.loads(described.body)["data"]])


def _beginning(request: Request) -> tuple[bytes, Any]:
    """Enough of the statement to tell what it is, and the rest of its body."""
    start = request.query + b"\n" if request.query else b""
    for chunk in request.body:
        start += chunk
        if len(start) >= HEAD_BYTES_MAX:
            break
    return start, request.body
