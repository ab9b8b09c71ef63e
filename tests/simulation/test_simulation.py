"""The simulation as CI plays it: a good hundred seeds of the product, a few of each broken build, and no seed played
differently the second time.

In processes of their own, as their user starts them: there the order of sets is fixed, so that what fails here fails
again from the command that the failure prints.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.faults import PROFILES
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenario import draw

SEEDS = 120
PLAYED_S = 2_350
"""At most, on a busy machine: where the seeds that are noted have gone stale, others are looked for."""
FAILED_ONCE = (1340, 5757)
"""Of the many that CI does not play."""


def simulate(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Ends all of its processes where it takes too long: those that play seeds would go on, and take the cores of the
    tests that follow."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    with subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as playing:
        try:
            out, err = playing.communicate(timeout=PLAYED_S)
        except subprocess.TimeoutExpired:
            os.killpg(playing.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, playing.returncode, out, err)


@pytest.mark.timeout(2_400)
def test_whatever_a_seed_brings_the_invariants_hold(repository: Path) -> None:
    ran = simulate(repository, "--seeds", str(SEEDS), "--jobs", "2")
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[-1] == f"simulation: {SEEDS} seeds, 0 failures"


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_a_seed_that_failed_once_does_so_no_more(repository: Path, seed: int) -> None:
    ran = simulate(repository, "--seed", str(seed))
    assert ran.returncode == 0, ran.stdout


def test_the_seeds_that_ci_plays_bring_everything_that_can_go_wrong() -> None:
    scenarios = [draw(seed) for seed in range(1, SEEDS + 1)]
    assert {scenario.profile for scenario in scenarios} == set(PROFILES)
    assert len({(fault.act, fault.point) for scenario in scenarios for fault in scenario.faults}) > 20


def test_a_seed_is_played_twice_alike(repository: Path) -> None:
    first, second = (simulate(repository, "--seed", "23", "--trace").stdout for _ in range(2))
    assert len(first.splitlines()) > 50
    assert first == second


@pytest.mark.timeout(2_400)
def test_each_broken_build_is_caught_and_says_how_to_see_it_again(repository: Path) -> None:
    ran = simulate(repository, "--jobs", "2", "--mutants")
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines()[-1] == f"mutants: {len(MUTANTS)} broken builds, 0 survived"


def test_what_it_takes_to_catch_a_broken_build_is_measured(repository: Path) -> None:
    words = ("commits", "past", "unfinished")
    ran = simulate(repository, "--seeds", "20", "--catches", "2", "--mutants", *words)
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    assert "s a catch (2 of " in line
    assert line.endswith("a host commits past unfinished work")
