"""The audit after a run: the topics in columns, the decisions against the oracle, the history against both.

I/O: Kafka, ClickHouse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, replace

import polars as pl

from console.load.pipeline import Attached, Pipeline
from loadtest.audit_log import Place
from loadtest.column_audit import ColumnAudit, Kept, Tally, kept, lined, overtaken
from loadtest.column_log import IDENTITY, SCHEMAS, DeadReader, Starts, hashed, read_batches
from loadtest.decisions import Lives, Verdicts, judge_decisions
from loadtest.measures import Measured, Meter
from loadtest.sharded_log import Parts, ShardedLog
from loadtest.workload import DIGITS
from schemas.codec import Codec
from schemas.registry import FileRegistry
from streams.history.queries import History

POLL_S = 1.0
SINGLE = ("agent_events", "orchestrator_events")
CHUNK = 1_000_000  # ids that are made at a time


@dataclass(frozen=True)
class Audited:
    """What the topics hold, and whether it is what it has to be."""

    log: Measured
    audit: ColumnAudit
    verdicts: Verdicts
    findings: tuple[str, ...]
    took_s: float


def keys_of(run: str, tasks: int, first: int = 0) -> pl.DataFrame:
    """The ids of the tasks of a run from the first one to that number, and their hashes."""
    numbers = pl.DataFrame({"number": pl.int_range(first, tasks, eager=True)})
    ids = pl.format("{}-{}", pl.lit(run), pl.col("number").cast(pl.String).str.zfill(DIGITS))
    named = numbers.select(tenant=pl.lit("default"), task_id=ids)
    return named.select("task_id", key=hashed("tenant", "task_id"))


def hashes_of(run: str, tasks: int) -> pl.Series:
    """Those of `keys_of`: the ids of millions would take more room than all else."""
    starts = range(0, tasks, CHUNK) or [0]
    return pl.concat([keys_of(run, min(start + CHUNK, tasks), start)["key"] for start in starts], rechunk=True)


@dataclass(frozen=True)
class _Read:
    """What the parts of the log, gone through once, say of it."""

    audit: ColumnAudit
    lives: Lives
    log: Measured


class Auditor:
    """Reads on from where it stopped, until all is in its place or the time is over. Its files are in the pipeline's
    folder, as long as it audits."""

    def __init__(self, pipeline: Pipeline, run: str, sent: int, starts: Starts) -> None:
        self._pipeline, self._run = pipeline, run
        self._sent = hashes_of(run, sent)
        topology = pipeline.topology
        codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        only = self._sent if isinstance(pipeline, Attached) else None
        self._log, self._graves = ShardedLog(topology.topics(), codec, pipeline.folder, sent, only), DeadReader()
        self._next: dict[tuple[str, int], int] = dict(starts)

    def audit(self, timeout_s: float, check: Callable[[], None], note: Callable[[str], None]) -> Audited:
        """Waits for results, and then for the history, so long each.

        Raises TransportError, UnreachableError, QueryError, and what `check` raises.
        """
        with closing(self._log):
            return self._audit(timeout_s, check, note)

    def _audit(self, timeout_s: float, check: Callable[[], None], note: Callable[[str], None]) -> Audited:
        began, until = time.monotonic(), time.monotonic() + timeout_s
        while True:
            self._read()
            read = self._gone_through()
            if read.audit.breaches["lost"].count == 0 or time.monotonic() > until:
                break
            check()
            time.sleep(POLL_S)
        note(f"read {read.log.records} records; judging the decisions")
        topology, settings = self._pipeline.topology, self._pipeline.settings
        verdicts = judge_decisions(settings, topology, read.lives, self._log)
        note(f"judged {verdicts.judged} of {verdicts.kinds} kinds of lives; reading the history")
        audit = replace(
            read.audit,
            breaches={**read.audit.breaches, "wrong_decisions": verdicts.breach},
            history=self._history(timeout_s, check),
        )
        findings = [*audit.findings(self._names(audit)), *(f"wrong: {why}" for why in verdicts.why)]
        return Audited(read.log, audit, verdicts, tuple(findings), time.monotonic() - began)

    def _read(self) -> None:
        settings, topology = self._pipeline.settings, self._pipeline.topology
        self._next |= read_batches(settings, topology, self._log.topics, self._log.take, self._next)
        dead = [topology.topics().dead]
        self._next |= read_batches(settings, topology, dead, self._graves.take, self._next, with_headers=True)

    def _gone_through(self) -> _Read:
        """The log, part by part, so that one of them is in memory."""
        tally, lives, meter, lines = Tally(), Lives(), Meter(), self._log.lines()
        sent = Parts(self._sent, self._log.shards)
        for number, part in enumerate(self._log.parts()):
            tally.add(part, sent[number])
            lives.add(part)
            meter.add(part)
            lines.add("lines", lined(part))
        out_of_order = overtaken(lines.frame("lines", number) for number in range(lines.shards))
        return _Read(tally.audit(out_of_order, *self._unburied()), lives, meter.measured())

    def _unburied(self) -> tuple[AbstractSet[Place], AbstractSet[Place]]:
        """What is no record, and what was put away; on a deployment that others use nobody knows whose those are."""
        nothing = frozenset[Place]()
        if isinstance(self._pipeline, Attached):
            return nothing, nothing
        return self._log.invalid, self._graves.places

    def _history(self, timeout_s: float, check: Callable[[], None]) -> Mapping[str, Kept]:
        # It has a time of its own: of ten minutes at rate the topics alone take some.
        settings, until = self._pipeline.settings, time.monotonic() + timeout_s
        # On a ClickHouse that others use, too, only this run's tasks are asked for.
        only = "" if self._pipeline.own_history else f"{self._run}-"
        history = History(settings.clickhouse, *settings.clickhouse_login)
        try:
            while True:
                found = {
                    kind: kept(self._log.facts(kind, of_tasks=bool(only)), _shown(history, kind, only))
                    for kind in SCHEMAS
                }
                if not only:
                    found["dead_letters"] = kept(_buried(self._graves.places), _shown(history, "dead_letters", only))
                if all(each.complete for each in found.values()) or time.monotonic() > until:
                    return found
                check()
                time.sleep(POLL_S)
                if any(each.surplus for each in found.values()):
                    # What comes too late for its task is noted when it comes, after the last result, too.
                    self._read()
        finally:
            history.close()

    def _names(self, audit: ColumnAudit) -> dict[int, str]:
        wanted = sorted({key for breach in audit.breaches.values() for key in breach.keys})
        rows = self._sent.is_in(wanted).arg_true().to_list() if wanted else []
        named = [keys_of(self._run, row + 1, row) for row in rows]
        return {each["key"][0]: each["task_id"][0] for each in named}


def _buried(dead: AbstractSet[Place]) -> pl.Series:
    """The places of the records that were put away, as facts."""
    schema = {"topic": pl.String, "partition": pl.Int64, "offset": pl.Int64}
    places = pl.DataFrame(sorted(dead), schema=schema, orient="row")
    return places.select(fact=hashed(*places.columns))["fact"]


def _shown(history: History, kind: str, only: str) -> pl.Series:
    """Hashes of the facts that the history shows, computed as those of the log."""
    found = [pl.Series("fact", [], pl.UInt64)]
    with history.fact_columns(kind, only) as reader:
        for batch in reader:
            table = pl.DataFrame(pl.from_arrow(batch))
            fact = pl.col("event_id").hash(IDENTITY) if kind in SINGLE else hashed(*table.columns)
            found.append(table.select(fact=fact)["fact"])
    return pl.concat(found, rechunk=True)
