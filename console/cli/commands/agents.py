"""Commands about agents: `init agent`, `agents test`, `list`, `show`, `pause`, `resume`, `retire`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import Annotated

import typer

from console.cli.completion import agents as agent_names
from console.cli.completion import routes
from console.cli.flags import Broker, Output_, TopologyFile, Yes, deployment_of, settings_of
from console.cli.output import Format, Output
from console.scaffold.templates import Kind

app = typer.Typer()
agents_app = typer.Typer(help="The agents of the topology.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(agents_app, name="agents")
init_app = typer.Typer(help="Begin something of your own.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(init_app, name="init")


@init_app.command("agent")
def init_agent(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and underscores, a letter first.")],
    kind: Annotated[Kind, typer.Option("--kind", help="A function, a service, or a program of its own.")] = Kind.PYTHON,
    add: Annotated[bool, typer.Option("--add", help="Add it to the topology, with a route of its own.")] = False,
    topology: TopologyFile = None,
) -> None:
    """Write the first files of an agent, with its test, and the lines of the topology that name it."""
    from console.cli.scaffold import init_agent as begin

    begin(name, kind, add_to=settings_of(topology=topology).topology if add else None, out=Output())


@agents_app.command("test")
def agents_test(
    name: Annotated[str, typer.Argument(help="As in the topology.", autocompletion=agent_names)],
    text: Annotated[str | None, typer.Argument(help="Default: a phrase of a route that it is on.")] = None,
    payload: Annotated[str | None, typer.Option("--payload", metavar="JSON", help="Structured input.")] = None,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", metavar="TEXT", help="Asked before, in the same conversation; may be repeated."),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Default: default.")] = None,
    intent: Annotated[
        str | None, typer.Option("--intent", help="Default: the first route that it is on.", autocompletion=routes)
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="It sees them.")] = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Ask one agent alone, without a broker; exit code 1 where what it says is no answer that counts."""
    from console.cli.agent_trial import text_for, try_out
    from console.cli.tasks import one_task

    deployment = deployment_of(topology=topology)
    asked = [*(after or []), text if text is not None else text_for(deployment.topology, name)]
    flags = {"tenant": tenant, "intent": intent, "conversation_id": "agents test" if after else None}
    tasks = [one_task(each, {**flags, "payload": payload}, label or []) for each in asked]
    raise typer.Exit(try_out(deployment, name, tasks, form=output, out=Output()))


Agent = Annotated[str, typer.Argument(help="As in the topology.", autocompletion=agent_names)]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Kept with it, for whoever asks later.")]


@agents_app.command("list")
def agents_list(broker: Broker = None, topology: TopologyFile = None, output: Output_ = Format.TABLE) -> None:
    """Show every agent: whether it is live, in which epoch and version, its breaker, and what waits for it."""
    from console.cli.agent_list import list_agents

    raise typer.Exit(list_agents(deployment_of(broker=broker, topology=topology), form=output, out=Output()))


@agents_app.command("show")
def agents_show(
    name: Agent, broker: Broker = None, topology: TopologyFile = None, output: Output_ = Format.TABLE
) -> None:
    """Show one agent, and who serves which of its partitions."""
    from console.cli.agent_list import show_agent

    raise typer.Exit(show_agent(deployment_of(broker=broker, topology=topology), name, form=output, out=Output()))


@agents_app.command("pause")
def agents_pause(
    name: Agent,
    why: Why = "",
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Ask an agent no more, in the whole fleet; what waits in its inbox goes on along the chains."""
    from console.cli.agent_pauses import PAUSE, change

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(change(deployment, name, PAUSE, why=why, form=output, out=Output()))


@agents_app.command("resume")
def agents_resume(
    name: Agent,
    why: Why = "",
    yes: Yes = False,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Ask an agent again that was paused; also one that was retired, after a question."""
    from console.cli.agent_pauses import RESUME, change

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(change(deployment, name, RESUME, why=why, yes=yes, form=output, out=Output()))


@agents_app.command("retire")
def agents_retire(
    name: Agent,
    why: Why = "",
    yes: Yes = False,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Take an agent out of service for good: nothing is sent to it, and its log stays readable."""
    from console.cli.agent_pauses import RETIRE, change

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(change(deployment, name, RETIRE, why=why, yes=yes, form=output, out=Output()))
