"""What a host makes of a poll: which dispatches are new to it, and which its log knows."""

from __future__ import annotations

from typing import cast

from agents.dispatches import Attempt
from agents.inbox import Inbox
from agents.intake import Intake
from agents.recognition import AttemptId, Logged, Memory, Recognition
from schemas.codec import Codec
from schemas.registry import FileRegistry
from streams.transport.batch import TopicPartition
from streams.transport.producer import SendsOne
from tests.support.agents_bench import make_topology
from tests.support.agents_polls import poll_of

NOBODY = cast("SendsOne", None)
"""Nothing is put away here."""


def test_a_poll_that_reads_beyond_what_the_log_knows_does_not_forget_it() -> None:
    """Fetches of one inbox stand apart in a poll where another inbox's came between them."""
    topology = make_topology("", {"writer": {"effect": "write"}, "other": {}})
    topics, codec = topology.topics(), Codec(FileRegistry.load(), 1 << 20)
    began = {AttemptId("default", f"t0-{number}", 1, "WORK"): Logged("STARTED") for number in range(5)}
    done = AttemptId("default", "t0-5", 1, "WORK")
    memory = Memory.of(topology.agents["writer"], topology.limits)
    known = Recognition({**began, done: Logged("COMPLETED", "yes", 1 << 62)}, until=6, memory=memory)
    inboxes = {
        TopicPartition(topics.inbox("writer"), 0): Inbox("writer", topics.inbox("writer"), 0, known),
        TopicPartition(topics.inbox("other"), 0): Inbox("other", topics.inbox("other"), 0),
    }
    intake = Intake(topology, codec, NOBODY, inboxes)
    rows = [("writer", 0, number, "write") for number in range(6)]
    rows += [("other", 0, 6, "hello"), ("writer", 0, 7, "write")]
    taken = [
        attempt for _, found in intake.take(poll_of(topics, codec, rows)) for attempt in cast("list[Attempt]", found)
    ]
    again = {each.id.task_id: each.began_before for each in taken}
    assert again == {**{f"t0-{number}": True for number in range(5)}, "t0-6": False, "t0-7": False}
