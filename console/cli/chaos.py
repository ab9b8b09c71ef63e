"""`pointsman chaos`: plans played on real processes, and whether the deployment kept its promises.

I/O: processes, Kafka, ClickHouse, files, stdout, stderr.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from console.chaos.plan import SUFFIX, Plan, built_in, parse_plan, read_plan
from console.chaos.report import Outcome, last_line, lines, summed
from console.chaos.run import drop, run
from console.chaos.schedule import schedule
from console.chaos.target import announced, named_pids, run_on, suited
from console.cli.confirm import confirm
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, NotFoundError, UsageError
from console.cli.output import Format, Output
from console.local.interrupts import interruptible
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.nearest import suggest
from streams.transport.admin import check_broker
from streams.transport.garbage import thaw

PLAN_COLUMNS = ("plan", "faults", "seconds", "description")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for. `rate` and `duration_s`: None leaves them to the plan."""

    plan: str
    seed: int = 1
    seeds: int = 1
    rate: float | None = None
    duration_s: float | None = None
    json: Path | None = None
    keep: Path | None = None

    def command(self, seed: int) -> str:
        """What repeats one of the runs."""
        words = ["pointsman", "chaos", "run", self.plan, "--seed", str(seed)]
        words += ["--rate", f"{self.rate:g}"] if self.rate is not None else []
        words += ["--duration", f"{self.duration_s:g}"] if self.duration_s is not None else []
        return shlex.join(words)


def run_chaos(wishes: Wishes, out: Output, *, code: Mapping[str, Sequence[str]] | None = None) -> ExitCode:
    """Plays the plan with each seed, one after the other; FAILED where an invariant broke or an expectation was missed.

    Of a run that failed data and logs are kept. Raises NotFoundError (no such plan), PlanError, ConfigurationError (no
    Java), UnreachableError and ProcessEndedError (the fleet did not come up). `code`: as of `Fleet`.
    """
    name, plan = plan_of(wishes)
    # That brokers go away is what is wanted here: nobody has to be told.
    logging.getLogger("pointsman.kafka").addHandler(logging.NullHandler())
    outcomes: list[Outcome] = []
    with interruptible():
        for seed in range(wishes.seed, wishes.seed + wishes.seeds):
            thaw()  # a run's links are in this process: no evidence of the one before is to be in their way
            outcomes.append(_play(plan, name, seed, wishes, out, code))
            _write(wishes.json, outcomes)
    if len(outcomes) > 1:
        _sum_up(outcomes, out)
    return ExitCode.OK if all(outcome.sound for outcome in outcomes) else ExitCode.FAILED


def run_on_target(
    wishes: Wishes,
    deployment: Deployment,
    pids: Sequence[str],
    *,
    yes: bool,
    out: Output,
    answers: TextIO | None = None,
) -> ExitCode:
    """Plays what can be played of the plan on a deployment that runs, once somebody has agreed; FAILED as `run_chaos`.

    Raises UsageError where nobody agrees, a process is none of pointsman's, or a flag is for a run of its own;
    UnreachableError.
    """
    if wishes.keep is not None or wishes.seeds != 1:
        text = "--target plays one seed, and keeps nothing that --keep could keep."
        raise UsageError(text, code=ErrorCode.FLAGS_CONTRADICT)
    name, plan = plan_of(wishes)
    named = named_pids(pids)
    plan = suited(plan, named)
    settings, topology = deployment.settings, deployment.topology
    check_broker(settings, topology)
    for line in announced(plan, schedule(plan, name, wishes.seed), settings, topology, named):
        out.note(line)
    if not yes:
        _ask(out, answers or sys.stdin)
    logging.getLogger("pointsman.kafka").addHandler(logging.NullHandler())
    command = f"{wishes.command(wishes.seed)} --target"
    with interruptible():
        outcome = run_on(plan, name, wishes.seed, command, settings, topology, named, report=out.note)
    _write(wishes.json, [outcome])
    for line in lines(outcome):
        out.line(line)
    out.line(last_line(outcome))
    return ExitCode.OK if outcome.sound else ExitCode.FAILED


