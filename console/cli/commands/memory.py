"""Commands about memory: `context show|verify|revoke|instructions|withdraw`, `facts list|pin|unpin`, `instruct`.

I/O: through the commands.
"""
# ruff: noqa: PLC0415  each command imports its own part when it runs

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.cli.completion import agents as agent_names
from console.cli.flags import Broker, ClickHouse, Output_, TopologyFile, Yes, deployment_of
from console.cli.output import Format, Output

if TYPE_CHECKING:
    from agents.memory.model import Key

app = typer.Typer()
context_app = typer.Typer(help="What agents are shown.", no_args_is_help=True, rich_markup_mode=None)
facts_app = typer.Typer(help="What agents must not forget.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(context_app, name="context")
app.add_typer(facts_app, name="facts")

Agent = Annotated[str, typer.Argument(help="As in the topology.", autocompletion=agent_names)]
Conversation = Annotated[str, typer.Argument(help="Its id, as the tasks state it.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose conversation it is.")]


def _key(tenant: str, agent: str, conversation: str) -> Key:
    from agents.memory.model import Key

    return Key(tenant, agent, conversation)


def stated(text: str) -> str:
    """What people say, which has to say something: agents are shown it, and others are told it later."""
    if not text.strip():
        raise typer.BadParameter("it says nothing")
    return text


@context_app.command("show")
def context_show(
    agent: Agent,
    conversation: Conversation,
    tenant: Tenant = "default",
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show exactly what an agent's next call in a conversation is shown: each line with its tokens and its origin."""
    from console.cli.memory import show_context

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(show_context(deployment, _key(tenant, agent, conversation), form=output, out=Output()))


@context_app.command("verify")
def context_verify(
    agent: Agent,
    conversation: Conversation,
    tenant: Tenant = "default",
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Make a context out of the history and compare it with that out of the log; exit code 1 where they differ."""
    from console.cli.memory_checks import verify_context

    deployment = deployment_of(broker=broker, clickhouse=clickhouse, topology=topology)
    raise typer.Exit(verify_context(deployment, _key(tenant, agent, conversation), form=output, out=Output()))


@context_app.command("revoke")
def context_revoke(
    agent: Agent,
    conversation: Conversation,
    what: Annotated[list[str], typer.Argument(help="Tasks, events or interactions, by their ids.")],
    why: Annotated[
        str, typer.Option("--why", help="What is wrong with it; it is kept with the revocation.", callback=stated)
    ],
    tenant: Tenant = "default",
    yes: Yes = False,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Take interactions out of all that an agent remembers of a conversation, for good; shows them and asks first."""
    from console.cli.memory_checks import revoke

    deployment, key = deployment_of(broker=broker, topology=topology), _key(tenant, agent, conversation)
    raise typer.Exit(revoke(deployment, key, what, why=why, yes=yes, form=output, out=Output()))


@facts_app.command("list")
def facts_list(
    agent: Agent,
    conversation: Conversation,
    tenant: Tenant = "default",
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show the facts that are pinned in a conversation, by answers and by people."""
    from console.cli.memory import list_facts

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(list_facts(deployment, _key(tenant, agent, conversation), form=output, out=Output()))


@facts_app.command("pin")
def facts_pin(
    agent: Agent,
    conversation: Conversation,
    text: Annotated[str, typer.Argument(help="What shall not be forgotten.", callback=stated)],
    tenant: Tenant = "default",
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Pin a fact in a conversation: the agent is shown it from its next call on."""
    from console.cli.memory import pin_fact

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(pin_fact(deployment, _key(tenant, agent, conversation), text, form=output, out=Output()))


@facts_app.command("unpin")
def facts_unpin(
    agent: Agent,
    conversation: Conversation,
    fact: Annotated[str, typer.Argument(help="Its id, or its text.")],
    tenant: Tenant = "default",
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Take a fact away, for good: answers that state it again do not bring it back."""
    from console.cli.memory import unpin_fact

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(unpin_fact(deployment, _key(tenant, agent, conversation), fact, form=output, out=Output()))


@app.command("instruct")
def instruct(
    agent: Agent,
    text: Annotated[str, typer.Argument(help="What it is told, with every task.", callback=stated)],
    tenant: Annotated[str | None, typer.Option("--tenant", help="In this tenant's conversations alone.")] = None,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Tell an agent something that it is shown in all its conversations, until it is withdrawn."""
    from console.cli.memory import instruct as tell

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(tell(deployment, agent, text, tenant=tenant, form=output, out=Output()))


@context_app.command("instructions")
def context_instructions(
    agent: Annotated[str | None, typer.Argument(help="Default: all.", autocompletion=agent_names)] = None,
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Show what people told agents and did not withdraw."""
    from console.cli.memory import list_instructions

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(list_instructions(deployment, agent, form=output, out=Output()))


@context_app.command("withdraw")
def context_withdraw(
    instruction: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    broker: Broker = None,
    topology: TopologyFile = None,
    output: Output_ = Format.TABLE,
) -> None:
    """Take an instruction back."""
    from console.cli.memory import withdraw_instruction

    deployment = deployment_of(broker=broker, topology=topology)
    raise typer.Exit(withdraw_instruction(deployment, instruction, form=output, out=Output()))
