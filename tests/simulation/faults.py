"""What goes wrong in a simulated run, by the kind of run: who is killed, stopped or cut off, where and when.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from tests.simulation.wire import Weather

FAULTS_S = 10.0
"""From here on nothing goes wrong any more."""


class Fault(NamedTuple):
    """`act` names a method of tests.simulation.run.Run."""

    at: float
    act: str
    slot: int = 0
    for_s: float = 0.0
    point: str = ""

    def __str__(self) -> str:
        at = f"at point {self.point}, from {self.at:.2f} s on" if self.point else f"at {self.at:.2f} s"
        lasting = f" for {self.for_s:.2f} s" if self.for_s else ""
        return f"{self.act} {self.slot}{lasting} {at}"


POINTS = (
    *("produce", "produced", "commit", "committed", "poll", "polled", "ask", "produce-poll"),
    *("appended", "acknowledged", "transaction", "transacted"),
)
"""Where a process may be killed: around each client call, and when its records have come to the broker, or it has heard
that they have."""


def _calm(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    return [Fault(rng.uniform(2.0, FAULTS_S), "stop", rng.randrange(slots)) for _ in range(rng.randint(0, 2))]


def _crashes(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Killed at any time, and at any place."""
    found = []
    for _ in range(rng.randint(1, 4)):
        at = rng.uniform(0.1, 1.5) if rng.random() < 0.3 else rng.uniform(0.3, FAULTS_S)
        point = rng.choice(POINTS) if rng.random() < 0.7 else ""
        found.append(Fault(at, "kill", rng.randrange(slots), point=point))
    return found


