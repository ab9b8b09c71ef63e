"""Whether this host still has its inboxes: the broker alone can tell, and only at the moment in which it is asked.

A host that was paused past its session believes that it has; another one is at work on the same dispatches. I/O: what
it is given to ask with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

AGAIN_S = 0.1


class Ownership:
    """Belongs to one event loop. `ask` makes a request that the broker grants to the group as it now is alone."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[bool] | None = None

    async def confirmed(self) -> None:
        """Returns once the broker has said yes to a request that was made after this call; else asks again, for ever.

        Whoever has lost its inboxes is told so at its next poll, and is cancelled here.
        """
        while not await self._shared():  # noqa: ASYNC110  the broker tells nobody by itself
            await asyncio.sleep(AGAIN_S)

    async def _shared(self) -> bool:
        """Those who come before a request is made share it."""
        if self._next is None:
            self._next = asyncio.create_task(self._request())
        return await asyncio.shield(self._next)

    async def _request(self) -> bool:
        async with self._turn:
            self._next = None
            return await self._ask()
