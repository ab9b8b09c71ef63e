"""One inbox partition that this host owns: how far it is done, what it has met before, and whose its log is.

I/O: none.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from agents.recognition import Recognition
from agents.tracker import OffsetTracker
from schemas.epochs import LogEpochs, Since


class Note(NamedTuple):
    """What a host commits beside an inbox's position, for the next one: the append time of the first dispatch that is
    not done, None where it is not known, and the claims of the agent's log."""

    low_watermark_ms: int | None
    since: Since


def position_note(low_watermark_ms: int, since: Since) -> str:
    return json.dumps({"low_watermark_ms": low_watermark_ms, "epochs": since}, separators=(",", ":"))


def read_note(text: str) -> Note:
    """Of what is no note nothing is known. Hosts before this one committed the time alone."""
    if text.isdecimal():
        return Note(int(text), [])
    try:
        found = json.loads(text)
        return Note(int(found["low_watermark_ms"]), [(int(offset), int(epoch)) for offset, epoch in found["epochs"]])
    except (ValueError, TypeError, KeyError):
        return Note(None, [])


class Inbox:
    """State of one (agent, partition). `known` is what was met before; `epoch` is what this host's events bear,
    `epochs` what it knows of the log's claims."""

    def __init__(
        self,
        agent_id: str,
        topic: str,
        partition: int,
        known: Recognition | None = None,
        epoch: int = 0,
        epochs: LogEpochs | None = None,
    ) -> None:
        self.agent_id, self.topic, self.partition = agent_id, topic, partition
        self.epoch, self._epochs = epoch, epochs or LogEpochs()
        self.tracker, self.known = OffsetTracker(), known or Recognition()
        self.lost = False

    @property
    def epochs(self) -> LogEpochs:
        """The claims of the agent's log."""
        return self._epochs

    def note(self, low_watermark_ms: int | None) -> str:
        """What is committed beside a position; `low_watermark_ms` as the tracker has it."""
        return position_note(low_watermark_ms or 0, self._epochs.since)
