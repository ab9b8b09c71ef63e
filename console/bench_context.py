"""What contexts cost a host: taking note of an interaction, and the window of a conversation that is at hand.

`python -m console.bench_context` has one agent answer in many conversations, drawn at random, each so often that its
window is full, and looks at windows in turn. Attempts and outcomes are made a poll at a time, as a host meets them, and
not timed. `note` is what every interaction costs: of conversations that nobody has looked at, while they fill and once
each lets an old one go for a new one. `call` is all that contexts cost a call whose agent does not look: at hand,
begun, shown, numbered, noted, left. `look` is paid only where an agent asks what was said: a fold of what came since,
and the window. `cold fold` is a memory of `--each` interactions folded anew, as after a reading. CPU time of this
process, means: medians would leave out what is let go. I/O: the clock, stdout.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa

from agents.context import Contexts
from agents.conversation import UNSEEN_MAX, UNSEEN_SLACK, Conversation
from agents.dispatches import Attempt, Dispatched
from agents.inbox import Inbox
from agents.memory.fold import refold
from agents.memory.model import Interaction
from agents.memory.ports import Remembered
from agents.memory.window import window
from agents.outcome import COMPLETED, Outcome
from agents.recognition import AttemptId
from agents.wire import context_fields
from console.cli.output import Output
from schemas.topology import Agent, Route, Topology
from streams.transport.garbage import calm_collector

US, POLL, POLLS = 1e6, 500, 120
FULL = UNSEEN_MAX + UNSEEN_SLACK + 60  # a conversation's, on average: all have let some go
ASKED = "What was the revenue of region {} in the third quarter, and how does it compare to the year before?"
ANSWERED = (
    "Region {} had 4.2 million in the third quarter, 7 % more than the year before. Marta confirmed it on 14 March."
)
TOPOLOGY = Topology(
    agents={"a": Agent(run="m:f", effect="read")}, routes={"all": Route(agents=("a",))}, default_route="all"
)
_NOTHING = pa.array([], pa.struct([]))


class Rig:
    """One host's conversations, all at hand."""

    def __init__(self, conversations: int) -> None:
        self.contexts = Contexts(TOPOLOGY)
        self.names = [Conversation("a", 0, "acme", f"c{number}") for number in range(conversations)]
        self._inbox = Inbox("a", TOPOLOGY.topics().inbox("a"), 0, epoch=1)
        self._source = Dispatched(0, _NOTHING, _NOTHING, _NOTHING, [])
        self._drawn, self._asked = random.Random(1), 0  # noqa: S311  a draw that can be repeated
        for name in self.names:
            self.contexts.put(name, Remembered())

    def poll(self, of: Sequence[Conversation]) -> list[tuple[Conversation, Attempt, Outcome]]:
        """Calls that have ended, one of each of these, all of them made anew."""
        made = []
        counts = {name: self.contexts.count_of(name) for name in of}
        for name in of:
            self._asked += 1
            counts[name] += 1
            number, mine = self._asked, Conversation(*name)
            id_ = AttemptId(mine.tenant, f"t{number}", 1, "WORK")
            parts = (self._inbox, self._source, 0, number, id_, "a", ASKED.format(number), None, "all", None, 0, 0, 0)
            done = Outcome(COMPLETED, ANSWERED.format(number), finished_at=number, ordinal=counts[name])
            made.append((mine, Attempt(*parts, [], None, "", mine), done))
        return made

    def drawn(self) -> list[tuple[Conversation, Attempt, Outcome]]:
        return self.poll(self._drawn.choices(self.names, k=POLL))

    def note(self, polls: int) -> float:
        """CPU seconds an interaction."""
        note, took = self.contexts.note, 0.0
        for _ in range(polls):
            poll = self.drawn()
            began = time.process_time()
            for name, attempt, outcome in poll:
                note(name, attempt, outcome)
            took += time.process_time() - began
        return took / polls / POLL

    def call(self, polls: int) -> float:
        """CPU seconds a call whose agent does not look."""
        contexts, took = self.contexts, 0.0
        for _ in range(polls):
            poll = self.drawn()
            began = time.process_time()
            for name, attempt, outcome in poll:
                contexts.is_at_hand(name)
                contexts.begin(name)
                contexts.is_at_hand(name)
                attempt.context = contexts.of(name)
                contexts.next_of(name)
                contexts.note(name, attempt, outcome)
                contexts.left(name)
            took += time.process_time() - began
        return took / polls / POLL

    def look(self, conversation: Conversation) -> int:
        """Its window as chat models take it; how many messages that is."""
        return len(self.contexts.of(conversation).messages)

    def look_at_all(self, conversation: Conversation) -> int:
        """All forms of it, as services and programs get them."""
        return len(context_fields(self.contexts.of(conversation)))

    def interactions(self, conversation: Conversation) -> list[Interaction]:
        """All of it that is at hand."""
        self.contexts.of(conversation)
        held = self.contexts._held[conversation]  # noqa: SLF001  what a reading would bring
        assert held.view is not None
        return held.view.interactions


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def _quantiles(walls: Sequence[float]) -> list[float]:
    ordered = sorted(walls)
    return [round(ordered[int(len(ordered) * share)], 2) for share in (0.5, 0.99)]


def main(arguments: Sequence[str]) -> int:
    """Prints a row for each kind of work."""
    parser = argparse.ArgumentParser(prog="python -m console.bench_context", description=__doc__)
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--each", type=int, default=120, help="interactions of each conversation")
    given = parser.parse_args(arguments)
    calm_collector()
    rig = Rig(given.conversations)
    filling = rig.note(max(given.conversations * given.each // POLL, 1))
    rig.note(max(given.conversations * (FULL - given.each) // POLL, 1))
    full, call = rig.note(POLLS), rig.call(POLLS)
    kept = rig.interactions(rig.names[0])
    first = [_timed(partial(rig.look, name)) for name in rig.names[1:]]
    again = [_timed(partial(rig.look, name)) for name in rig.names[1:]]
    entire = [_timed(partial(rig.look_at_all, name)) for name in rig.names[1:]]
    one_more = []
    for name, attempt, outcome in rig.poll(rig.names[1:]):
        rig.contexts.note(name, attempt, outcome)
        one_more.append(_timed(partial(rig.look, name)))
    folds = [_timed(lambda: window(refold(kept[0].key, kept))) for _ in range(100)]
    out = Output()
    costs = [
        ["note, an interaction, while they fill", round(filling * US, 2)],
        ["note, an interaction, once they are full", round(full * US, 2)],
        ["a call whose agent does not look, all of it", round(call * US, 2)],
    ]
    out.table(["what", "cpu_us"], costs, "CPU-us")
    rows = [
        ["window, nothing new", *_quantiles(again)],
        ["the same in all forms, as a service gets it", *_quantiles(entire)],
        ["window, one interaction more", *_quantiles(one_more)],
        [f"window, {UNSEEN_MAX} not folded yet", *_quantiles(first)],
        [f"cold fold of {len(kept)} and window", *_quantiles(folds)],
    ]
    out.table(["what", "p50_ms", "p99_ms"], rows, f"{given.conversations} conversations of {given.each} interactions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
