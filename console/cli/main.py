"""The `pointsman` command: every subcommand's flags, and the one place where errors become exit codes.

Each command imports its own part when it runs, so that `--help` answers at once. I/O: through the commands.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.main

from console.cli.failures import ExitCode, exit_code, explain
from console.cli.output import Format, Output

if TYPE_CHECKING:
    from console.cli.deployment import Deployment
    from schemas.settings import Settings

app = typer.Typer(
    name="pointsman",
    help="Dumb agents, smart orchestration: task events in, results out, on Kafka, with history in ClickHouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
task_app = typer.Typer(help="One task.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(task_app, name="task")

Broker = Annotated[
    str | None, typer.Option("--broker", metavar="HOST:PORT", help="Kafka's bootstrap servers. [env: POINTSMAN_BROKER]")
]
ClickHouse = Annotated[
    str | None, typer.Option("--clickhouse", metavar="URL", help="ClickHouse's address. [env: POINTSMAN_CLICKHOUSE]")
]
TopologyFile = Annotated[
    Path | None, typer.Option("--topology", metavar="FILE", help="Default: topology.yaml. [env: POINTSMAN_TOPOLOGY]")
]
Output_ = Annotated[Format, typer.Option("-o", "--output", help="How data is written.")]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Prometheus port on loopback, 0: a free one."),
]
ReadyFile = Annotated[
    Path | None, typer.Option("--ready-file", metavar="FILE", help="Written, as JSON, when the process serves.")
]
StopWithStdin = Annotated[
    bool, typer.Option("--stop-with-stdin", hidden=True, help="End when standard input closes: the supervisor is gone.")
]


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    context.obj["debug"] = debug


@app.command()
def submit(
    text: Annotated[str | None, typer.Argument(help="The request, in plain language.")] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="JSONL", help="One task a line; - reads standard input.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the results and print them.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, metavar="S", help="Longest wait.")] = 60.0,
    task_id: Annotated[str | None, typer.Option("--task-id", help="Default: a new one.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Default: default.")] = None,
    conversation: Annotated[str | None, typer.Option("--conversation", help="Its tasks keep their order.")] = None,
    intent: Annotated[str | None, typer.Option("--intent", help="A route's name; else phrases decide.")] = None,
    confidence: Annotated[float | None, typer.Option("--confidence", help="Of the intent, 0 to 1.")] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="LOW, MEDIUM or HIGH.")] = None,
    deadline_in_ms: Annotated[int | None, typer.Option("--deadline-ms", metavar="MS", help="From now.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Comes back.")] = None,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Submit one task, or a file of them."""
    from console.cli.submit import submit_tasks
    from console.cli.tasks import one_task, read_tasks

    fields = {
        "task_id": task_id,
        "tenant": tenant,
        "conversation_id": conversation,
        "intent": intent,
        "confidence": confidence,
        "value_tier": tier,
        "deadline_in_ms": deadline_in_ms,
    }
    tasks = read_tasks(file, fields, label or []) if file else [one_task(text, fields, label or [])]
    deployment = _deployment(broker=broker, topology=topology)
    submit_tasks(deployment, tasks, wait_s=timeout if wait else None, form=output, out=Output())


