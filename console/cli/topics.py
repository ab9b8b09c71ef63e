"""`pointsman topics plan` and `apply`: what the deployment's topics need, shown first and then done.

I/O: Kafka, standard input, stdout, stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import TextIO

from console.cli.confirm import confirm
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.output import Format, Output, Row
from streams.transport.admin import MIGRATE, await_leaders
from streams.transport.topic_admin import TopicAdmin
from streams.transport.topic_plan import Change, Plan, Step, plan_topics

# Wide enough for what is decided about a topic, narrow enough for a terminal of 80 cells; JSON has all of it.
COLUMNS = ("topic", "action", "partitions", "retention", "what")
DONE_COLUMNS = ("topic", "action", "outcome", "why")


def planned(deployment: Deployment, admin: TopicAdmin) -> Plan:
    """Raises UnreachableError, and ConfigurationError where this user may not see the topics' properties."""
    topics = deployment.topology.topics()
    told = topics.of_any_agent(admin.listed())
    return plan_topics(topics, admin.cluster(spec.name for spec in told.specs()))


def show_plan(deployment: Deployment, *, check: bool, form: Format, out: Output) -> ExitCode:
    """Prints the plan; INVALID where it cannot be carried out, with `check` FAILED where there is anything to do."""
    plan = planned(deployment, TopicAdmin(deployment.settings, deployment.topology))
    print_plan(plan, form, out)
    if plan.of("refused"):
        return ExitCode.INVALID
    return ExitCode.FAILED if check and plan.of("create", "change") else ExitCode.OK


def apply_plan(
    deployment: Deployment, *, yes: bool, form: Format, out: Output, answers: TextIO | None = None
) -> ExitCode:
    """Plans again, shows it, asks where a person can answer, and does it; FAILED where a topic could not be done.

    Nothing is done where anything is refused. Raises UsageError where nobody can be asked and `yes` is not given.
    """
    admin = TopicAdmin(deployment.settings, deployment.topology)
    plan = planned(deployment, admin)
    if plan.of("refused"):
        print_plan(plan, form, out)
        return ExitCode.INVALID
    todo = plan.of("create", "change")
    if todo and not yes:
        _ask(plan, out, answers or sys.stdin)
    for warning in plan.warnings:
        out.note(f"warning: {warning}")
    failed = _carry_out(admin, todo)
    specs = [step.spec for step in plan.own if step.spec is not None and failed.get(step.topic) is None]
    if todo or form is not Format.TABLE:
        out.records([_done_row(step, failed) for step in todo or plan.own], DONE_COLUMNS, form)
    await_leaders(deployment.settings, specs, deployment.topology)
    changed = {step.topic: step.changes for step in todo if step.action == "change" and failed[step.topic] is None}
    if not admin.await_changes(changed):
        out.note("Not every broker has heard of the changes yet: `pointsman topics plan` may still show them.")
    wrong = sum(why is not None for why in failed.values())
    out.note(_summary(plan, wrong))
    return ExitCode.FAILED if wrong else ExitCode.OK


def _ask(plan: Plan, out: Output, answers: TextIO) -> None:
    """Raises UsageError unless somebody says yes."""
    confirm(
        "Apply this?",
        nobody="Nobody can be asked here: look at `pointsman topics plan`, then `pointsman topics apply --yes`.",
        no="Nothing was changed.",
        out=out,
        answers=answers,
        show=lambda: print_plan(plan, Format.TABLE, Output(out.err, out.err)),
    )


def _carry_out(admin: TopicAdmin, todo: Iterable[Step]) -> dict[str, str | None]:
    """What went wrong with each topic, or None."""
    steps = list(todo)
    made = admin.create([step.spec for step in steps if step.action == "create" and step.spec is not None])
    changed = admin.change({step.topic: step.changes for step in steps if step.action == "change"})
    return {**made, **changed}


