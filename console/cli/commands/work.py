"""Commands that give the pipeline work and look at what became of it: `submit`, `results`, `task`, `history`, `replay`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.cli.completion import agents, routes, tiers
from console.cli.flags import (
    Broker,
    ClickHouse,
    Output_,
    TopologyFile,
    deployment_of,
    settings_of,
)
from console.cli.output import Format, Output

app = typer.Typer()
task_app = typer.Typer(help="One task.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(task_app, name="task")


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
    conversation: Annotated[
        str | None, typer.Option("--conversation", help="Its tasks keep their order, and agents remember them.")
    ] = None,
    intent: Annotated[
        str | None, typer.Option("--intent", autocompletion=routes, help="A route's name; else phrases decide.")
    ] = None,
    confidence: Annotated[float | None, typer.Option("--confidence", help="Of the intent, 0 to 1.")] = None,
    tier: Annotated[str | None, typer.Option("--tier", autocompletion=tiers, help="LOW, MEDIUM or HIGH.")] = None,
    deadline_in_ms: Annotated[int | None, typer.Option("--deadline-ms", metavar="MS", help="From now.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Comes back.")] = None,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Submit one task, or a file of them."""
    from console.cli.submit import submit_tasks
    from console.cli.tasks import tasks_of

    fields = {
        "task_id": task_id,
        "tenant": tenant,
        "conversation_id": conversation,
        "intent": intent,
        "confidence": confidence,
        "value_tier": tier,
        "deadline_in_ms": deadline_in_ms,
    }
    tasks = tasks_of(text, file, fields, label or [])
    deployment = deployment_of(broker=broker, topology=topology)
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
        deployment_of(broker=broker, topology=topology),
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
    timeout: Annotated[float, typer.Option("--timeout", min=0, metavar="S", help="Longest wait for its history.")] = 5,
    clickhouse: ClickHouse = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show the whole life of a task as a tree."""
    from console.cli.show import show_task

    show_task(settings_of(clickhouse=clickhouse), task_id, tenant=tenant, wait_s=timeout, form=output, out=Output())


@app.command()
def history(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SQL|REPORT", help="A SELECT, or the name of a report. Default: which reports there are."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="RFC 3339, or how long ago: 30m, 2h, 1d.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Likewise; excluded.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", autocompletion=agents, help="This agent's rows.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="This tenant's rows.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The latest rows of a report. Default: 50; all with --out.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Written instead: .parquet, .arrow, .jsonl or .csv.")
    ] = None,
    clickhouse: ClickHouse = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Ask the history: a report by its name, or SQL."""
    import time

    from console.cli.history import print_answer
    from console.cli.moments import moment_ms
    from console.cli.reports import Filters

    now_ms = int(time.time() * 1000)
    filters = Filters(moment_ms(since, "--since", now_ms), moment_ms(until, "--until", now_ms), agent, tenant, limit)
    print_answer(settings_of(clickhouse=clickhouse), what, filters, file=file, form=output, out=Output())


@app.command()
def replay(
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Tasks that ended from then on: RFC 3339, or how long ago.")
    ] = "1d",
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Likewise; excluded.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The latest tasks of that time.")] = 10_000,
    topology: TopologyFile = None,
    clickhouse: ClickHouse = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Decide recorded tasks anew under another topology, and say what changes; nothing is called or written."""
    import time

    from console.cli.moments import moment_ms
    from console.cli.replay import print_replay

    now_ms = int(time.time() * 1000)
    deployment = deployment_of(topology=topology, clickhouse=clickhouse)
    print_replay(
        deployment.settings,
        deployment.topology,
        since_ms=moment_ms(since, "--since", now_ms) or 0,
        until_ms=moment_ms(until, "--until", now_ms) or now_ms,
        limit=limit,
        form=output,
        out=Output(),
    )
