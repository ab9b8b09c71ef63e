"""Figures of several rounds become one line for each peer: medians, ratios, and what is void.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

US = 1_000_000
FOREIGN_SHARE_MAX = 0.10
"""A round is void when others than peer, broker and judge had more than this share of the machine's cores."""


@dataclass(frozen=True)
class Round:
    """One run of one peer. CPU seconds are those between the opening of the gate and the last output.

    `fault` says what was wrong with what it wrote, or that it did not end; None where it decided as the oracle does.
    """

    peer: str
    records: int
    seconds: float
    cpu_s: float
    broker_cpu_s: float
    rss_mib: float
    foreign_share: float
    load_average: float
    fault: str | None = None

    @property
    def is_busy(self) -> bool:
        return self.foreign_share > FOREIGN_SHARE_MAX


@dataclass(frozen=True)
class Entry:
    """A peer in the report: what it is, and why it was skipped if it was."""

    name: str
    what: str
    version: str
    skipped: str | None = None


def lines(entries: Sequence[Entry], rounds: Iterable[Round], ours: str) -> list[dict[str, Any]]:
    """One line for each entry, `ours` being the name of whom the others are compared with."""
    by_peer: dict[str, list[Round]] = {entry.name: [] for entry in entries}
    for each in rounds:
        by_peer[each.peer].append(each)
    found = [_line(entry, by_peer[entry.name]) for entry in entries]
    base = next((line for line in found if line["name"] == ours), None)
    for line in found:
        line["ratio_ours_to_peer"] = None if base is None else _ratio(base, line)
    return found


def _line(entry: Entry, rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians of the rounds in which the machine was quiet; of all rounds where it never was, and void then."""
    quiet = [each for each in rounds if not each.is_busy]
    faults = [each.fault for each in rounds if each.fault is not None]
    reason = None
    if entry.skipped is not None:
        reason = f"skipped: {entry.skipped}"
    elif faults:
        reason = faults[0]
    elif not rounds:
        reason = "it was not run"
    elif not quiet:
        least = min(each.foreign_share for each in rounds)
        reason = f"busy machine: others had {least:.0%} of its cores or more, {FOREIGN_SHARE_MAX:.0%} are allowed"
    # A peer that decides otherwise has no figures, for it did other work. One on a busy machine has provisional ones.
    counted = [] if faults else quiet or list(rounds)
    line: dict[str, Any] = {"name": entry.name, "what": entry.what, "version": entry.version}
    line |= dict.fromkeys(FIGURES)
    if counted:
        line |= {name: round(median(map(figure, counted)), 2) for name, figure in FIGURES.items()}
    return line | {
        "rounds": len(counted),
        "rounds_busy": len(rounds) - len(quiet),
        "void": reason is not None,
        "void_reason": reason,
    }


FIGURES = {
    "records_per_core_second": lambda each: each.records / each.cpu_s,
    "records_per_second": lambda each: each.records / each.seconds,
    "cpu_us_per_record": lambda each: each.cpu_s / each.records * US,
    "broker_cpu_us_per_record": lambda each: each.broker_cpu_s / each.records * US,
    "cores": lambda each: each.cpu_s / each.seconds,
    "rss_mib": lambda each: each.rss_mib,
}


def _ratio(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> float | None:
    """Our records per core-second over the peer's; None where either has no figures."""
    mine, other = ours["records_per_core_second"], peer["records_per_core_second"]
    return None if not mine or not other else round(mine / other, 2)


COLUMNS = (
    ("records/core-s", "records_per_core_second", "{:,.0f}"),
    ("CPU-us/record", "cpu_us_per_record", "{:.1f}"),
    ("broker CPU-us/record", "broker_cpu_us_per_record", "{:.1f}"),
    ("records/s", "records_per_second", "{:,.0f}"),
    ("cores", "cores", "{:.2f}"),
    ("MiB", "rss_mib", "{:,.0f}"),
    ("ours to it", "ratio_ours_to_peer", "{:.2f}x"),
)


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a page: one table, what is void, and where it was measured."""
    head = ["peer", "version", *(title for title, _, _ in COLUMNS)]
    rows = [["---"] * len(head)]
    for line in report["peers"]:
        cells = [f"{line['name']}: {line['what']}", line["version"]]
        cells += ["" if line[key] is None else shape.format(line[key]) for _, key, shape in COLUMNS]
        rows.append([*cells[:1], *cells[1:]] if not line["void"] else [f"*{cells[0]}* (void)", *cells[1:]])
    table = "\n".join(f"| {' | '.join(row)} |" for row in [head, *rows])
    void = "\n".join(f"- {line['name']}: {line['void_reason']}" for line in report["peers"] if line["void"])
    machine, run = report["machine"], report["run"]
    facts = (
        f"{run['records']:,} records a round after {run['warm_up_records']:,} to warm up, {run['rounds']} rounds, "
        f"medians; {machine['cores']} cores ({machine['cpu']}), load average before the rounds "
        f"{run['load_average_min']:.1f} to {run['load_average_max']:.1f}; {run['at']}."
    )
    parts = ["# Peers, measured", "Written by `make bench-peers`; what is measured: loadtest/peers/README.md.", facts]
    return "\n\n".join([*parts, table, *([f"Void:\n\n{void}"] if void else [])]) + "\n"
