"""What ends a host whose rebalance callback hears nothing from its event loop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agents.tenure import Tenure
from streams.transport.clients import TransportError


async def test_a_host_that_is_kept_from_its_work_says_so() -> None:
    for_ever = asyncio.Event()
    tenure: Any = SimpleNamespace(_loop=asyncio.get_running_loop())
    with pytest.raises(TransportError, match=r"kept from its work for 0\.05 s"):
        await asyncio.to_thread(Tenure._ask, tenure, for_ever.wait(), 0.05)
    assert await asyncio.to_thread(Tenure._ask, tenure, asyncio.sleep(0, "done"), 60.0) == "done"