def _ask(out: Output, answers: TextIO) -> None:
    """Raises UsageError unless somebody says yes."""
    nobody = "Nobody can be asked here whether this may be done: read what is said above, then add --yes."
    confirm("Do this?", nobody=nobody, no="Nothing was done.", out=out, answers=answers)


def plan_of(wishes: Wishes) -> tuple[str, Plan]:
    """By name, else by file. Raises NotFoundError, PlanError."""
    texts, path = built_in(), Path(wishes.plan)
    if wishes.plan in texts:
        name, plan = wishes.plan, parse_plan(texts[wishes.plan], wishes.plan)
    elif path.is_file():
        name, plan = path.stem, read_plan(path)
    else:
        text = f"There is no plan {wishes.plan}, and no such file{suggest(wishes.plan, texts)}"
        raise NotFoundError(text, code=ErrorCode.NO_PLAN)
    given = {"rate": wishes.rate, "duration_s": wishes.duration_s}
    return name, plan.model_copy(update={key: value for key, value in given.items() if value is not None})


def list_plans(form: Format, out: Output) -> None:
    """The plans that come with the command."""
    rows = [
        {
            "plan": name,
            "faults": len(plan.faults),
            "seconds": plan.duration_s,
            "rate": plan.rate,
            "delivery": plan.delivery,
            "description": plan.description,
        }
        for name, plan in ((name, parse_plan(text, f"{name}{SUFFIX}")) for name, text in built_in().items())
    ]
    out.records(rows, PLAN_COLUMNS, form)


def _play(
    plan: Plan, name: str, seed: int, wishes: Wishes, out: Output, code: Mapping[str, Sequence[str]] | None
) -> Outcome:
    folder = _folder(wishes.keep, seed)
    try:
        outcome = run(plan, name, seed, folder, wishes.command(seed), report=out.note, code=code)
    except (ConfigurationError, KeyboardInterrupt):
        if wishes.keep is None:
            drop(folder)
        raise
    except Exception:
        out.note(f"data and logs are kept in {folder}; to repeat it: {wishes.command(seed)}")
        raise
    for line in lines(outcome):
        out.line(line)
    out.line(last_line(outcome))
    if not outcome.sound:
        out.note(f"data and logs are kept in {folder}; to repeat it: {outcome.command}")
    elif wishes.keep is None:
        drop(folder)
    return outcome


def _folder(keep: Path | None, seed: int) -> Path:
    """Raises ConfigurationError where it holds something already."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="pointsman-chaos-"))
    folder = keep / f"seed-{seed}"
    if folder.exists() and any(folder.iterdir()):
        text = f"{folder} is not empty: what it holds would be audited too. Name a new folder."
        raise ConfigurationError(text, code=ErrorCode.FOLDER_NOT_EMPTY)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(path: Path | None, outcomes: list[Outcome]) -> None:
    """After each run, so that what was found is not lost with a later one."""
    if path is not None:
        path.write_text(json.dumps(summed(outcomes), indent=2) + "\n")


def _sum_up(outcomes: list[Outcome], out: Output) -> None:
    for line in _sums(outcomes):
        out.line(line)


def _sums(outcomes: list[Outcome]) -> Iterator[str]:
    whole = summed(outcomes)
    failed = [outcome.seed for outcome in outcomes if not outcome.sound]
    p50, p99 = (whole["recovery_s"][key] for key in ("p50", "p99"))
    yield (
        f"chaos: {len(outcomes)} seeds, {whole['faults_injected']['total']} faults, {whole['accepted']} accepted, "
        f"{whole['lost']} lost, {whole['duplicated']} duplicated, history {whole['history_missing']} missing and "
        f"{whole['history_duplicated']} duplicated, recovery p50 {p50} s, p99 {p99} s, "
        + (f"FAILED with seed {', '.join(map(str, failed))}" if failed else "passed")
    )
