"""Commands about the deployment's topics: `topics plan`, `apply`, `list`, `describe`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from console.cli.completion import topics as topic_names
from console.cli.flags import Broker, Output_, TopologyFile, Yes, deployment_of
from console.cli.output import Format, Output

app = typer.Typer()
topics_app = typer.Typer(help="The deployment's topics on the broker.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(topics_app, name="topics")

Topic = Annotated[
    str, typer.Argument(help="Its name, with or without the deployment's prefix.", autocompletion=topic_names)
]


class PlanForm(StrEnum):
    """The value of `--form`."""

    PLAN = "plan"
    ACL = "acl"
    STRIMZI = "strimzi"


@topics_app.command()
def plan(
    broker: Broker = None,
    topology: TopologyFile = None,
    form: Annotated[
        PlanForm,
        typer.Option(
            "--form", help="acl: kafka-acls commands; strimzi: Kubernetes resources. Neither asks the broker."
        ),
    ] = PlanForm.PLAN,
    cluster: Annotated[str, typer.Option("--cluster", help="With strimzi: the name of the Kafka resource.")] = "kafka",
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 where there is anything to do.")] = False,
    output: Output_ = Format.TABLE,
) -> None:
    """Show what the broker lacks, what would change, and what cannot; changes nothing."""
    from console.cli.failures import UsageError
    from console.cli.topic_forms import acl_commands, strimzi
    from console.cli.topics import show_plan
    from schemas.codes import ErrorCode

    deployment, out = deployment_of(broker=broker, topology=topology), Output()
    topics = deployment.topology.topics()
    if form is PlanForm.PLAN:
        raise typer.Exit(show_plan(deployment, check=check, form=output, out=out))
    if check or output is not Format.TABLE:
        text = f"--form {form.value} prints a text of its own: leave out --check and --output."
        raise UsageError(text, code=ErrorCode.FLAGS_CONTRADICT)
    lines = (
        strimzi(topics, cluster).splitlines()
        if form is PlanForm.STRIMZI
        else acl_commands(topics, deployment.settings.broker)
    )
    for line in lines:
        out.line(line)


@topics_app.command()
def apply(
    broker: Broker = None,
    topology: TopologyFile = None,
    yes: Yes = False,
    output: Output_ = Format.TABLE,
) -> None:
    """Create and change topics as `topics plan` shows it; deletes nothing. Safe to repeat."""
    from console.cli.topics import apply_plan

    raise typer.Exit(apply_plan(deployment_of(broker=broker, topology=topology), yes=yes, form=output, out=Output()))


@topics_app.command("list")
def list_(broker: Broker = None, topology: TopologyFile = None, output: Output_ = Format.TABLE) -> None:
    """Show every topic of the deployment, with its records and how far our groups have read."""
    from console.cli.topic_list import list_topics

    raise typer.Exit(list_topics(deployment_of(broker=broker, topology=topology), form=output, out=Output()))


@topics_app.command()
def pause(
    topic: Topic,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Stop the whole fleet from reading a topic; what is in it waits, and everything else goes on."""
    from console.cli.topic_pauses import change

    raise typer.Exit(
        change(deployment_of(broker=broker, topology=topology), topic, paused=True, form=output, out=Output())
    )


@topics_app.command()
def resume(
    topic: Topic,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Let the fleet read a topic again that was paused, by hand or for too many bad records."""
    from console.cli.topic_pauses import change

    raise typer.Exit(
        change(deployment_of(broker=broker, topology=topology), topic, paused=False, form=output, out=Output())
    )


@topics_app.command()
def describe(
    topic: Topic,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show one topic: its properties, who writes and reads it, its partitions."""
    from console.cli.topic_list import describe_topic

    raise typer.Exit(describe_topic(deployment_of(broker=broker, topology=topology), topic, form=output, out=Output()))