def _early(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Killed as soon as anything of theirs is in the logs; the tasks are there before them."""
    points = ("appended", "acknowledged", "committed", "produced")
    return [Fault(0.0, "kill", slot, point=rng.choice(points)) for slot in range(slots)]


def _moves(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Processes come and go."""
    found = [Fault(rng.uniform(1.0, 6.0), "add_worker"), Fault(rng.uniform(1.0, 8.0), "stop", rng.randrange(slots))]
    if rng.random() < 0.5:
        found.append(Fault(rng.uniform(1.0, 6.0), "add_host"))
    if rng.random() < 0.6:
        found.append(Fault(rng.uniform(4.0, FAULTS_S), "retire", slots))
    return found + (_crashes(rng, slots, weather)[:1] if rng.random() < 0.5 else [])


def _outages(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """The broker is gone for a while, and answers get lost."""
    weather.lost_answers_share = rng.choice((0.0, 0.05, 0.2))
    found = [Fault(rng.uniform(0.5, 6.0), "outage", for_s=rng.choice((0.3, 1.5, 4.0, 9.0)))]
    return found + (_crashes(rng, slots, weather)[:2] if rng.random() < 0.5 else [])


def _refusals(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """The broker does not take what is written to some topics."""
    return [
        Fault(rng.uniform(0.5, 6.0), "refuse", rng.randrange(9), for_s=rng.choice((0.4, 2.0)))
        for _ in range(rng.randint(1, 4))
    ]


def _stuck(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Writes take seconds, and partitions move meanwhile."""
    weather.stuck_share = 0.3
    found = [Fault(rng.uniform(0.5, 6.0), "pause", rng.randrange(slots), for_s=rng.choice((6.5, 7.0)))]
    found += [Fault(rng.uniform(1.0, 6.0), rng.choice(("add_worker", "stop", "retire")), rng.randrange(slots))]
    return found[rng.randrange(2) :]


def _late(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Partitions move while what was written for them has come to the broker, and is not in the log yet."""
    weather.late_share, weather.stuck_share, weather.stuck_max_s = 0.7, 0.5, 3.0
    found = [Fault(rng.uniform(0.8, 6.0), rng.choice(("stop", "add_worker")), 0) for _ in range(3)]
    return [*found, Fault(rng.uniform(4.0, 8.0), "stop", 1)]


def _regained(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """The only worker is stopped, for longer than its session, when it has just sent something, which takes seconds."""
    weather.stuck_share = 0.6
    return [Fault(rng.uniform(0.3, 3.0), "pause", 0, rng.uniform(6.1, 7.5), rng.choice(("produced", "acknowledged")))]


def _turns(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Connections are cut, answers get lost, leaders move; and processes are killed or stopped, partitions move, the
    broker is gone, in the midst of it."""
    weather.cut_share, weather.lost_answers_share, weather.moves_share = (
        rng.choice((0.0, 0.1, 0.3)),
        rng.choice((0.0, 0.1, 0.3)),
        rng.choice((0.0, 0.05, 0.2)),
    )
    if rng.random() < 0.3:
        weather.late_share = 0.3
    makers = (_crashes, _moves, _pauses, _outages, _refusals, _calm)
    lost_answers_share = weather.lost_answers_share
    found = rng.choice(makers)(rng, slots, weather)[:3]
    weather.lost_answers_share = max(lost_answers_share, weather.lost_answers_share)
    return found


def _halves(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """All tasks have panels, and workers are told to stop, or killed, again and again: some seats have answered by
    then, some have not."""
    acts = ("stop", "stop", "stop", "kill")
    return [Fault(at + rng.uniform(-0.4, 0.4), rng.choice(acts), rng.randrange(2)) for at in (1.2, 2.4, 3.6, 4.8, 6.0)]


def _pauses(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Processes are stopped and resumed: for less than their session, or for longer."""
    found = []
    for _ in range(rng.randint(1, 2)):
        at, slot, for_s = rng.uniform(0.3, 6.0), rng.randrange(slots), rng.choice((0.5, 3.0, 7.0, 9.0, 12.0))
        found.append(Fault(at, "pause", slot, for_s, rng.choice(POINTS) if rng.random() < 0.6 else ""))
    return found


def _doubts(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """A host is stopped, for longer than its session, when it is about to say that it begins to write."""
    point = "produce agents.scribe.events.v1"
    pauses = [Fault(0.1, "pause", slot, rng.choice((6.5, 7.0, 9.0)), point) for slot in range(slots)]
    return [*pauses, Fault(rng.uniform(0.5, 4.0), "add_host")]


def _full(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Inboxes go and come back while their host has all that it can hold, and has paused them."""
    away = rng.choice(("outage", "pause"))
    at, for_s = rng.uniform(1.5, 4.0), rng.choice((7.0, 9.0))
    hosts = [Fault(at, away, slot, for_s) for slot in range(slots if away == "pause" else 1)]
    return [*hosts, Fault(rng.uniform(1.5, 6.0), "add_host")][: len(hosts) + rng.randrange(2)]


def _writes(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """All tasks are for an agent that writes, and come while processes are killed, or told to stop, again and again."""
    found = [Fault(at, "kill", rng.randrange(slots)) for at in (1.5, 3.0, 4.5) for _ in range(rng.randint(1, 2))]
    found += [Fault(at, "stop", rng.randrange(1, slots)) for at in (1.0, 2.0, 3.0, 4.0)]
    return [fault._replace(at=fault.at + rng.uniform(-0.7, 0.7)) for fault in found]


def _zombies(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """A host is stopped, for longer than its session, when it is about to say what came of a call."""
    point = "produce agents.alpha.events.v1"
    pauses = [Fault(rng.uniform(0.5, 3.0), "pause", slot, rng.uniform(6.1, 8.0), point) for slot in range(slots)]
    return [*pauses, Fault(rng.uniform(0.5, 3.0), "add_host")]


def _deals(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Hosts come one soon after the other, and some hear late what they got: a group deals its inboxes out anew before
    all have heard, and what was at stake for one is another's for a while. All tasks are for an agent that writes."""
    weather.dealt_late_share = 0.5
    return [Fault(rng.uniform(0.3, 6.0), rng.choice(("add_host", "add_host", "retire")), slots) for _ in range(6)]


def _store(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """Stores are killed around their inserts and commits, stopped, started anew; ClickHouse is away for a while."""
    last = slots - 1
    found = []
    for _ in range(rng.randint(1, 4)):
        point = rng.choice(("insert", "stored", "inserted", "commit", "committed", "poll", ""))
        found.append(Fault(rng.uniform(0.3, 6.0), "kill", last, point=point))
    if rng.random() < 0.5:
        found.append(Fault(rng.uniform(0.5, 6.0), "store_outage", for_s=rng.choice((0.5, 3.0, 6.0))))
    if rng.random() < 0.3:
        found.append(Fault(rng.uniform(0.5, 4.0), "pause", last, rng.choice((1.0, 7.0)), rng.choice(("", "inserted"))))
    if rng.random() < 0.5:
        found.append(Fault(rng.uniform(1.0, 8.0), rng.choice(("stop", "add_store")), last))
    return found


def _takeovers(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """A worker is stopped in the midst of a transaction, for longer than its session: another one takes over."""
    points = ("transaction", "transacted", "produced", "produced", "produced", "begin")
    pauses = [
        Fault(rng.uniform(0.5, 5.0), "pause", slot, rng.uniform(6.02, 7.5), rng.choice(points)) for slot in (0, 1)
    ]
    return [*pauses, Fault(rng.uniform(0.5, 6.0), "add_worker")]


def _absent(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    """All hosts are gone, for longer than any task may take: workers alone end what was asked."""
    return [Fault(rng.uniform(0.3, 4.0), "lose_hosts", for_s=25.0)]


def _everything(rng: Random, slots: int, weather: Weather) -> list[Fault]:
    makers = (_calm, _crashes, _moves, _outages, _pauses, _refusals, _stuck)
    return [fault for make in rng.sample(makers, 3) for fault in make(rng, slots, weather)[:2]]


Maker = Callable[[Random, int, Weather], list[Fault]]
PROFILES: Mapping[str, tuple[int, Maker]] = {
    "calm": (1, _calm),
    "crashes": (6, _crashes),
    "moves": (3, _moves),
    "deals": (1, _deals),
    "outages": (3, _outages),
    "pauses": (3, _pauses),
    "refusals": (1, _refusals),
    "stuck": (2, _stuck),
    "turns": (4, _turns),
    "halves": (1, _halves),
    "late": (1, _late),
    "regained": (1, _regained),
    "takeovers": (2, _takeovers),
    "store": (2, _store),
    "absent": (1, _absent),
    "doubts": (1, _doubts),
    "writes": (1, _writes),
    "full": (1, _full),
    "zombies": (1, _zombies),
    "early": (1, _early),
    "everything": (2, _everything),
}
