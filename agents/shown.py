"""A window in the words of the agents' contract. I/O: none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

from agents.contract import Context
from agents.contract import Interaction as Earlier
from agents.memory.canonical import window_hash
from agents.memory.model import Interaction, Window
from agents.memory.render import messages, text


class Shown(Context):
    """The context of one call. Its window is made when something of it is looked at, and so is each form of it: few
    agents look at more than one, and the hash alone costs a third of all."""

    def __init__(self, make: Callable[[], Window]) -> None:
        self._make = make  # and no more: every call of an agent that remembers makes one

    @cached_property
    def _window(self) -> Window:
        return self._make()

    @cached_property
    def interactions(self) -> tuple[Earlier, ...]:
        return tuple(map(earlier, self._window.interactions))

    @property
    def summary(self) -> str:
        return "" if self._window.summary is None else self._window.summary.text

    @property
    def facts(self) -> tuple[str, ...]:
        return tuple(fact.text for fact in self._window.facts)

    @property
    def instructions(self) -> tuple[str, ...]:
        return tuple(instruction.text for instruction in self._window.instructions)

    @cached_property
    def text(self) -> str:
        return text(self._window)

    @cached_property
    def messages(self) -> tuple[Mapping[str, str], ...]:
        return tuple(messages(self._window))

    @property
    def tokens(self) -> int:
        return self._window.tokens

    @cached_property
    def hash(self) -> str:
        return window_hash(self._window)


def earlier(each: Interaction) -> Earlier:
    """An interaction in the words of the agents' contract."""
    return Earlier(
        each.task_id,
        each.asked,
        each.answer,
        each.status,
        each.at,
        each.tool_calls,
        "" if each.source is None else each.source.agent_id,
    )
