"""The audit of a load run reads on in the topics for what the history holds already."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from console.load import audit as audit_module
from console.load.audit import Auditor
from console.load.pipeline import Pipeline
from loadtest.column_audit import Breach, ColumnAudit
from loadtest.decisions import Verdicts
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


class Topics:
    """What the topics hold, one reading after the other."""

    def __init__(self, reads: list[list[int]]) -> None:
        self._reads, self._now = iter(reads), reads[0]

    def read(self) -> None:
        self._now = next(self._reads, self._now)

    def facts(self, kind: str, *, of_tasks: bool) -> pl.Series:
        assert not of_tasks
        return pl.Series("fact", self._now if kind == "orchestrator_events" else [], pl.UInt64)

    def close(self) -> None:
        pass


def shown(_history: History, kind: str, _only: str) -> pl.Series:
    return pl.Series("fact", FACTS if kind == "orchestrator_events" else [], pl.UInt64)


def auditor_of(monkeypatch: pytest.MonkeyPatch, folder: Path, reads: list[list[int]]) -> Auditor:
    """One of a run whose topics hold so much at each reading."""
    topics = Topics(reads)
    monkeypatch.setattr(audit_module, "History", History)
    monkeypatch.setattr(audit_module, "_shown", shown)
    monkeypatch.setattr(audit_module, "POLL_S", 0.01)
    monkeypatch.setattr(audit_module, "ShardedLog", lambda *_: topics)
    monkeypatch.setattr(Auditor, "_read", lambda _self: topics.read())
    path = Path("topology.yaml")
    return Auditor(Own(Settings(), load_topology(path), path, folder), "s1", 3, {})


def history_of(monkeypatch: pytest.MonkeyPatch, folder: Path, reads: list[list[int]]) -> Any:
    """What the audit says of the history; it waits for two seconds."""
    return auditor_of(monkeypatch, folder, reads)._history(2.0, lambda: None)["orchestrator_events"]


def test_what_was_noted_after_the_topics_were_read_is_no_surplus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert history_of(monkeypatch, tmp_path, [FACTS[:1], FACTS[:2], FACTS]).complete


def test_what_no_topic_ever_holds_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert history_of(monkeypatch, tmp_path, [FACTS[:2]]).surplus == 1


def test_the_history_is_waited_for_however_long_the_topics_took(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    auditor = auditor_of(monkeypatch, tmp_path, [FACTS[:1], FACTS[:2], FACTS[:2], FACTS])
    sound = ColumnAudit(3, 3, 3, 0, 0, 0, 0, {"lost": Breach()})
    log = SimpleNamespace(records=3)
    monkeypatch.setattr(Auditor, "_gone_through", lambda _self: SimpleNamespace(audit=sound, lives=None, log=log))

    def judged(*_: Any) -> Verdicts:
        time.sleep(0.5)
        return Verdicts(1, 1, 1.0, Breach())

    monkeypatch.setattr(audit_module, "judge_decisions", judged)
    assert auditor.audit(0.4, lambda: None, lambda _: None).audit.history["orchestrator_events"].complete
