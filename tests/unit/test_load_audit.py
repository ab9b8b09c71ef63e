"""The audit of a load run reads on in the topics for what the history holds already."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from console.load import audit as audit_module
from console.load.audit import Auditor
from console.load.pipeline import Pipeline
from loadtest.column_log import ColumnLog
from schemas.settings import Settings
from schemas.topology import load_topology

FACTS = [1, 2, 3]


class Own(Pipeline):
    """One that nobody else uses."""

    @property
    def own_history(self) -> bool:
        return True


class History:
    """A ClickHouse that is not asked."""

    def __init__(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


def log_of(facts: list[int]) -> ColumnLog:
    frame = pl.DataFrame({"fact": facts}, schema={"fact": pl.UInt64})
    return ColumnLog({"orchestrator_events": frame}, (), {}, frozenset(), frozenset())


def shown(_history: History, kind: str, _only: str) -> pl.Series:
    if kind == "dead_letters":
        return pl.Series("fact", [], pl.UInt64)
    return pl.Series("fact", FACTS, pl.UInt64)


def history_of(monkeypatch: pytest.MonkeyPatch, reads: list[list[int]]) -> Any:
    """What the audit says of the history, where the topics hold so much at each reading; it waits for two seconds."""
    monkeypatch.setattr(audit_module, "History", History)
    monkeypatch.setattr(audit_module, "_shown", shown)
    monkeypatch.setattr(audit_module, "POLL_S", 0.01)
    logs = iter([*map(log_of, reads), *[log_of(reads[-1])] * 1_000])
    monkeypatch.setattr(Auditor, "_read", lambda _self: next(logs))
    path = Path("topology.yaml")
    auditor = Auditor(Own(Settings(), load_topology(path), path, Path()), "s1", 3, {})
    return auditor._history(next(logs), time.monotonic() + 2, lambda: None)["orchestrator_events"]


def test_what_was_noted_after_the_topics_were_read_is_no_surplus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert history_of(monkeypatch, [FACTS[:1], FACTS[:2], FACTS]).complete


def test_what_no_topic_ever_holds_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert history_of(monkeypatch, [FACTS[:2]]).surplus == 1
