"""Agents that are services: one POST a task over a pool of connections, answered in the form of `agents.wire`.

I/O: HTTP.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from agents.contract import AgentFailed, Context
from agents.dispatches import Attempt
from agents.outcome import COMPLETED, Outcome, OutcomeUnclear, UnusableAnswer
from agents.runners.requests import Requests
from agents.runners.statuses import OK, failure
from agents.targets import Endpoint
from agents.wire import (
    IDEMPOTENCY_KEY,
    MEDIA_TYPE,
    TRACEPARENT,
    Heard,
    outcome_of,
    read_response,
    unheard,
)
from schemas.reasons import ErrorClass
from schemas.topology import Agent
from streams.transport.threads import DaemonPool

# Below the 5 s after which usual servers close a connection that idles: whoever is later finds it closed.
KEEP_ALIVE_S = 4.0
CLOSE_S = 0.5
RESOLVERS_MAX = 4
TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?")


class HttpRunner:
    """Calls one service, with as many connections as calls run.

    Proxies of the environment do not apply, cookies are not kept, and redirects are not followed: a task goes to the
    address that the topology states, and nowhere else. An agent that writes gets a new connection for each call: on one
    that was used before, a request that meets its end may or may not have arrived.
    """

    batched = False

    def __init__(self, agent_id: str, agent: Agent, endpoint: Endpoint, heard: Heard = unheard) -> None:
        self._agent_id, self._agent, self._endpoint, self._heard = agent_id, agent, endpoint, heard
        self._requests = Requests(agent_id, agent)
        self._session: aiohttp.ClientSession | None = None
        self._names = _Resolver(agent_id)

    async def run(self, attempts: Sequence[Attempt], context: Context) -> list[Outcome]:
        (attempt,) = attempts
        task, request_id, body = self._requests.of(attempt, context)
        headers = {IDEMPOTENCY_KEY: task.idempotency_key}
        if task.traceparent is not None and TRACE.fullmatch(task.traceparent):
            headers[TRACEPARENT] = task.traceparent
        return [await self._ask(body, headers, request_id)]

    async def close(self) -> None:
        self._names.end()
        if self._session is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._session.close(), CLOSE_S)

    async def _ask(self, body: bytes, headers: dict[str, str], request_id: str) -> Outcome:
        while True:
            trace = SimpleNamespace(reused=False)
            try:
                return await self._exchange(body, headers, request_id, trace)
            except aiohttp.ConnectionTimeoutError:
                text = f"no connection within {self._agent.connect_timeout_ms} ms, connect_timeout_ms"
                raise AgentFailed(text, ErrorClass.UNREACHABLE) from None
            except aiohttp.ClientConnectorError as error:
                text = f"no connection: {error.os_error.strerror or error.os_error}"
                raise AgentFailed(text, ErrorClass.UNREACHABLE) from None
            except aiohttp.ClientPayloadError as error:
                raise OutcomeUnclear("the connection was lost amid the response", ErrorClass.UNREACHABLE) from error
            except (aiohttp.ClientConnectionError, ConnectionError) as error:
                # One that idled was closed by the service; each such is tried once, so this comes to an end.
                if not trace.reused:
                    text = "the connection was lost before a response came"
                    raise OutcomeUnclear(text, ErrorClass.UNREACHABLE) from error
            except aiohttp.ClientError as error:
                raise OutcomeUnclear(f"the response is not HTTP: {type(error).__name__}") from error

    async def _exchange(self, body: bytes, headers: dict[str, str], request_id: str, trace: SimpleNamespace) -> Outcome:
        posted = self._opened().post(
            self._endpoint.url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=trace
        )
        async with posted as response:
            if response.status in OK:
                said = read_response(await self._read(response))
                if said.get("id", request_id) != request_id:
                    raise UnusableAnswer("the response has the id of another request")
                self._heard(said)
                return outcome_of(said)
            with suppress(UnusableAnswer):  # then the status speaks
                outcome = outcome_of(read_response(await self._read(response)))
                if outcome.kind != COMPLETED:
                    return outcome
            raise failure(response.status, retry_after="Retry-After" in response.headers)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, capped while it comes in. Raises UnusableAnswer."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            response.close()
            raise UnusableAnswer("the response is compressed, which was not asked for")
        parts, size, most = [], 0, self._agent.response_bytes_max
        async for part in response.content.iter_any():
            size += len(part)
            if size > most:
                response.close()
                raise UnusableAnswer(f"the response is longer than {most} bytes, response_bytes_max")
            parts.append(part)
        return b"".join(parts)

    def _opened(self) -> aiohttp.ClientSession:
        """The session: it can only be made in a loop that runs."""
        if self._session is None:
            writes = self._agent.effect == "write"
            tracing = aiohttp.TraceConfig()
            tracing.on_connection_reuseconn.append(_note_reuse)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the host bounds the calls
                    resolver=self._names,
                    # The two exclude each other.
                    **({"force_close": True} if writes else {"keepalive_timeout": KEEP_ALIVE_S}),
                ),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._agent.connect_timeout_ms / 1000),
                headers={
                    "User-Agent": "pointsman",
                    "Content-Type": MEDIA_TYPE,
                    "Accept": MEDIA_TYPE,
                    "Accept-Encoding": "identity",
                    **self._endpoint.headers,
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trace_configs=[tracing],
            )
        return self._session


async def _note_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


class _Resolver(AbstractResolver):
    """Looks names up in threads that never keep the process from ending; the library's own would."""

    def __init__(self, agent_id: str) -> None:
        self._pool = DaemonPool(f"names-{agent_id}", RESOLVERS_MAX)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found: list[Any] = await self._pool.run(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=at[0], port=at[1], family=of, proto=protocol, flags=numeric)
            for of, _, protocol, _, at in found
        ]

    async def close(self) -> None:
        """The connector's; the threads end with the runner."""

    def end(self) -> None:
        self._pool.close()
