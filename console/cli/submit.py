"""`pointsman submit`: tasks onto Kafka, and, where asked, their results back.

I/O: Kafka, stdout, stderr.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from console.cli.deployment import Deployment
from console.cli.failures import InvalidInputError
from console.cli.feed import COLUMNS, brief, row_of
from console.cli.output import Format, Output
from console.cli.progress import Progress
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError
from schemas.nearest import suggest
from streams.client import Client, InvalidTasksError, Prepared, Result, Results, Submission, TaskFault
from streams.client.client import BATCH_ROWS, batches

Key = tuple[str, str]  # tenant, task id


class NoResultError(PointsmanError):
    """Some results did not come in time."""

    error_code = ErrorCode.NO_RESULT

    def __init__(self, missing: Sequence[Key], asked: int, waited_s: float) -> None:
        which = ", ".join(task_id for _tenant, task_id in missing[:3]) + (", ..." if len(missing) > 3 else "")  # noqa: PLR2004  as many as fit a line
        super().__init__(
            f"{len(missing)} of {asked} results did not come within {waited_s:g} s: {which}. Are worker and host up, "
            "and was the task not answered before? `pointsman task show ID` tells where it is."
        )


def submit_tasks(
    deployment: Deployment, tasks: Sequence[Submission], *, wait_s: float | None, form: Format, out: Output
) -> None:
    """Produces the tasks; prints their ids, or waits at most `wait_s` and prints their results.

    Raises InvalidInputError (a task above the size limit, an unknown intent), UnreachableError, DeliveryError, and
    NoResultError after printing the results that came.
    """
    with Client.of(deployment.settings, deployment.topology, "pointsman-submit") as client:
        prepared = _prepared(client, tasks, deployment.topology.routes)
        client.connect()  # the producer introduces itself to the broker while the ends of the results topic are asked
        results = client.results() if wait_s is not None else None
        _send(client, prepared, len(tasks), out)
        if results is None or wait_s is None:
            _print_ids(tasks, form, out)
            return
        out.note(f"submitted {len(tasks)}; waiting {wait_s:g} s at most")
        _print_results(results, tasks, wait_s, form, out)


def _prepared(client: Client, tasks: Sequence[Submission], routes: Collection[str]) -> list[Prepared]:
    """Raises InvalidInputError for tasks that would be refused: what cannot be sent is told before anything is."""
    try:
        _refuse_unknown_intents(tasks, routes)
        return list(map(client.prepare, batches(tasks)))
    except InvalidTasksError as error:
        raise InvalidInputError(f"Nothing was submitted.\n{error}", code=ErrorCode.TASK_REFUSED) from None


def _refuse_unknown_intents(tasks: Sequence[Submission], routes: Collection[str]) -> None:
    faults = [
        TaskFault(row, task.task_id, f"there is no route {task.intent}{suggest(task.intent, routes)}")
        for row, task in enumerate(tasks)
        if task.intent is not None and task.intent not in routes
    ]
    if faults:
        raise InvalidTasksError(faults)


def _send(client: Client, batches: Sequence[Prepared], count: int, out: Output) -> None:
    with Progress(out, "submitted", count) as progress:
        for number, batch in enumerate(batches):
            client.hand_over(batch)
            progress.at(number * BATCH_ROWS)
        client.send([])


def _print_ids(tasks: Sequence[Submission], form: Format, out: Output) -> None:
    if form is Format.TABLE:
        for task in tasks:
            out.line(task.task_id)
        out.note(f"submitted {len(tasks)}; `pointsman results --follow` shows results, `pointsman task show ID` a task")
    else:
        out.records([{"tenant": each.tenant, "task_id": each.task_id} for each in tasks], (), form)


def _print_results(results: Results, tasks: Sequence[Submission], wait_s: float, form: Format, out: Output) -> None:
    awaited = dict.fromkeys((task.tenant, task.task_id) for task in tasks)
    found: dict[Key, Result] = {}
    # Rows that come down the same screen are progress enough.
    with Progress(out, "results", len(awaited), shown=not (form is Format.JSONL and out.fancy)) as progress:
        deadline = time.monotonic() + wait_s
        while len(found) < len(awaited) and time.monotonic() < deadline:
            for result in results.poll():
                if result.key in awaited:
                    found[result.key] = result
                    if form is Format.JSONL:
                        out.json_line(row_of(result))
            progress.at(len(found))
    ours = [found[key] for key in awaited if key in found]
    if form is Format.JSON:
        out.json(list(map(row_of, ours)))
    elif form is Format.TABLE and ours:
        out.records(map(brief, ours), COLUMNS, form)
    if missing := [key for key in awaited if key not in found]:
        raise NoResultError(missing, len(awaited), wait_s)