@app.command()
def results(
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and print results as they come.")] = False,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="All that the topic still holds.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Default: 20, unless following.")] = None,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Print the latest results, all of them, or those that come."""
    from console.cli.results import print_results

    print_results(
        _deployment(broker=broker, topology=topology),
        follow=follow,
        from_beginning=from_beginning,
        limit=limit,
        form=output,
        out=Output(),
    )


@task_app.command("show")
def task_show(
    task_id: Annotated[str, typer.Argument(help="As printed by submit.")],
    tenant: Annotated[str | None, typer.Option("--tenant", help="Where two tenants use one id.")] = None,
    clickhouse: ClickHouse = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show the whole life of a task as a tree."""
    from console.cli.show import show_task

    show_task(_settings(clickhouse=clickhouse), task_id, tenant=tenant, form=output, out=Output())


@app.command()
def history(
    sql: Annotated[str, typer.Argument(help="A SELECT; `show tables` names the views.")],
    clickhouse: ClickHouse = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Ask the history in SQL."""
    from console.cli.history import print_answer

    print_answer(_settings(clickhouse=clickhouse), sql, form=output, out=Output())


@app.command()
def validate(
    file: Annotated[Path | None, typer.Argument(help="Default: the topology in force.")] = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Check a topology; exit code 5 and every fault at once when it is wrong."""
    from console.cli.validate import validate_topology

    raise typer.Exit(validate_topology(_settings(topology=file).topology, form=output, out=Output()))


@app.command()
def dev(
    broker: Broker = None,
    topology: TopologyFile = None,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Kept between starts.")] = Path(".pointsman"),
) -> None:
    """Run broker, store, worker and host here until Ctrl-C."""
    from console.cli.dev import run_dev

    run_dev(_deployment(broker=broker, topology=topology), data, own_broker=broker is None, out=Output())


@app.command()
def demo(
    broker: Broker = None,
    topology: TopologyFile = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep data and logs here; default: a temporary folder.")
    ] = None,
) -> None:
    """Run real tasks through everything, print what happened, and audit it."""
    from console.demo.run import run_demo

    raise typer.Exit(
        run_demo(_deployment(broker=broker, topology=topology), own_broker=broker is None, keep=keep, out=Output())
    )


@app.command()
def worker(
    broker: Broker = None,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    metrics_port: MetricsPort = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
) -> None:
    """Run one worker: the router and the consensus of its share of the partitions."""
    from console.cli.serve import serve_worker

    deployment = _deployment(broker=broker, topology=topology, clickhouse=clickhouse, metrics_port=metrics_port)
    serve_worker(deployment, ready_file, stop_with_stdin=stop_with_stdin)


@app.command()
def host(
    broker: Broker = None,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    metrics_port: MetricsPort = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
) -> None:
    """Run one agent host."""
    from console.cli.serve import serve_host

    deployment = _deployment(broker=broker, topology=topology, clickhouse=clickhouse, metrics_port=metrics_port)
    serve_host(deployment, ready_file, stop_with_stdin=stop_with_stdin)


@app.command()
def store(
    broker: Broker = None,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Embed ClickHouse over DIR; else use the URL.")
    ] = None,
    metrics_port: MetricsPort = None,
    ready_file: ReadyFile = None,
    stop_with_stdin: StopWithStdin = False,
) -> None:
    """Run the history sink, with ClickHouse embedded where --data is given."""
    from console.cli.serve import serve_store

    deployment = _deployment(broker=broker, topology=topology, clickhouse=clickhouse, metrics_port=metrics_port)
    serve_store(deployment, data, ready_file, stop_with_stdin=stop_with_stdin)


def _deployment(**flags: object) -> Deployment:
    from console.cli.deployment import load

    return load(flags)


def _settings(**flags: object) -> Settings:
    from console.cli.deployment import load_settings

    return load_settings(flags)


def run(arguments: Sequence[str], output: Output | None = None) -> int:
    """Runs one command line; gives its exit code. Nothing is raised but what `--debug` lets through on stderr."""
    out = output or Output()
    state: dict[str, bool] = {}
    command = typer.main.get_command(app)
    try:
        status = command.main(list(arguments), prog_name="pointsman", standalone_mode=False, obj=state)
    except typer.TyperException as error:
        # No arguments at all: the message is the help text, and standing alone it is no error to explain.
        if message := error.format_message():
            out.note(f"pointsman: {message}" if arguments else message)
        if arguments:
            out.note("Try `pointsman --help`, or `pointsman COMMAND --help`.")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except SystemExit:
        # Raised by Typer alone, for a closed pipe: the reader of our output has had enough.
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001  the last resort: everything becomes an exit code
        if state.get("debug"):
            import traceback

            traceback.print_exception(error, file=out.err)
        out.note(f"pointsman: {explain(error)}")
        return exit_code(error)
    return status if isinstance(status, int) else ExitCode.OK


def main() -> int:
    """Entry point of the `pointsman` script and of `python -m console.cli.main`."""
    return int(run(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
