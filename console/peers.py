"""Our worker beside its peers: the same records, the same decisions, and what each core-second brings.

`make bench-peers` writes loadtest/results/peers.json and peers.md. What is measured, and how to read it:
loadtest/peers/README.md. I/O: processes, Kafka, /proc, files, stdout.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console.cli.output import Output
from console.local.broker import LocalBroker
from loadtest.peers import cpu, report
from loadtest.peers.contestants import CONTESTANTS, OURS, ROOT, Contestant, NotInstalledError
from loadtest.peers.report import Entry, Round
from loadtest.peers.run import Bench
from schemas.settings import Settings
from schemas.topology import load_topology

RESULTS = ROOT / "loadtest" / "results"


def install(names: Sequence[str], out: Output) -> tuple[list[Entry], list[Contestant]]:
    """Who takes part, and the entries of all that were asked for."""
    entries, present = [], []
    for contestant in map(CONTESTANTS.__getitem__, names):
        out.note(f"setup: {contestant.name}")
        skipped = None
        try:
            contestant.setup()
        except NotInstalledError as error:
            skipped = str(error)
            out.note(f"{contestant.name} is skipped: {skipped}")
        else:
            present.append(contestant)
        entries.append(Entry(contestant.name, contestant.what, contestant.version(), skipped))
    return entries, present


def rounds(bench: Bench, contestants: Sequence[Contestant], count: int, out: Output) -> Iterator[Round]:
    """Interleaved, each round beginning with another peer, so that nobody always runs beside the same noise."""
    for number in range(count):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            result = bench.run(contestant, number)
            out.note(f"round {number + 1} of {count}, {contestant.name}: {_said(result)}")
            yield result


def _said(result: Round) -> str:
    if result.fault is not None:
        return f"VOID: {result.fault}"
    cost = f"{result.cpu_s / result.records * report.US:.1f} CPU-us a record, {result.seconds:.1f} s"
    return f"{cost}, others had {result.foreign_share:.0%} of the cores{', BUSY' if result.is_busy else ''}"


def machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // cpu.MIB
    return {
        "cores": cpu.CORES,
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def measure(folder: Path, given: argparse.Namespace, contestants: Sequence[Contestant], out: Output) -> list[Round]:
    """All rounds, on a broker of their own."""
    with LocalBroker(folder / "broker") as broker:
        settings = Settings.resolve({"broker": broker.address}, {})
        topology = load_topology(given.topology)
        bench = Bench(settings, broker.pid or 0, topology, folder / "runs", given.warm_up_records, given.records)
        out.note(f"{given.records} records are made, {given.warm_up_records} more to warm up")
        bench.prepare()
        gc.freeze()  # what is kept for the whole run is not looked through again and again
        return list(rounds(bench, contestants, given.rounds, out))


def facts(given: argparse.Namespace, measured: Sequence[Round]) -> dict[str, Any]:
    """Of the run as a whole."""
    loads = [each.load_average for each in measured] or [0.0]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": given.records,
        "warm_up_records": given.warm_up_records,
        "rounds": given.rounds,
        "load_average_min": min(loads),
        "load_average_max": max(loads),
        "foreign_share_max": report.FOREIGN_SHARE_MAX,
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m console.peers", description=__doc__)
    parser.add_argument("--records", type=int, default=200_000, help="measured, of each peer in each round")
    parser.add_argument("--warm-up-records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", choices=sorted(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--topology", type=Path, default=ROOT / "topology.yaml")
    given = parser.parse_args(arguments)
    out = Output()
    entries, present = install(given.peers, out)
    with tempfile.TemporaryDirectory(prefix="pointsman-peers-") as folder:
        measured = measure(Path(folder), given, present, out)
    lines = report.lines(entries, measured, OURS)
    found = {"run": facts(given, measured), "machine": machine(), "peers": lines}
    page = report.markdown(found)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "peers.json").write_text(json.dumps(found, indent=2) + "\n")
    (given.results / "peers.md").write_text(page)
    out.line(page)
    return 1 if any(line["void"] for line in lines) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
