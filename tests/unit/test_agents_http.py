"""Agents of kind `http` against a real server on loopback, which does everything that a server can do wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from agents.calls import Caller
from agents.contract import EMPTY_CONTEXT
from agents.outcome import Outcome
from agents.runners.http_service import HttpRunner
from agents.targets import endpoint
from schemas.topology import Agent
from tests.support.agents_attempts import attempt_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SLOW_S = 60.0


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int


Reply = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


@dataclass
class Server:
    """Reads whole requests and lets `reply` do what it likes with the connection; it says whether to keep it."""

    reply: Reply
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            keep = True
            while keep:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                request = Request(head[0], headers, body, connection)
                self.requests.append(request)
                keep = await self.reply(request, reader, writer)
        writer.close()


def http(status: str = "200 OK", body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def saying(*replies: bytes) -> Reply:
    """The same reply to each request, or one after the other."""
    left = list(replies)

    async def reply(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        return True

    return reply


Ask = Callable[..., Awaitable[Outcome]]


@pytest_asyncio.fixture
async def ask() -> AsyncIterator[Ask]:
    """`ask(server, tasks=1, **agent)`: the outcome of the last of so many tasks, one after the other."""
    servers: list[asyncio.Server] = []
    callers: dict[int, Caller] = {}

    async def asked(server: Server | None, tasks: int = 1, url: str = "", **agent: Any) -> Outcome:
        if server is not None and not server.port:
            started = await asyncio.start_server(server.serve, "127.0.0.1", 0)
            servers.append(started)
            server.port = started.sockets[0].getsockname()[1]
        at = url or f"http://localhost:{server.port if server else 0}/answer?v=1"  # of numbers no client keeps cookies
        fields = Agent.model_validate({"kind": "http", "url": at, "effect": "read", **agent})
        caller = callers.setdefault(
            id(server), Caller(HttpRunner("a", fields, endpoint(fields, {})), writes=fields.effect == "write")
        )
        for number in range(tasks):
            attempt = attempt_of(task_id=f"t{number}", text="héllo", traceparent=TRACEPARENT)
            (outcome,) = await caller.call([attempt], EMPTY_CONTEXT)
        return outcome

    yield asked
    for caller in callers.values():
        await caller.close()
    for started in servers:
        started.close()


def ended(outcome: Outcome) -> tuple[str, str | None, str | None]:
    return outcome.kind, outcome.error_class, outcome.error


async def test_a_task_is_posted_and_its_answer_taken_on_one_connection(ask: Ask) -> None:
    server = Server(saying(http(body={"answer": "x", "confidence": 0.5})))
    outcome = await ask(server, 3)
    assert outcome == Outcome("COMPLETED", "x", confidence=0.5)
    assert server.connections == 1
    first, second, _ = server.requests
    assert first.line == "POST /answer?v=1 HTTP/1.1"
    assert first.body["task"]["text"] == "héllo"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["idempotency-key"] == first.body["idempotency_key"]
    assert first.headers["traceparent"] == TRACEPARENT
    assert first.body["id"] != second.body["id"]
    assert 0 < first.body["timeout_ms"] <= 5_000


async def test_headers_of_the_topology_are_sent_and_cookies_are_not_kept(ask: Ask) -> None:
    server = Server(saying(http(body={"answer": "x"}, headers={"Set-Cookie": "tenant=acme"})))
    await ask(server, 2, headers={"x-team": "search"})
    assert [request.headers.get("x-team") for request in server.requests] == ["search", "search"]
    assert all("cookie" not in request.headers for request in server.requests)


async def test_a_proxy_of_the_environment_does_not_apply(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await ask(Server(saying(http(body={"answer": "x"}))))).kind == "COMPLETED"


@pytest.mark.parametrize(
    ("reply", "reads", "writes"),
    [
        (http(body=b"hello"), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http("204 No Content", b""), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http(body={"id": "another", "answer": "x"}), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http(body={"failed": "no", "error_class": "QUOTA"}), "QUOTA", "QUOTA"),
        (http("500 Oops", {"failed": "no", "error_class": "QUOTA"}), "QUOTA", "QUOTA"),
        (http("500 Oops", {"answer": "x"}), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http("500 Oops", b"x" * 2_000_000), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http("422 Unprocessable", {"detail": [{"msg": "no"}]}), "WRONG_INPUT", "WRONG_INPUT"),
        (http("429 Too Many", b""), "OVERLOADED", "OVERLOADED"),
        (http("503 Busy", b"", {"Retry-After": "1"}), "OVERLOADED", "OVERLOADED"),
        (http("503 Gone", b""), "UNREACHABLE", "UNKNOWN_OUTCOME"),
        (http("302 Found", b"", {"Location": "http://127.0.0.1:1/"}), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http("307 Elsewhere", b"", {"Location": "http://127.0.0.1:1/"}), "INTERNAL", "INTERNAL"),
        (http("999 Strange", b""), "INTERNAL", "UNKNOWN_OUTCOME"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "INTERNAL", "UNKNOWN_OUTCOME"),
        (http(body=b"x", headers={"Content-Encoding": "gzip"}), "INTERNAL", "UNKNOWN_OUTCOME"),
        (http(body=b"x" * 2_000), "INTERNAL", "UNKNOWN_OUTCOME"),
    ],
)
async def test_whatever_is_replied_is_an_outcome(ask: Ask, reply: bytes, reads: str, writes: str) -> None:
    for effect, expected in (("read", reads), ("idempotent", reads), ("write", writes)):
        outcome = await ask(Server(saying(reply)), effect=effect, response_bytes_max=1_024)
        assert (outcome.kind, outcome.error_class) == ("FAILED", expected), outcome


async def test_a_refusal_may_come_with_any_status(ask: Ask) -> None:
    assert ended(await ask(Server(saying(http("403 No", {"refused": "not mine"}))))) == ("REFUSED", None, "not mine")
    assert (await ask(Server(saying(http("413 Large", b""))))).kind == "REFUSED"


async def reset(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """RST instead of a response."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


