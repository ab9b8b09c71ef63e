"""How long the history keeps what it was told. I/O: none."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from schemas.topics import DAY_MS, HOUR_MS
from schemas.topology_agent import Section, Whole

_ENDING = "_retention_ms"


def _kept(what: str, default_ms: int | None = None) -> Whole | None:
    text: Whole | None = Field(default_ms, ge=HOUR_MS, description=f"Time for which {what} kept; null: for ever.")
    return text


class HistoryPolicy(Section):
    """How long each table of the history keeps a row, from when its record was appended."""

    tasks_retention_ms: Whole | None = _kept("submissions are")
    dispatches_retention_ms: Whole | None = _kept("dispatches are")
    agent_events_retention_ms: Whole | None = _kept("agents' events are")
    results_retention_ms: Whole | None = _kept("results are")
    orchestrator_events_retention_ms: Whole | None = _kept("orchestrator events are")
    dead_letters_retention_ms: Whole | None = _kept("dead letters are")
    redrives_retention_ms: Whole | None = _kept("redrives are")
    breaker_states_retention_ms: Whole | None = _kept("states of breakers are")
    agent_cards_retention_ms: Whole | None = _kept("agents' cards are")
    pause_states_retention_ms: Whole | None = _kept("pauses are")
    memory_directives_retention_ms: Whole | None = _kept("instructions, pinned facts and revocations are")
    health_counts_retention_ms: Whole | None = _kept("health counts are", 7 * DAY_MS)

    def tables(self) -> Iterator[tuple[str, int | None]]:
        """Each base table, and how many milliseconds it keeps a row: None for ever."""
        for name in type(self).model_fields:
            yield name.removesuffix(_ENDING) + "_log", getattr(self, name)
        # What is copied under another key is kept as long.
        yield "conversation_outcomes_log", self.agent_events_retention_ms
        yield "conversation_tasks_log", self.tasks_retention_ms
        # So is what was made of it.
        yield "conversation_summaries", self.agent_events_retention_ms
