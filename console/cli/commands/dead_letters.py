"""Commands about records that nobody could take: `dlq list`, `show`, `redrive`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.completion import dead_reasons
from console.cli.completion import topics as topic_names
from console.cli.flags import Broker, ClickHouse, Output_, TopologyFile, Yes, deployment_of
from console.cli.output import Format, Output

if TYPE_CHECKING:
    from console.cli.deployment import Deployment
    from console.dlq.selection import Selection

app = typer.Typer()
dlq_app = typer.Typer(help="Dead letters: records that nobody could take.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(dlq_app, name="dlq")

Topic = Annotated[
    list[str] | None,
    typer.Option("--topic", help="Where it came from; may be repeated.", autocompletion=topic_names),
]
Reason = Annotated[
    list[str] | None,
    typer.Option("--reason", help="Why it was put away; may be repeated.", autocompletion=dead_reasons),
]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Of those that can be decoded.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="RFC 3339, or how long ago: 30m, 2h, 1d.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Likewise; this moment not included.")]
Partition = Annotated[int | None, typer.Option("--partition", min=0, help="Of the dead topic.")]
From = Annotated[int | None, typer.Option("--from", min=0, metavar="OFFSET", help="First offset there.")]
To = Annotated[int | None, typer.Option("--to", min=0, metavar="OFFSET", help="Last offset there.")]


@dlq_app.command("list")
def list_(
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    from_: From = None,
    to: To = None,
    redriven: Annotated[
        bool | None, typer.Option("--redriven/--not-redriven", help="Only those that went back, or did not.")
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Counts by topic and reason.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 50,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show dead letters: where each came from, why, and whether it went back."""
    from console.dlq.listing import list_letters, summarise

    deployment = deployment_of(broker=broker, topology=topology)
    wanted = _selection(deployment, topic, reason, tenant, since, until, partition, from_, to, redriven)
    if summary:
        raise typer.Exit(summarise(deployment, wanted, form=output, out=Output()))
    raise typer.Exit(list_letters(deployment, wanted, limit=limit, form=output, out=Output()))


@dlq_app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="PARTITION:OFFSET, as printed by list.")],
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show one dead letter: its reason and what to do, its headers, its key and value as far as they can be read."""
    from console.dlq.showing import show_letter

    raise typer.Exit(show_letter(deployment_of(broker=broker, topology=topology), letter, form=output, out=Output()))


@dlq_app.command()
def redrive(
    letters: Annotated[list[str] | None, typer.Argument(metavar="ID", help="As printed by list.")] = None,
    topic: Topic = None,
    reason: Reason = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    from_: From = None,
    to: To = None,
    all_: Annotated[bool, typer.Option("--all", help="Every dead letter that did not go back yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go where; send nothing.")] = False,
    yes: Yes = False,
    rate: Annotated[int, typer.Option("--rate", min=1, metavar="N", help="Records a second at most.")] = 100,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many in one run; the next run goes on.")] = 10_000,
    redrives_max: Annotated[
        int | None,
        typer.Option(
            "--redrives-max", min=0, metavar="N", help="Refuse what came back so often. Default: limits.redrives_max."
        ),
    ] = None,
    deadline_in: Annotated[
        str | None,
        typer.Option("--deadline-in", metavar="TIME", help="Give tasks at least this long from now: 30s, 10m."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was redriven before.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also what came back too often, would come back, or has a result.")
    ] = False,
    check_answers: Annotated[
        bool, typer.Option("--check-answers/--no-check-answers", help="Ask the history which tasks have a result.")
    ] = True,
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Send dead letters back to the topic and partition they came from: key, value and task id as they were."""
    from console.cli.moments import length_ms
    from console.dlq.redriving import Options
    from console.dlq.redriving import redrive as send_back

    deployment = deployment_of(broker=broker, clickhouse=clickhouse, topology=topology)
    wanted = _selection(deployment, topic, reason, tenant, since, until, partition, from_, to)
    options = Options(
        dry_run=dry_run,
        yes=yes,
        rate=rate,
        limit=limit,
        redrives_max=redrives_max,
        force=force,
        again=again,
        deadline_in_ms=None if deadline_in is None else length_ms(deadline_in, "--deadline-in"),
        check_answers=check_answers,
        everything=all_,
    )
    raise typer.Exit(send_back(deployment, letters or [], wanted, options, form=output, out=Output()))


def _selection(
    deployment: Deployment,
    topic: list[str] | None,
    reason: list[str] | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
    partition: int | None,
    from_: int | None,
    to: int | None,
    redriven: bool | None = None,
) -> Selection:
    """Raises UsageError."""
    import time

    from console.cli.moments import moment_ms
    from console.dlq.selection import Selection, reasons_of, topics_of

    topics, now_ms = deployment.topology.topics(), time.time_ns() // 1_000_000
    return Selection(
        topics=topics_of(topic or (), topics.prefix, [spec.name for spec in topics.specs()]),
        reasons=reasons_of(reason or ()),
        tenant=tenant,
        since_ms=moment_ms(since, "--since", now_ms),
        until_ms=moment_ms(until, "--until", now_ms),
        partition=partition,
        offset_from=from_,
        offset_to=to,
        redriven=redriven,
    )
