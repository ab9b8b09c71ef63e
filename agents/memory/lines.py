"""An interaction, an instruction and a fact as the lines of a window, with what each costs. I/O: none."""

from __future__ import annotations

from agents.memory.model import Fact, Instruction, Interaction, Line, Source, ToolCall
from agents.memory.tokens import MESSAGE, Counter, estimate

NO_ANSWER = "(no answer: {})"


def tokens(text: str, count: Counter) -> int:
    """Of a line as it is rendered, where each of its own lines but the first is indented."""
    return count(text) + text.count("\n") + MESSAGE


def instruction_line(instruction: Instruction, count: Counter) -> Line:
    return Line("instruction", "human", instruction.text, tokens(instruction.text, count), (instruction.id,))


def fact_line(fact: Fact, count: Counter) -> Line:
    origins = (fact.id, fact.origin) if fact.origin else (fact.id,)
    return Line("fact", "fact", fact.text, tokens(fact.text, count), origins)


def asked_text(interaction: Interaction) -> str:
    """With a mark, where the words are another agent's."""
    return mark(interaction.source) + interaction.asked


def mark(source: Source | None) -> str:
    return "" if source is None else f"[from agent {source.agent_id}, {source.reference}] "


def answered_text(interaction: Interaction) -> str:
    if interaction.answer is not None:
        return interaction.answer
    why = interaction.status.lower()
    return NO_ANSWER.format(f"{why}: {interaction.error}" if interaction.error else why)


def tool_text(call: ToolCall) -> str:
    """A call with its result: one line, so that neither can be without the other."""
    result = "(no result)" if call.result is None else call.result
    return f"{call.name}({call.arguments}) -> {result}"


def sizes(interaction: Interaction, count: Counter) -> tuple[int, ...]:
    """Tokens of what was asked, of the answer, and of each call of a tool."""
    texts = asked_text(interaction), answered_text(interaction), *map(tool_text, interaction.tool_calls)
    return tuple(tokens(text, count) for text in texts)


def sizes_of(interaction: Interaction, count: Counter) -> tuple[int, ...]:
    """As `sizes`, which the fold has estimated already."""
    return interaction.sizes if count is estimate and interaction.sizes else sizes(interaction, count)


def interaction_lines(interaction: Interaction, count: Counter) -> tuple[Line, ...]:
    """What was asked, the calls of tools, and the answer."""
    asked, answered, *calls = sizes_of(interaction, count)
    origins = (interaction.id,)
    return (
        Line("interaction", "asked", asked_text(interaction), asked, origins, interaction.source),
        *(
            Line("interaction", "tool", tool_text(call), size, origins)
            for call, size in zip(interaction.tool_calls, calls, strict=True)
        ),
        Line("interaction", "answered", answered_text(interaction), answered, origins),
    )
