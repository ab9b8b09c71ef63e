"""What a run, or several, came to: for people a page, for programs one object.

I/O: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from console.chaos.evidence import Evidence
from console.chaos.plan import Plan
from console.chaos.recovery import Injected, overlapping, percentiles, recovery_s
from console.chaos.schedule import Due
from console.chaos.verdict import EXAMPLES_MAX, Said, Verdict, duplicated, extra_copies, judge, lost
from console.chaos.watch import Series, Usage

JSON_EXAMPLES_MAX = 100
THIRDS = 3
SAMPLES_MIN = 9


class Sender(Protocol):
    """The part of a load that is reported."""

    @property
    def sent(self) -> int: ...

    @property
    def retried(self) -> int: ...

    @property
    def behind_s(self) -> float: ...


class Recovery(NamedTuple):
    """How long a fault took to recover from, and which others came before it had."""

    of: Injected
    seconds: float | None
    beside: list[str]


@dataclass
class Outcome:
    """One run. `events_per_second`: what its logs hold, over the time for which tasks were sent; `unmet`: expectations
    of the plan that it did not keep to."""

    plan: str
    seed: int
    command: str
    injected: list[Injected]
    skipped: list[tuple[Due, str]]
    accepted: int
    events_per_second: float
    lost: int
    duplicated: int
    extra_copies: int
    history_missing: int
    history_duplicated: int
    recoveries: list[Recovery]
    latency_ms: tuple[float | None, float | None]
    results_by_status: Mapping[str, int]
    verdicts: list[Verdict]
    ended: int
    behind_s: float
    usage: dict[tuple[str, int], Series] = field(default_factory=dict)
    unmet: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.said is Said.BROKEN]

    @property
    def sound(self) -> bool:
        return not self.broken and not self.unmet

    @property
    def recovery_s(self) -> tuple[float | None, float | None]:
        return percentiles(each.seconds for each in self.recoveries)


def outcome_of(
    plan: Plan,
    name: str,
    seed: int,
    command: str,
    evidence: Evidence,
    usage: Usage,
    skipped: list[tuple[Due, str]],
    sender: Sender,
) -> Outcome:
    """The verdicts and figures of a run."""
    every, results = evidence.injected, evidence.results
    recoveries = [
        Recovery(
            each, recovery_s(each, results, every), [str(other.due) for other in overlapping(each, results, every)]
        )
        for each in every
    ]
    parts = evidence.report.parts
    latencies = evidence.results.latencies_ms
    p50, p99 = np.percentile(latencies, [50, 99]).tolist() if len(latencies) else (None, None)
    outcome = Outcome(
        plan=name,
        seed=seed,
        command=command,
        injected=evidence.injected,
        skipped=skipped,
        accepted=len({each[:2] for each in evidence.log.submissions} | evidence.acknowledged),
        events_per_second=evidence.log.events() * plan.rate / sender.sent if sender.sent else 0.0,
        lost=len(lost(evidence)),
        duplicated=len(duplicated(evidence)),
        extra_copies=len(extra_copies(evidence)),
        history_missing=sum(len(part.missing) for part in parts if part.name != "dead topic"),
        history_duplicated=sum(len(part.repeated) + len(part.surplus) for part in parts if part.name != "dead topic"),
        recoveries=recoveries,
        latency_ms=(p50, p99),
        results_by_status=dict(evidence.results.by_status.most_common()),
        verdicts=judge(evidence),
        ended=len(evidence.ended),
        behind_s=sender.behind_s,
        usage=usage.series,
    )
    outcome.unmet = list(_unmet(plan, outcome))
    return outcome


def _unmet(plan: Plan, outcome: Outcome) -> Iterator[str]:
    expect = plan.expect
    if len(outcome.injected) < expect.faults_min:
        yield f"{len(outcome.injected)} faults were injected, {expect.faults_min} were to be"
    p99 = outcome.recovery_s[1]
    if expect.recovery_p99_s is not None and p99 is not None and p99 > expect.recovery_p99_s:
        yield f"recovery took {p99:.1f} s (p99), {expect.recovery_p99_s:g} s were expected"
    for (name, _pid), series in outcome.usage.items():
        memory, files = growth(series.rss_mib), growth([float(count) for count in series.files])
        if expect.rss_growth_share is not None and memory is not None and memory[1] > expect.rss_growth_share:
            yield f"the {name} grew by {memory[1]:.0%} to {memory[0]:.0f} MiB"
        if expect.files_growth is not None and files is not None and files[2] > expect.files_growth:
            yield f"the {name} has {files[2]:.0f} more open files than it had"


def growth(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Median of the last third, and by which share and by how much it lies above that of the middle third.

    The first third is warm-up. None for a life too short to tell.
    """
    if len(values) < SAMPLES_MIN:
        return None
    third = len(values) // THIRDS
    middle, last = (float(np.median(part)) for part in (values[third : 2 * third], values[2 * third :]))
    return last, (last - middle) / middle if middle else 0.0, last - middle


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The object of `--json`; its fields are promised in docs/output.md."""
    p50, p99 = outcome.recovery_s
    return {
        "plan": outcome.plan,
        "seed": outcome.seed,
        "command": outcome.command,
        "passed": outcome.sound,
        "faults_injected": {
            "total": len(outcome.injected),
            "by_kind": dict(sorted(Counter(each.kind for each in outcome.injected).items())),
        },
        "faults_skipped": [{"fault": str(due), "why": why} for due, why in outcome.skipped],
        "accepted": outcome.accepted,
        "events_per_second": round(outcome.events_per_second, 1),
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "extra_copies": outcome.extra_copies,
        "history_missing": outcome.history_missing,
        "history_duplicated": outcome.history_duplicated,
        "recovery_s": {"p50": p50, "p99": p99},
        "results_by_status": outcome.results_by_status,
        "latency_ms": {"p50": outcome.latency_ms[0], "p99": outcome.latency_ms[1]},
        "invariants": [
            {
                "name": verdict.name,
                "means": verdict.means,
                "verdict": verdict.said.value,
                "found": list(verdict.found[:JSON_EXAMPLES_MAX]),
                "found_total": len(verdict.found) if verdict.said is Said.BROKEN else 0,
            }
            for verdict in outcome.verdicts
        ],
        "unmet": outcome.unmet,
        "faults": [
            {
                "fault": each.kind,
                "on": each.due.on,
                "injected_ms": each.injected_ms,
                "healed_ms": each.healed_ms,
                "recovery_s": seconds,
                "overlapping": beside,
            }
            for each, seconds, beside in outcome.recoveries
        ],
        "usage": [
            {"process": name, "pid": pid, "at_s": series.at_s, "rss_mib": series.rss_mib, "files": series.files}
            for (name, pid), series in outcome.usage.items()
        ],
    }


def summed(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Several runs as one object: the same fields, summed; `runs` has each."""
    runs = [as_json(outcome) for outcome in outcomes]
    p50, p99 = percentiles(each.seconds for outcome in outcomes for each in outcome.recoveries)
    kinds = Counter(each.kind for outcome in outcomes for each in outcome.injected)
    worst = {"holds": 1, "not asked": 0, "broken": 2}
    verdicts: dict[str, dict[str, Any]] = {}
    for each in (each for run in runs for each in run["invariants"]):
        before = verdicts.get(each["name"])
        if before is None or worst[each["verdict"]] > worst[before["verdict"]]:
            verdicts[each["name"]] = each
    sums = ("accepted", "lost", "duplicated", "extra_copies", "history_missing", "history_duplicated")
    return {
        "plan": outcomes[0].plan,
        "seed": outcomes[0].seed,
        "seeds": len(outcomes),
        "command": outcomes[0].command + (f" --seeds {len(outcomes)}" if len(outcomes) > 1 else ""),
        "passed": all(outcome.sound for outcome in outcomes),
        "faults_injected": {"total": sum(kinds.values()), "by_kind": dict(sorted(kinds.items()))},
        **{name: sum(run[name] for run in runs) for name in sums},
        "recovery_s": {"p50": p50, "p99": p99},
        "invariants": list(verdicts.values()),
        "runs": runs,
    }


