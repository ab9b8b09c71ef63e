"""Memory out of the history: rows of ClickHouse as interactions, without what fenced hosts wrote. I/O: ClickHouse."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

from agents.memory.fold import FACTS_TOKENS_MAX
from agents.memory.model import Fact, Interaction, Key, Place, interaction_id
from agents.memory.modelled import summary_of
from agents.memory.ports import Remembered, SourceAway
from agents.memory.sources import Asked
from agents.memory.sources import interaction_of as joined
from agents.memory.tokens import MESSAGE
from schemas.epochs import LogEpochs
from schemas.errors import PointsmanError
from schemas.topology import Topology
from streams.history.conversation_rows import StoredFacts, StoredModel, StoredOutcome
from streams.history.conversations import Conversations, Reading

LAST = 160
"""Interactions that are read: a state depends on 120 (`agents.memory.fold.reach`), and fenced hosts may have written
some in the places of others."""

FACTS_MAX = FACTS_TOKENS_MAX // (MESSAGE + 1)
"""Older answers with facts: more would not fit into a state."""


class StoreRecall:
    """An `agents.memory.ports.Recall`, used in one thread."""

    def __init__(self, topology: Topology, conversations: Conversations) -> None:
        self._topics, self._conversations = topology.topics(), conversations

    def recall(self, partition: int, keys: Collection[Key]) -> tuple[dict[Key, Remembered], dict[str, int]]:
        """What the history holds of these memories, and up to where in each agent's log. Raises SourceAway.

        The submissions are stored apart from the outcomes and may come later: then an agent's log counts as read up to
        the first outcome of which nobody knows yet what was asked.
        """
        agents = {self._topics.events(key.agent_id): key.agent_id for key in keys}
        try:
            reading = self._conversations.read(
                [(*key,) for key in keys], agents, partition, last=LAST, facts_max=FACTS_MAX
            )
        except PointsmanError as error:
            raise SourceAway(str(error)) from error
        void = _void(reading)
        through = {agents[topic]: offset for topic, offset in reading.through.items()}
        memories = {}
        for place, found in reading.found.items():
            key = Key(*place)
            valid = [each for each in found.outcomes if (each.topic, each.partition, each.offset) not in void]
            models = [each for each in found.models if (each.topic, each.partition, each.offset) not in void]
            gaps = [each.offset for each in valid if each.asked is None and each.topic in agents]
            through[key.agent_id] = min([through.get(key.agent_id, 0), *gaps])
            facts = [each for each in found.facts if (each.topic, each.partition, each.offset) not in void]
            memories[key] = _remembered(key, valid, facts, models)
        return memories, through


def read_so_far(stored: Remembered, through: int) -> Remembered:
    """As far as the history has all of the log: what stands behind that, a host takes from there."""
    kept = tuple(each for each in stored.interactions if each.event is None or each.event.offset < through)
    models = tuple(each for each in stored.models if each.place is None or each.place.offset < through)
    return Remembered(kept, stored.facts_before, models)


def _remembered(
    key: Key, valid: Sequence[StoredOutcome], facts: Sequence[StoredFacts], models: Sequence[StoredModel]
) -> Remembered:
    newest: dict[int, StoredFacts] = {}
    for each in facts:
        if each.ordinal not in newest or each.epoch > newest[each.ordinal].epoch:
            newest[each.ordinal] = each
    made = (summary_of(each.summary, each.epoch, Place(each.topic, each.partition, each.offset)) for each in models)
    return Remembered(
        tuple(interaction_of(key, each, each.asked) for each in valid if each.asked is not None),
        tuple(fact for each in newest.values() for fact in _facts(key, each)),
        tuple(each for each in made if each is not None),
    )


def _void(reading: Reading) -> set[tuple[str, int, int]]:
    """Where outcomes, and what models made of them, stand that were written behind the claim of a newer host."""
    written_rows: list[StoredOutcome | StoredModel | StoredFacts] = []
    for found in reading.found.values():
        written_rows += [*found.outcomes, *found.models, *found.facts]
    places = sorted({(each.topic, each.partition, each.offset, each.epoch) for each in written_rows})
    void = set()
    for log, outcomes in groupby(places, key=lambda place: place[:2]):
        claims: Mapping[int, int] = dict(reading.claims.get(log[0], ()))
        written = {offset: epoch for _, _, offset, epoch in outcomes}
        epochs = LogEpochs()
        for offset, epoch in sorted({**written, **claims}.items()):
            if offset in claims:
                epochs.note(offset, epoch)
            elif epochs.is_void(offset, epoch):
                void.add((*log, offset))
    return void


def interaction_of(key: Key, row: StoredOutcome, asked: str) -> Interaction:
    """As the host that wrote it folded it."""
    said = Asked(row.task_id, row.attempt, row.stage, asked, row.labels, row.cause_id)
    place = Place(row.topic, row.partition, row.offset)
    return joined(key, said, row, row.epoch, row.agent_version, event=place, event_id=row.event_id)


def _facts(key: Key, row: StoredFacts) -> list[Fact]:
    origin = interaction_id(key, row.task_id, row.attempt, row.stage)
    return [Fact.of(key, text, origin=origin, ordinal=row.ordinal, at=row.at) for text in row.facts if text.strip()]
