"""Which engine handle runs a request's statement: one of its own, or the one that its session has set up before.

I/O: the engine.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from streams.history.engine import DEFAULTS, Engine, EngineError, Handle, fault
from streams.history.exchange import Request

SESSIONS_MAX = 256
# Only these leave something behind that a later request of the session must see.
_KEEPS = re.compile(rb"\s*(?:SET\b|USE\b|(?:CREATE|REPLACE|CREATE\s+OR\s+REPLACE|ATTACH)\s+TEMPORARY\b)", re.IGNORECASE)


@dataclass(slots=True)
class _Session:
    handle: Handle
    expires_at: float
    timeout_s: float


class Sessions:
    """Handles by session id, at most `SESSIONS_MAX`; the one idle for longest gives way. Safe between threads.

    A handle is kept from the first statement on that changes its session; until then each request gets a fresh one,
    which is cheaper than putting back what the request has set.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    @contextmanager
    def handle(self, request: Request, sql: bytes) -> Iterator[Handle]:
        """A handle with the request's database and settings. Raises EngineError."""
        session = self._session(request, keep=bool(_KEEPS.match(sql)))
        if session is None:
            with self._engine.handle(request.settings, request.database) as handle:
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
        """Forget all sessions."""
        with self._lock:
            for session in self._sessions.values():
                session.handle.close()
            self._sessions.clear()


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