def lines(outcome: Outcome) -> Iterator[str]:
    """For people."""
    p50, p99 = outcome.recovery_s
    kinds = Counter(each.kind for each in outcome.injected)
    yield f"plan {outcome.plan}, seed {outcome.seed}"
    yield f"  faults     {len(outcome.injected)}: {', '.join(f'{kind} {n}' for kind, n in sorted(kinds.items()))}"
    for due, why in outcome.skipped:
        yield f"  skipped    {due}: {why}"
    yield (
        f"  tasks      {outcome.accepted} accepted, {outcome.lost} lost, {outcome.duplicated} duplicated"
        + (f", {outcome.extra_copies} extra copies" if outcome.extra_copies else "")
        + f"; {outcome.events_per_second:.0f} events a second"
    )
    yield f"  results    {', '.join(f'{n} {status}' for status, n in outcome.results_by_status.items()) or 'none'}"
    yield f"  history    {outcome.history_missing} missing, {outcome.history_duplicated} duplicated"
    yield f"  recovery   p50 {_seconds(p50)}, p99 {_seconds(p99)}; slowest: {_slowest(outcome)}"
    low, high = outcome.latency_ms
    if low is not None and high is not None:
        yield f"  latency    p50 {low:.0f} ms, p99 {high:.0f} ms, from the intended send to the result"
    yield from _usage_lines(outcome)
    held = [verdict.name for verdict in outcome.verdicts if verdict.said is Said.HOLDS]
    left = [verdict.name for verdict in outcome.verdicts if verdict.said is Said.NOT_ASKED]
    yield f"  invariants {len(held)} hold: {', '.join(held)}" + (f"; not asked: {', '.join(left)}" if left else "")
    for verdict in outcome.broken:
        yield f"  BROKEN     {verdict.name}: {verdict.means}"
        yield from (f"             {each}" for each in verdict.found[:EXAMPLES_MAX])
        if len(verdict.found) > EXAMPLES_MAX:
            yield f"             ... and {len(verdict.found) - EXAMPLES_MAX} more"
    yield from (f"  UNMET      {each}" for each in outcome.unmet)


