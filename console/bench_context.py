"""What contexts cost a host: taking note of an interaction, and the window of a conversation that is at hand.

`python -m console.bench_context` has one agent answer in many conversations, each so often that its window is full,
and looks at windows in turn. `note` is what every interaction costs; `look` is paid only where an agent asks what was
said: a fold of what came since, and the window. `cold fold` is a memory of `--each` interactions folded anew, as after
a reading. CPU time of this process, in the least of three rounds, so that a busy machine shows little. I/O: the clock,
stdout.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from agents.context import Contexts
from agents.conversation import Conversation
from agents.dispatches import Attempt, Dispatched
from agents.inbox import Inbox
from agents.memory.fold import refold
from agents.memory.model import Interaction
from agents.memory.ports import Remembered
from agents.memory.window import window
from agents.outcome import COMPLETED, Outcome
from agents.recognition import AttemptId
from console.cli.output import Output
from schemas.topology import Agent, Route, Topology
from streams.transport.garbage import calm_collector

US, ROUNDS = 1e6, 3
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

    def __init__(self, conversations: int, each: int) -> None:
        self.contexts = Contexts(TOPOLOGY)
        self.names = [Conversation("a", 0, "acme", f"c{number}") for number in range(conversations)]
        inbox = Inbox("a", TOPOLOGY.topics().inbox("a"), 0, epoch=1)
        source = Dispatched(0, _NOTHING, _NOTHING, _NOTHING, [])
        first = Attempt(
            inbox,
            source,
            0,
            0,
            AttemptId("acme", "t", 1, "WORK"),
            "a",
            "",
            None,
            "all",
            None,
            0,
            0,
            0,
            [],
            None,
            "",
            None,
        )
        self.attempts = [
            [
                replace(first, id=AttemptId("acme", f"t{name}-{number}", 1, "WORK"), text=ASKED.format(number))
                for number in range(each)
            ]
            for name in range(conversations)
        ]
        self.outcomes = [Outcome(COMPLETED, ANSWERED.format(number), finished_at=number) for number in range(each)]

    def note_all(self) -> int:
        """Every conversation anew, its interactions in turn with those of others; how many there were."""
        for name in self.names:
            self.contexts.evict(name)
        self.contexts.forget("a", 0)
        for name in self.names:
            self.contexts.put(name, Remembered())
        note = self.contexts.note
        numbered = [outcome._replace(ordinal=number) for number, outcome in enumerate(self.outcomes, 1)]
        began = time.process_time()
        for number, outcome in enumerate(numbered):
            for name, attempts in zip(self.names, self.attempts, strict=True):
                note(name, attempts[number], outcome)
        self.took = time.process_time() - began
        return len(self.names) * len(self.outcomes)

    def look(self, conversation: Conversation) -> int:
        """Tokens of its window."""
        return self.contexts.of(conversation).tokens

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
    rig = Rig(given.conversations, given.each)
    notes = []
    for _ in range(ROUNDS):
        n = rig.note_all()
        notes.append(rig.took / n * US)
    kept = rig.interactions(rig.names[0])
    first = [_timed(partial(rig.look, name)) for name in rig.names[1:]]
    again = [_timed(partial(rig.look, name)) for name in rig.names[1:]]
    one_more = []
    for name, attempts in zip(rig.names[1:], rig.attempts[1:], strict=True):
        rig.contexts.note(name, replace(attempts[0], id=AttemptId("acme", f"next{name}", 1, "WORK")), rig.outcomes[0])
        one_more.append(_timed(partial(rig.look, name)))
    folds = [_timed(lambda: window(refold(kept[0].key, kept))) for _ in range(100)]
    out = Output()
    out.table(["what", "cpu_us"], [["note, an interaction", round(min(notes), 2)]], "CPU-us")
    rows = [
        ["window, nothing new", *_quantiles(again)],
        ["window, one interaction more", *_quantiles(one_more)],
        [f"window, {given.each} not folded yet", *_quantiles(first)],
        [f"cold fold of {len(kept)} and window", *_quantiles(folds)],
    ]
    out.table(["what", "p50_ms", "p99_ms"], rows, f"{given.conversations} conversations of {given.each} interactions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