async def hang_up(_request: Request, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
    return False


async def half(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(http(body=b'{"answer": "x', headers={"Content-Length": "100"}))
    await writer.drain()
    return False


async def half_a_head(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 O")
    await writer.drain()
    return False


@pytest.mark.parametrize("reply", [reset, hang_up, half, half_a_head])
async def test_a_connection_that_is_lost_leaves_the_outcome_of_a_write_unknown(ask: Ask, reply: Reply) -> None:
    outcome = await ask(Server(reply))
    assert (outcome.kind, outcome.error_class) == ("FAILED", "UNREACHABLE"), outcome
    server = Server(reply)
    outcome = await ask(server, effect="write")
    assert (outcome.kind, outcome.error_class) == ("FAILED", "UNKNOWN_OUTCOME"), outcome
    assert len(server.requests) == 1


@pytest.mark.parametrize("effect", ["read", "write"])
async def test_who_is_not_reached_has_done_nothing(ask: Ask, effect: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        kind, error_class, error = ended(await ask(None, url=refusing, effect=effect))
    assert (kind, error_class) == ("FAILED", "UNREACHABLE")
    assert error is not None
    assert "no connection: " in error


async def test_a_name_that_nobody_has_and_a_server_without_tls_are_not_reached(ask: Ask) -> None:
    assert (await ask(None, url="http://nobody.invalid/", effect="write")).error_class == "UNREACHABLE"
    server = Server(hang_up)
    await ask(server)
    assert (await ask(None, url=f"https://127.0.0.1:{server.port}/", effect="write")).error_class == "UNREACHABLE"


async def test_a_connection_that_does_not_come_about_is_given_up_in_time(ask: Ask) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(address)
        outcome = await ask(None, url=f"http://127.0.0.1:{address[1]}/", connect_timeout_ms=200, effect="write")
        for each in fillers:
            each.close()
    assert ended(outcome) == ("FAILED", "UNREACHABLE", "no connection within 200 ms, connect_timeout_ms")


async def test_a_body_without_end_is_read_to_its_bound_and_no_further(ask: Ask) -> None:
    sent = 0

    async def flood(_request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            await writer.drain()
            sent += 65_536

    outcome = await ask(Server(flood), response_bytes_max=100_000)
    assert ended(outcome) == ("FAILED", "INTERNAL", "the response is longer than 100000 bytes, response_bytes_max")
    assert sent < 50_000_000, "what fits into buffers on the way"


async def test_a_call_that_is_cancelled_closes_its_connection(ask: Ask) -> None:
    closed = asyncio.Event()
    began = asyncio.Event()

    async def slow(_request: Request, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> bool:
        began.set()
        assert await reader.read() == b""
        closed.set()
        return False

    call = asyncio.ensure_future(ask(Server(slow)))
    await asyncio.wait_for(began.wait(), SLOW_S)
    call.cancel()
    assert (await call).kind == "FAILED"
    await asyncio.wait_for(closed.wait(), SLOW_S)


async def test_a_kept_connection_that_the_service_has_closed_costs_a_reader_nothing(ask: Ask) -> None:
    """The second request on a connection meets its end: it is sent again on a new one."""

    async def once(request: Request, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if sum(each.connection == request.connection for each in server.requests) > 1:
            return False
        writer.write(http(body={"answer": "x"}))
        await writer.drain()
        return True

    server = Server(once)
    assert (await ask(server, 2)).kind == "COMPLETED"
    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert server.requests[1].body == server.requests[2].body


async def test_a_writer_gets_a_connection_of_its_own_each_time(ask: Ask) -> None:
    server = Server(saying(http(body={"answer": "x"})))
    await ask(server, 3, effect="write")
    assert server.connections == 3


async def test_a_trace_that_is_none_goes_into_no_header(ask: Ask) -> None:
    server = Server(saying(http(body={"answer": "x"})))
    await ask(server)
    fields = Agent.model_validate({"kind": "http", "url": f"http://127.0.0.1:{server.port}/", "effect": "read"})
    caller = Caller(HttpRunner("a", fields, endpoint(fields, {})), writes=False)
    await caller.call([attempt_of(traceparent="x\r\nevil: yes")], EMPTY_CONTEXT)
    await caller.close()
    assert "traceparent" not in server.requests[-1].headers
    assert "evil" not in server.requests[-1].headers


async def test_names_are_looked_up_beside_the_loop(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object) -> list[Any]:
        time.sleep(0.5)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    call = asyncio.ensure_future(ask(None, url="http://slow.example/"))
    await asyncio.sleep(0.05)
    assert not call.done(), "the loop goes on meanwhile"
    assert ended(await call) == ("FAILED", "UNREACHABLE", "no connection: Name or service not known")