def last_line(outcome: Outcome) -> str:
    """As a run ends."""
    how = "passed" if outcome.sound else f"FAILED ({', '.join([*(v.name for v in outcome.broken), *outcome.unmet])})"
    return (
        f"chaos: {outcome.plan} seed {outcome.seed}: {len(outcome.injected)} faults, {outcome.accepted} accepted, "
        f"{outcome.lost} lost, {outcome.duplicated} duplicated, {how}"
    )


def _usage_lines(outcome: Outcome) -> Iterator[str]:
    for (name, _pid), series in sorted(outcome.usage.items()):
        memory, files = growth(series.rss_mib), growth([float(count) for count in series.files])
        if memory is not None and files is not None:
            yield f"  {name:10} {memory[0]:.0f} MiB ({memory[1]:+.1%}), open files {files[2]:+.0f}"


def _slowest(outcome: Outcome) -> str:
    measured = [(each.seconds, each) for each in outcome.recoveries if each.seconds is not None]
    if not measured:
        return "none was measured"
    seconds, slowest = max(measured, key=lambda pair: pair[0])
    more = f"; before it was over there came {', '.join(slowest.beside)}" if slowest.beside else ""
    return f"{slowest.of.kind} on {slowest.of.due.on}, {seconds:.1f} s{more}"


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
