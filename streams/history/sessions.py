"""Which engine handle runs a request's statement: the one that its session has set up before, or else one as new.

I/O: the engine.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from streams.history.engine import DEFAULTS, Engine, EngineError, Handle, fault
from streams.history.exchange import Request
from streams.history.statements import is_query

SESSIONS_MAX = 256
READY_MAX = 8
"""Handles that wait for a query with the same settings; to open one and to set it up takes as long as a short query."""
# Only these leave something behind that a later request of the session must see.
_KEEPS = re.compile(rb"\s*(?:SET\b|USE\b|(?:CREATE|REPLACE|CREATE\s+OR\s+REPLACE|ATTACH)\s+TEMPORARY\b)", re.IGNORECASE)


_Placing = tuple[str, tuple[tuple[str, str], ...]]
"""What a request asks its handle to be: database and settings."""


@dataclass(slots=True)
class _Session:
    handle: Handle
    expires_at: float
    timeout_s: float


class Sessions:
    """Handles by session id, at most `SESSIONS_MAX`; the one idle for longest gives way. Safe between threads.

    A handle is kept from the first statement on that changes its session; until then each request gets one that no
    other request's settings have touched, which is cheaper than putting back what they were. It is a fresh one, but for
    queries: they leave a handle as it was, so the next with the same database and settings takes it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._ready: OrderedDict[_Placing, list[Handle]] = OrderedDict()
        self._closed = False

    @contextmanager
    def handle(self, request: Request, sql: bytes) -> Iterator[Handle]:
        """A handle with the request's database and settings. Raises EngineError."""
        session = self._session(request, keep=bool(_KEEPS.match(sql)))
        if session is None:
            with self._reused(request) if is_query(sql) else self._engine.handle(*_asked(request)) as handle:
                yield handle
            return
        handle = session.handle
        if not handle.lock.acquire(blocking=False):
            raise fault(373, "SESSION_IS_LOCKED", f"Session {request.session_id} is locked by a concurrent client")
        try:
            with _placed(handle, request):
                yield handle
        finally:
            session.expires_at = time.monotonic() + session.timeout_s
            handle.lock.release()

    @contextmanager
    def _reused(self, request: Request) -> Iterator[Handle]:
        """For a query. One that fails takes its handle with it."""
        placing = request.database, tuple(sorted(request.settings.items()))
        handle = self._take_ready(placing)
        fresh = handle is None
        handle = handle or self._engine.open()
        with ExitStack() as held:
            held.callback(handle.close)
            if fresh:
                handle.place(*_asked(request))
            yield handle
            if self._put_ready(placing, handle):
                held.pop_all()

    def _take_ready(self, placing: _Placing) -> Handle | None:
        with self._lock:
            waiting = self._ready.get(placing)
            if not waiting:
                return None
            handle = waiting.pop()
            if not waiting:
                del self._ready[placing]
            return handle

    def _put_ready(self, placing: _Placing, handle: Handle) -> bool:
        """Whether it is kept. Those of settings that nobody has asked for since longest give way."""
        with self._lock:
            if self._closed:
                return False
            self._ready.setdefault(placing, []).append(handle)
            self._ready.move_to_end(placing)
            if sum(map(len, self._ready.values())) > READY_MAX:
                oldest, waiting = next(iter(self._ready.items()))
                waiting.pop(0).close()
                if not waiting:
                    del self._ready[oldest]
            return True

    def _session(self, request: Request, *, keep: bool) -> _Session | None:
        if not request.session_id:
            return None
        with self._lock:
            self._expire()
            session = self._sessions.get(request.session_id)
            if session is None and keep:
                self._make_room()
                handle = self._engine.open()
                handle.apply(DEFAULTS)
                session = self._sessions[request.session_id] = _Session(handle, 0.0, 0.0)
            if session is not None:
                session.timeout_s = request.session_timeout_s
                session.expires_at = time.monotonic() + request.session_timeout_s
            return session

    def _expire(self) -> None:
        now = time.monotonic()
        for key in [key for key, session in self._sessions.items() if session.expires_at < now]:
            self._drop(key)

    def _make_room(self) -> None:
        idle = sorted(self._sessions, key=lambda key: self._sessions[key].expires_at)
        while len(self._sessions) >= SESSIONS_MAX and idle:
            self._drop(idle.pop(0))
        if len(self._sessions) >= SESSIONS_MAX:
            raise fault(202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"{SESSIONS_MAX} sessions are at work")

    def _drop(self, key: str) -> None:
        """Forget a session, unless a statement of it is running."""
        handle = self._sessions[key].handle
        if handle.lock.acquire(blocking=False):
            del self._sessions[key]
            handle.close()
            handle.lock.release()

    def close(self) -> None:
        """Forget all sessions, and close what waits."""
        with self._lock:
            self._closed = True
            for waiting in self._ready.values():
                for handle in waiting:
                    handle.close()
            self._ready.clear()
            for session in self._sessions.values():
                session.handle.close()
            self._sessions.clear()


def _asked(request: Request) -> tuple[dict[str, str], str]:
    return request.settings, request.database


@contextmanager
def _placed(handle: Handle, request: Request) -> Iterator[None]:
    """The session's handle with the request's own database and settings, for this request only."""
    before = handle.database() if request.database else ""
    try:
        if request.database:
            handle.use(request.database)
        if request.settings:
            with handle.scoped(request.settings):
                yield
        else:
            yield
    finally:
        if before:
            with suppress(EngineError):  # the statement may have dropped it
                handle.use(before)
