"""What sums up in tests: deterministic, without a network, and each of the ways in which such code can go wrong."""

from __future__ import annotations

import asyncio
import threading

from agents.builtin.brief import brief
from agents.contract import Span

LET_GO = threading.Event()
"""What `hangs` waits for: a test sets it at its end, so that no thread is left."""


async def brief_later(span: Span) -> str:
    await asyncio.sleep(0.01)
    return brief(span)


def raises(span: Span) -> str:
    raise RuntimeError(f"no model for {len(span.interactions)} interactions")


def leaves(span: Span) -> str:
    raise SystemExit(len(span.interactions))


def hangs(span: Span) -> str:
    LET_GO.wait(60)
    return brief(span)


async def hangs_later(span: Span) -> str:
    await asyncio.sleep(60)
    return brief(span)


def no_text(span: Span) -> object:
    return {"summary": brief(span)}


def nothing(span: Span) -> str:
    return " \n" * len(span.interactions)


def chatty(span: Span) -> str:
    return brief(span) + " and so on" * 10_000


def forgetful(span: Span) -> str:
    return brief(span).splitlines()[0]