def print_plan(plan: Plan, form: Format, out: Output) -> None:
    """Steps and totals on stdout; warnings, refusals and the next command on stderr.

    A person sees what differs; a program sees every topic.
    """
    rows = [_row(plan, step) for step in plan.steps]
    totals = _totals(plan)
    if form is Format.JSON:
        out.json({"topics": rows, "totals": totals, "warnings": list(plan.warnings)})
    elif form is Format.JSONL:
        out.records(rows, COLUMNS, form)
    else:
        if different := [_shown(plan, step) for step in plan.steps if step.action != "unchanged"]:
            out.records(different, COLUMNS, form)
        out.line(_totals_line(totals))
    for warning in plan.warnings:
        out.note(f"warning: {warning}")
    if left := plan.of("left over"):
        out.note(
            f"{len(left)} left over: their agents left the topology. They are kept, and recovery and history still "
            "read them."
        )
    if plan.of("refused"):
        out.note(f"refused: {MIGRATE}")
    elif plan.of("create", "change"):
        out.note("`pointsman topics apply` does this.")


def _row(plan: Plan, step: Step) -> Row:
    spec = step.spec
    return {
        "topic": step.topic,
        "action": step.action,
        "record": spec.record if spec else None,
        "partitions": step.partitions,
        "replication": plan.replication(step),
        "retention_ms": spec.retention_ms if spec else None,
        "cleanup": spec.cleanup if spec else None,
        "min_insync_replicas": spec.min_insync_replicas if spec else None,
        "changes": [change._asdict() for change in step.changes],
        "why": step.why or None,
    }


def _shown(plan: Plan, step: Step) -> Row:
    kept = step.spec.retention_ms if step.spec else None
    what = step.why or ", ".join(map(_told, step.changes))
    shown = {"retention": None if kept is None else duration(kept), "what": what or None}
    return {**_row(plan, step), **shown}


def _told(change: Change) -> str:
    return f"{change.key}: {change.now or 'not set'} -> {change.wanted}"


def _totals(plan: Plan) -> dict[str, object]:
    specs = [step.spec for step in plan.own if step.spec is not None]
    kept = [spec.retention_ms for spec in specs if spec.cleanup == "delete"]
    return {
        "topics": len(specs),
        "partitions": sum(spec.partitions for spec in specs),
        "replicas": plan.replicas(),
        "retention_ms_min": min(kept),
        "retention_ms_max": max(kept),
        **{
            action.replace(" ", "_"): len(plan.of(action))
            for action in ("create", "change", "unchanged", "refused", "left over")
        },
    }


def _totals_line(totals: dict[str, object]) -> str:
    copies = totals["replicas"]
    replicas = "replicas as the broker decides" if copies is None else f"{copies} replicas"
    kept = f"{duration(_number(totals['retention_ms_min']))} to {duration(_number(totals['retention_ms_max']))}"
    counts = ", ".join(f"{totals[key]} {label}" for key, label in _COUNTED)
    return f"{totals['topics']} topics, {totals['partitions']} partitions, {replicas}, kept {kept}: {counts}"


_COUNTED = (
    ("create", "to create"),
    ("change", "to change"),
    ("unchanged", "unchanged"),
    ("refused", "refused"),
    ("left_over", "left over"),
)


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _done_row(step: Step, failed: dict[str, str | None]) -> Row:
    why = failed.get(step.topic)
    done = "failed" if why else "done" if step.topic in failed else "unchanged"
    return {"topic": step.topic, "action": step.action, "outcome": done, "why": why}


def _summary(plan: Plan, wrong: int) -> str:
    todo = len(plan.of("create", "change"))
    if wrong:
        return f"{wrong} of {todo} failed; the others are done. Mend it and apply again: what is done stays as it is."
    return f"{todo} done." if todo else f"Nothing to do: all {len(plan.own)} topics are as the topology wants them."


def duration(value_ms: int) -> str:
    """Milliseconds for people: `7 d`, `36 h`, `90 s`; exact."""
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        unit_ms = int(length.total_seconds()) * 1000
        if value_ms and value_ms % unit_ms == 0:
            return f"{value_ms // unit_ms} {unit}"
    return f"{value_ms / 1000:g} s"
