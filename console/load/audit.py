"""The audit after a run: the topics in columns, the decisions against the oracle, the history against both.

I/O: Kafka, ClickHouse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from console.load.pipeline import Attached, Pipeline
from loadtest.column_audit import ColumnAudit, Kept, audit_columns, kept, of_run
from loadtest.column_log import IDENTITY, ColumnLog, ColumnReader, DeadReader, Starts, hashed, read_batches
from loadtest.decisions import Verdicts, judge_decisions
from loadtest.workload import DIGITS
from schemas.codec import Codec
from schemas.registry import FileRegistry
from streams.history.queries import History

POLL_S = 1.0
SINGLE = ("agent_events", "orchestrator_events")


@dataclass(frozen=True)
class Audited:
    """What the topics hold, and whether it is what it has to be."""

    log: ColumnLog
    audit: ColumnAudit
    verdicts: Verdicts
    findings: tuple[str, ...]
    took_s: float


def keys_of(run: str, tasks: int) -> pl.DataFrame:
    """The ids of the first so many tasks of a run, and their hashes."""
    numbers = pl.DataFrame({"number": pl.int_range(tasks, eager=True)})
    ids = pl.format("{}-{}", pl.lit(run), pl.col("number").cast(pl.String).str.zfill(DIGITS))
    named = numbers.select(tenant=pl.lit("default"), task_id=ids)
    return named.select("task_id", key=hashed("tenant", "task_id"))


class Auditor:
    """Reads on from where it stopped, until all is in its place or the time is over."""

    def __init__(self, pipeline: Pipeline, run: str, sent: int, starts: Starts) -> None:
        self._pipeline, self._run = pipeline, run
        self._sent = keys_of(run, sent)
        topology = pipeline.topology
        codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        self._reader, self._graves = ColumnReader(topology.topics(), codec), DeadReader()
        self._first: Starts = dict(starts)
        self._next: dict[tuple[str, int], int] = dict(starts)

    def audit(self, timeout_s: float, check: Callable[[], None], note: Callable[[str], None]) -> Audited:
        """Raises TransportError, UnreachableError, QueryError, and what `check` raises."""
        began, until = time.monotonic(), time.monotonic() + timeout_s
        while True:
            log = self._read()
            audit = audit_columns(log, self._sent["key"])
            if audit.breaches["lost"].count == 0 or time.monotonic() > until:
                break
            check()
            time.sleep(POLL_S)
        note(f"read {log.records} records; judging the decisions")
        topology, settings = self._pipeline.topology, self._pipeline.settings
        verdicts = judge_decisions(settings, topology, log, starts=self._first)
        note(f"judged {verdicts.judged} of {verdicts.kinds} kinds of lives; reading the history")
        audit = replace(
            audit,
            breaches={**audit.breaches, "wrong_decisions": verdicts.breach},
            history=self._history(log, until, check),
        )
        findings = [*audit.findings(self._names(audit)), *(f"wrong: {why}" for why in verdicts.why)]
        return Audited(log, audit, verdicts, tuple(findings), time.monotonic() - began)

    def _read(self) -> ColumnLog:
        settings, topology = self._pipeline.settings, self._pipeline.topology
        self._next |= read_batches(settings, topology, self._reader.topics, self._reader.take, self._next)
        dead = [topology.topics().dead]
        self._next |= read_batches(settings, topology, dead, self._graves.take, self._next, with_headers=True)
        log = self._reader.log(self._graves.places)
        return of_run(log, self._sent["key"]) if isinstance(self._pipeline, Attached) else log

    def _history(self, log: ColumnLog, until: float, check: Callable[[], None]) -> Mapping[str, Kept]:
        settings = self._pipeline.settings
        # On a ClickHouse that others use, too, only this run's tasks are asked for.
        only = "" if self._pipeline.own_history else f"{self._run}-"
        history = History(settings.clickhouse, *settings.clickhouse_login)
        try:
            while True:
                found = {
                    kind: kept(_of_tasks(frame) if only else frame, _shown(history, kind, only))
                    for kind, frame in log.frames.items()
                }
                if not only:
                    found["dead_letters"] = kept(_buried(log), _shown(history, "dead_letters", only))
                if all(each.complete for each in found.values()) or time.monotonic() > until:
                    return found
                check()
                time.sleep(POLL_S)
                if any(each.surplus for each in found.values()):
                    # What comes too late for its task is noted when it comes, after the last result, too.
                    log = self._read()
        finally:
            history.close()

    def _names(self, audit: ColumnAudit) -> dict[int, str]:
        wanted = {key for breach in audit.breaches.values() for key in breach.keys}
        named = self._sent.filter(pl.col("key").is_in(list(wanted)))
        return dict(zip(named["key"].to_list(), named["task_id"].to_list(), strict=True))


def _of_tasks(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("key").is_not_null())


def _buried(log: ColumnLog) -> pl.DataFrame:
    """The places of the records that were put away, as facts."""
    schema = {"topic": pl.String, "partition": pl.Int64, "offset": pl.Int64}
    places = pl.DataFrame(sorted(log.dead), schema=schema, orient="row")
    return places.select(fact=hashed(*places.columns))


def _shown(history: History, kind: str, only: str) -> pl.Series:
    """Hashes of the facts that the history shows, computed as those of the log."""
    table = pl.DataFrame(pl.from_arrow(history.fact_columns(kind, only)))
    if kind in SINGLE:
        return table["event_id"].hash(IDENTITY)
    return table.select(fact=hashed(*table.columns))["fact"]
