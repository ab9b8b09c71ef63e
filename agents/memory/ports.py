"""Where memory is read from when it is not at hand: the history, and the log that it is made from. I/O: none.

The history may be behind, or away; the log is always there, but for what its retention took. So a host asks the history
first, and reads in the log what that does not have yet: `through` says where to begin. Ordinals tell whether the two
fit together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from agents.memory.model import Directives, Fact, Interaction, Key, Summary


@dataclass(frozen=True, slots=True)
class Remembered:
    """What one source holds of one memory.

    `interactions`: from `agents.memory.fold.reach` of the last one on, or all there are; in any order, with copies and
    what fenced hosts wrote, or without: `refold` sorts them out. `facts_before`: those of older interactions, oldest
    first, as many as FACTS_TOKENS_MAX takes. `models`: summaries that a model made of chunks that are still in reach.
    `numbered`: how many interactions there may have been of which nobody can tell now; the next one's number is beyond.
    """

    interactions: tuple[Interaction, ...] = ()
    facts_before: tuple[Fact, ...] = ()
    models: tuple[Summary, ...] = ()
    numbered: int = 0


class SourceAway(Exception):  # noqa: N818  what happened
    """It does not answer now. Another source has to do."""


class Recall(Protocol):
    """A source of cold memory, called in a thread of the host's; many keys of one partition at once."""

    def recall(self, partition: int, keys: Collection[Key]) -> tuple[Mapping[Key, Remembered], Mapping[str, int]]:
        """What it holds of these memories, all of one partition number, and how far it has read each agent's log: the
        offset behind the last event that is in, by agent. A key that is missing has nothing.

        Raises SourceAway within about two seconds.
        """
        ...


class Told(Protocol):
    """What people said about memories, as of now."""

    @property
    def version(self) -> int:
        """Grows with every change."""
        ...

    def of(self, key: Key) -> Directives: ...
