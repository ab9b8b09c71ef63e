"""`python -m tests.simulation`: plays seeds, on the product or on broken builds of it, and says how to play one again.

I/O: stdout, and one process for each job.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import structlog

from streams.transport.garbage import calm_collector
from tests.simulation.faults import PROFILES
from tests.simulation.mutant import WITHIN, Mutant, applied
from tests.simulation.mutants import MUTANTS
from tests.simulation.run import Report, play

CHUNK = 20
PROGRESS_S = 10.0
STORY_MAX = 80
NOTED = Path(__file__).with_name("caught.json")
"""By the name of a broken build, a seed that caught it: tried first, for a search takes most of the time."""


def main() -> int:
    given = _parser().parse_args()
    # Sets of text have an order of their own in each process, unless told otherwise: a seed must be played twice alike.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    quiet()
    seeds = [given.seed] if given.seed is not None else list(range(given.first, given.first + given.seeds))
    if given.mutants is not None and given.catches:
        return _measure_mutants(_chosen(given.mutants), seeds, given.catches)
    if given.mutants is not None:
        return _judge_mutants(_chosen(given.mutants), given.jobs)
    progress, failures, points = Progress(len(seeds)), 0, 0
    for done, report in enumerate(reports(seeds, given.profile, given.jobs, traced=given.trace), 1):
        failures, points = failures + bool(report.breaches), points + report.points
        if report.breaches or given.trace:
            print_report(report, given.profile)
        progress.show(done, failures, points)
    print(f"simulation: {len(seeds)} seeds, {failures} failures")
    return 1 if failures else 0


class Progress:
    """A line on stderr every few seconds, and when all is done."""

    def __init__(self, total: int) -> None:
        self._total, self._began = total, time.monotonic()
        self._shown_at = self._began

    def show(self, done: int, failures: int, points: int) -> None:
        now = time.monotonic()
        if now - self._shown_at >= PROGRESS_S or done == self._total:
            self._shown_at = now
            rate = done / max(now - self._began, 1e-6) * 60
            places = f"{points // done} places a seed at which a process can be struck"
            print(f"{done} of {self._total} seeds, {failures} failures, {rate:.0f} a minute, {places}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Plays seeded runs of the product.")
    parser.add_argument("--seed", type=int, default=None, help="play this seed alone")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to play")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes to play in")
    parser.add_argument("--profile", choices=list(PROFILES), default=None, help="of this kind of run alone")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument(
        "--mutants",
        nargs="*",
        metavar="WORDS",
        help="play broken builds until they are caught: those whose names hold these words, or all",
    )
    parser.add_argument(
        "--catches",
        type=int,
        default=0,
        help="with --mutants: play seeds of each until so many have caught it, and say what one catch takes",
    )
    return parser


def quiet() -> None:
    """The processes' own log lines are no part of the report."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    # What a killed process had begun and will never end.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    calm_collector()


def reports(seeds: Sequence[int], profile: str | None, jobs: int, *, traced: bool) -> Iterator[Report]:
    """In the order of the seeds."""
    if jobs == 1:
        for seed in seeds:
            yield play(seed, profile, traced=traced)
        return
    chunks = [(seeds[start : start + CHUNK], profile, traced) for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(jobs, initializer=quiet) as pool:
        for part in pool.map(_play_all, *zip(*chunks, strict=True)):
            yield from part


def _play_all(seeds: Sequence[int], profile: str | None, traced: bool) -> list[Report]:
    return [play(seed, profile, traced=traced) for seed in seeds]


def print_report(report: Report, profile: str | None = None) -> None:
    print(f"seed {report.seed}: {report.profile}, {', '.join(report.slots)}")
    for line in (*report.faults, *(report.trace or story(report, profile))):
        print(f"  {line}")
    for breach in report.breaches:
        print(f"  BREACH {breach}")
    if report.breaches:
        flags = f"--profile {profile} " if profile else ""
        print(f"  again: python -m tests.simulation --seed {report.seed} {flags}--trace", flush=True)


def story(report: Report, profile: str | None) -> list[str]:
    """Of a run that broke something: what became of the processes, and of the tasks that it is about."""
    about = {word for breach in report.breaches for word in re.findall(r"\bt\d+\b", breach.what)}
    told = re.compile("|".join([*LIVES, *(rf"\b{task}\b" for task in sorted(about))]))
    lines = [line for line in play(report.seed, profile, traced=True).trace if told.search(line)]
    left = len(lines) - STORY_MAX
    return lines if left <= 0 else [*lines[:STORY_MAX], f"... and {left} lines more"]


LIVES = ("KILLED", "STOPPED", "RESUMED", "started", "expired", "generation", "DOWN", "UP", "ended", "ABORTED")


def caught(name: str) -> tuple[int, Report] | None:
    """A seed that catches a broken build, with its report: the noted one, where it still does, or the first of all.

    None, where none does.
    """
    mutant, seeds = MUTANTS[name], range(1, WITHIN + 1)
    noted = json.loads(NOTED.read_text("utf-8")).get(name)
    with applied(mutant):
        for seed in (*([noted] if noted in seeds else ()), *seeds):
            report = play(seed, mutant.profile)
            if mutant.codes & {breach.code for breach in report.breaches}:
                return seed, report
    return None


def _tried(chosen: Mapping[str, Mutant], jobs: int) -> Iterator[tuple[Mutant, tuple[int, Report] | None]]:
    """Each with what caught it, in their order."""
    if jobs == 1:
        yield from ((mutant, caught(name)) for name, mutant in chosen.items())
        return
    with ProcessPoolExecutor(jobs, initializer=quiet) as pool:
        yield from zip(chosen.values(), pool.map(caught, chosen), strict=True)


def _chosen(words: Sequence[str]) -> Mapping[str, Mutant]:
    return {name: mutant for name, mutant in MUTANTS.items() if all(word in name for word in words)}


def effort(mutant: Mutant, seeds: Sequence[int], catches: int) -> tuple[int, int, float]:
    """How many seeds were played, how many of them caught it, and their CPU time in seconds.

    What a suite is worth is what it finds in a given time: seeds that cost less may find less (docs/simulation.md).
    """
    began, played, found = time.process_time(), 0, 0
    with applied(mutant):
        for seed in seeds:
            played += 1
            found += bool(mutant.codes & {breach.code for breach in play(seed, mutant.profile).breaches})
            if found == catches:
                break
    return played, found, time.process_time() - began


def _measure_mutants(chosen: Mapping[str, Mutant], seeds: Sequence[int], catches: int) -> int:
    for name, mutant in chosen.items():
        played, found, spent_s = effort(mutant, seeds, catches)
        each = f"{played / found:6.1f} seeds, {spent_s / found:7.2f} s a catch" if found else "never caught"
        print(f"  {each} ({found} of {played}, {1000 * spent_s / played:.0f} ms a seed)  {name}", flush=True)
    return 0


def _judge_mutants(chosen: Mapping[str, Mutant], jobs: int) -> int:
    survivors = 0
    for name, (mutant, found) in zip(chosen, _tried(chosen, jobs), strict=True):
        if found is None:
            survivors += 1
            print(f"  SURVIVES {name}: not caught within {WITHIN} seeds of {mutant.profile}")
        else:
            print(f"  caught by seed {found[0]:>3}  {name}: {found[1].breaches[0]}"[:160], flush=True)
    print(f"mutants: {len(chosen)} broken builds, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
