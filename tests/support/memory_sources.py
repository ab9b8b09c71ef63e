"""An agent's log and a history without a broker or a server: what each holds of memories, and what it was asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from agents.logrecall import LogMemory, Wanted
from agents.memory.model import Interaction, Key
from agents.memory.ports import Remembered, SourceAway
from schemas.epochs import LogEpochs


class Logs:
    """An `agents.sources.Logs` from offset `begin` to `end`; the interaction of ordinal n stands at offset n - 1."""

    def __init__(self, end: int, held: Mapping[Key, Sequence[Interaction]], begin: int = 0) -> None:
        self.begin, self.end, self.held = begin, end, dict(held)
        self.read_from: list[int] = []

    def span(self, agent_id: str, partition: int) -> tuple[int, int]:
        del agent_id, partition
        return self.begin, self.end

    def read(
        self,
        agent_id: str,
        partition: int,
        wanted: Wanted,
        *,
        since: int = 0,
        epochs: LogEpochs | None = None,
        bytes_max: int = 2**62,
    ) -> LogMemory:
        del agent_id, partition, epochs, bytes_max
        self.read_from.append(since)
        start = max(since, self.begin)
        found = {key: tuple(each for each in of if each.ordinal > start) for key, of in self.held.items()}
        return LogMemory(
            {key: Remembered(of) for key, of in found.items() if of and wanted(key)},
            {hash(key) for key, of in found.items() if of},
            self.begin,
            self.end,
        )


class Shelf:
    """An `agents.memory.ports.Recall` that has read the log up to `through`, or is away."""

    def __init__(self, through: int, held: Mapping[Key, Sequence[Interaction]]) -> None:
        self.through, self.held, self.is_away, self.asked = through, held, False, 0

    def recall(self, partition: int, keys: Collection[Key]) -> tuple[Mapping[Key, Remembered], Mapping[str, int]]:
        del partition
        self.asked += 1
        if self.is_away:
            raise SourceAway("down for the night")
        found = {
            key: Remembered(tuple(each for each in self.held.get(key, ()) if each.ordinal <= self.through))
            for key in keys
        }
        return found, {key.agent_id: self.through for key in keys}
