"""`pointsman demo`: the whole pipeline for half a minute, real tasks through it, and an audit of what became of them.

I/O: processes, Kafka, ClickHouse, files, stdout, stderr.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from agents.registry import resolve
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.history import opened
from console.cli.output import Output
from console.cli.progress import Progress
from console.demo.fleet import with_examples
from console.demo.report import print_report
from console.demo.workload import Key, plan, tasks
from console.local.interrupts import interruptible
from console.local.ports import Ports
from console.local.services import PIPELINE
from console.local.supervisor import Endpoints, Supervisor
from loadtest.audit import audit_at_rest
from loadtest.audit_log import Log
from loadtest.auditor import Report
from schemas.codec import Codec
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, PointsmanError
from schemas.registry import FileRegistry
from streams.client import Client, Result, Results
from streams.history.queries import History
from streams.transport.admin import check_broker, delete_topics

RESULTS_TIMEOUT_S = 60.0
HISTORY_TIMEOUT_S = 60.0
# A steady trickle, so that the times from submission to decision are not those of a queue.
SENDS_PER_BURST, BURST_S = 10, 0.1


def run_demo(deployment: Deployment, *, own_broker: bool, keep: Path | None, out: Output) -> ExitCode:
    """OK when every accepted task has exactly one result and the history is complete; FAILED when not.

    Raises ConfigurationError (no Java, no jars), UnreachableError, ProcessEndedError (a process died). After a failure
    data and logs are kept.
    """
    resolve(deployment.topology)  # a typo in an agent is told now, and not by the end of a log
    folder = _folder(keep)
    try:
        with interruptible():
            report = _run(deployment, folder, own_broker=own_broker, out=out)
    except (ConfigurationError, KeyboardInterrupt):
        _drop(folder, keep)
        raise
    except Exception:
        out.note(f"data and logs are kept in {folder}")
        raise
    if report.sound:
        _drop(folder, keep)
    else:
        out.note(f"data and logs are kept in {folder}")
    out.line(f"demo: {report.summary}")
    return ExitCode.OK if report.sound else ExitCode.FAILED


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="pointsman-demo-"))
    if keep.exists() and any(keep.iterdir()):
        text = f"{keep} is not empty: what it holds would be audited too. Name a new folder."
        raise ConfigurationError(text, code=ErrorCode.FOLDER_NOT_EMPTY)
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()


def _drop(folder: Path, keep: Path | None) -> None:
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)


def _run(deployment: Deployment, folder: Path, *, own_broker: bool, out: Output) -> Report:
    """Starts everything, shows it, and stops everything."""
    if not own_broker:
        check_broker(deployment.settings, deployment.topology)
    deployment = with_examples(deployment, folder, out.note)
    if not own_broker:
        deployment = _apart(deployment, folder)
    supervisor = Supervisor(
        deployment.topology_path.read_bytes(),
        deployment.topology,
        folder,
        deployment.settings,
        own_broker=own_broker,
        usual=Ports(),
        services=PIPELINE,
        short_lived=True,
        report=out.note,
    )
    try:
        with supervisor:
            endpoints = supervisor.start()
            return _show(_as_served(deployment, endpoints, own_broker=own_broker), supervisor, out)
    finally:
        if not own_broker:
            _delete_topics(deployment, out)


def _apart(deployment: Deployment, folder: Path) -> Deployment:
    """The same deployment under a topic prefix that nobody else has: what is on that broker is not ours to touch."""
    prefix = f"{deployment.topology.prefix}demo-{token_hex(4)}."
    topology = deployment.topology.model_copy(update={"prefix": prefix})
    path = folder / "topology.yaml"
    path.write_text(topology.model_dump_json(indent=2))  # JSON is YAML
    return replace(deployment, topology=topology, topology_path=path)


def _delete_topics(deployment: Deployment, out: Output) -> None:
    names = [spec.name for spec in deployment.topology.topics().specs()]
    try:
        delete_topics(deployment.settings, names, deployment.topology)
    except PointsmanError as error:
        out.note(f"topics of the demo, {deployment.topology.prefix}*, are left behind: {error}")


def _as_served(deployment: Deployment, at: Endpoints, *, own_broker: bool) -> Deployment:
    """With the addresses of what was started; credentials for other services do not count there."""
    ours: dict[str, object] = {"clickhouse": at.clickhouse, "clickhouse_user": "default", "clickhouse_password": ""}
    if own_broker:
        ours |= {"broker": at.broker, "kafka": {}}
    given = {name: getattr(deployment.settings, name) for name in type(deployment.settings).model_fields}
    return replace(deployment, settings=type(deployment.settings)(**{**given, **ours}))


def _show(deployment: Deployment, supervisor: Supervisor, out: Output) -> Report:
    client = Client.of(deployment.settings, deployment.topology, "pointsman-demo")
    with client, opened(deployment.settings) as history:
        feed = client.results(start="beginning")
        accepted = _submit(client, deployment.topology.limits.record_bytes_max, out)
        results = _await_results(feed, accepted, supervisor, out)
        log, report = _audit(deployment, history, supervisor, out)
        print_report(results, log, history, out)
    out.line()
    for finding in report.findings():
        out.line(f"FOUND: {finding}")
    return report


def _submit(client: Client, record_bytes_max: int, out: Output) -> set[Key]:
    """Sends the whole plan; gives the tasks that are due a result."""
    sends = plan(tasks(), client, Codec(FileRegistry.load(), record_bytes_max))
    accepted, strays, began = set[Key](), 0, time.monotonic()
    for number, send in enumerate(sends, 1):
        began = time.monotonic() if number == 1 else began  # the first one loads the encoder
        client.hand_over(send.record)
        if send.task is None:
            strays += 1
        else:
            accepted.add(send.task)
        if number % SENDS_PER_BURST == 0:
            time.sleep(max(0.0, began + number / SENDS_PER_BURST * BURST_S - time.monotonic()))
    client.send([])
    took = time.monotonic() - began
    again = number - len(accepted) - strays
    out.note(
        f"submitted {len(accepted)} tasks in {took:.1f} s, {again} of them twice; and {strays} records that are no task"
    )
    return accepted


def _await_results(feed: Results, accepted: set[Key], supervisor: Supervisor, out: Output) -> list[Result]:
    """The results, as many as come until all tasks have one or the time is over: the audit tells what is missing."""
    began = time.monotonic()
    missing, results = set(accepted), list[Result]()
    with Progress(out, "results", len(accepted)) as progress:
        while missing and time.monotonic() - began < RESULTS_TIMEOUT_S:
            supervisor.check()
            found = feed.poll()
            results += found
            missing.difference_update(result.key for result in found)
            progress.at(len(accepted) - len(missing))
    out.note(f"{len(results)} results, the last {time.monotonic() - began:.1f} s after the last task")
    return results


def _audit(deployment: Deployment, history: History, supervisor: Supervisor, out: Output) -> tuple[Log, Report]:
    began = time.monotonic()
    audited = audit_at_rest(
        deployment.settings, deployment.topology, history.facts, HISTORY_TIMEOUT_S, meanwhile=supervisor.check
    )
    out.note(f"audited topics and history after {time.monotonic() - began:.1f} s")
    return audited
