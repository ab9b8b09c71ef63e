"""Whether this host still has its inboxes: the broker alone can tell, and only at the moment in which it is asked.

A host that was paused past its session believes that it has; another one is at work on the same dispatches. I/O: what
it is given to ask with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

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


class Questions:
    """Asked on an event loop, answered in the thread that `submit` hands a call to: between two polls, or inside one,
    while inboxes are given up. `answer` is the broker's, and is good for all who have asked by then.
    """

    def __init__(self, submit: Callable[[Callable[[], None]], object], answer: Callable[[], bool]) -> None:
        self._submit, self._ask_broker = submit, answer
        self._asked: deque[asyncio.Future[bool]] = deque()

    async def ask(self) -> bool:
        """Raises what `answer` raises."""
        question: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.append(question)
        self._submit(self.answer)
        return await question

    def answer(self) -> None:
        """In the other thread, whenever it can."""
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        if not asked:
            return
        loop = asked[0].get_loop()
        try:
            loop.call_soon_threadsafe(_tell, asked, self._ask_broker())
        except Exception as error:  # noqa: BLE001  for who asked
            loop.call_soon_threadsafe(_tell, asked, error)


def _tell(asked: Iterable[asyncio.Future[bool]], answer: bool | Exception) -> None:
    for question in asked:
        if question.done():  # cancelled: nobody waits any more
            continue
        if isinstance(answer, Exception):
            question.set_exception(answer)
        else:
            question.set_result(answer)
