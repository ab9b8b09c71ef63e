"""Consumer groups of the in-memory broker: members, generations, the range assignor, and committed offsets.

The classic protocol, with joining and syncing as one step, and static members. Sources: KIP-62, KIP-345 and the
broker's GroupCoordinator. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka as ck

from tests.simulation.world import Event, World

FIRST_JOIN_S = 0.05
"""How long an empty group waits for further members."""

NO_GENERATION = -1

Offsets = dict[tuple[str, int], tuple[int, str]]
Assigned = Callable[[int, list[tuple[str, int]]], None]


@dataclass(slots=True, eq=False)
class Member:
    """`joined` is told generation and partitions once the group has agreed; None while it has not asked to join."""

    id: str
    owner: str
    topics: tuple[str, ...]
    session_s: float
    rebalance_s: float
    joined: Assigned | None = None
    seen_at: float = 0.0
    assigned: list[tuple[str, int]] = field(default_factory=list)
    instance: str = ""


class Group:
    """`partitions` gives the number of partitions of a topic; nobody expires while the broker is not up."""

    def __init__(
        self, world: World, name: str, partitions: Callable[[str], int], is_up: Callable[[], bool] = lambda: True
    ) -> None:
        self._world, self.name, self._partitions, self._is_up = world, name, partitions, is_up
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.offsets: Offsets = {}
        self.pending: dict[int, Offsets] = {}
        """By the number of a transactional producer: committed when its transaction is."""
        self.is_stable = True
        self._fenced: set[str] = set()
        self._expelled: dict[str, set[tuple[str, int]]] = {}
        """Processes that the group has thrown out, with the partitions that they were given anew since then."""
        self._deadline: Event | None = None
        self._made = 0
        self.watchers: list[Callable[[Group, Mapping[tuple[str, int], tuple[int, str]]], None]] = []
        self.on_agreed: list[Callable[[Iterable[tuple[str, int]]], None]] = []
        """Told of what each generation gives to its members, all of them together."""

    def join(
        self,
        member_id: str,
        owner: str,
        topics: Iterable[str],
        session_s: float,
        rebalance_s: float,
        joined: Assigned,
        instance: str = "",
    ) -> str:
        """The member's id; a new one, where it has none or is not known any more. `owner` names its process.

        A static member that comes back has what its former self had, and where nothing else goes on, at once.
        """
        was_empty = not self.members
        former = next((each for each in self.members.values() if instance and each.instance == instance), None)
        if former is not None and former.id != member_id:
            self._replace(former, owner, tuple(topics), joined)
            return former.id
        member = self.members.get(member_id)
        if member is None:
            self._made += 1
            member = Member(
                f"{self.name}-{self._made}", owner, tuple(topics), session_s, rebalance_s, instance=instance
            )
            self.members[member.id] = member
        member.topics, member.joined = tuple(topics), joined
        self._see(member)
        self._prepare(FIRST_JOIN_S if was_empty else 0.0)
        return member.id

    def _replace(self, member: Member, owner: str, topics: tuple[str, ...], joined: Assigned) -> None:
        """A new member id, so that whatever still comes from the former one is refused."""
        del self.members[member.id]
        if member.owner != owner:
            self._expelled[member.owner] = set()
        self._fenced.add(member.id)
        self._made += 1
        member.id, member.owner, member.topics, member.joined = f"{self.name}-{self._made}", owner, topics, joined
        self.members[member.id] = member
        self._see(member)
        if not self.is_stable:
            self._prepare(0.0)
            return
        self._world.note(self.name, f"{owner} comes back in generation {self.generation}")
        member.joined = None
        joined(self.generation, member.assigned)

    def has_expelled(self, owner: str, tp: tuple[str, int]) -> bool:
        """Whether this process was thrown out, may not know it yet, and does not own the partition any more."""
        given = self._expelled.get(owner)
        return given is not None and tp not in given

    def heartbeat(self, member_id: str, generation: int) -> int:
        """An error code of Kafka's, 0 for none."""
        member = self.members.get(member_id)
        if member is None:
            return self._unknown(member_id)
        if generation != self.generation:
            return int(ck.KafkaError.ILLEGAL_GENERATION)
        self._see(member)
        return 0 if self.is_stable else int(ck.KafkaError.REBALANCE_IN_PROGRESS)

    def leave(self, member_id: str) -> None:
        if self.members.pop(member_id, None) is not None:
            self._prepare(0.0)

    def vacate(self, instance: str) -> None:
        """Whoever sits in this place leaves."""
        for member_id in [each.id for each in self.members.values() if each.instance == instance]:
            self.leave(member_id)

    def commit(self, member_id: str, generation: int, offsets: Offsets) -> int:
        """An error code, 0 for none: then the offsets are committed."""
        error = self.refusal(member_id, generation)
        if error == 0:
            self.store(offsets)
        return error

    def refusal(self, member_id: str, generation: int, *, in_transaction: bool = False) -> int:
        """Why the group takes no offsets from this member, 0 where it does. In a transaction it takes them from
        whoever does not say which member it is, as before KIP-447."""
        if member_id == "" and generation == NO_GENERATION:
            return int(ck.KafkaError.UNKNOWN_MEMBER_ID) if self.members and not in_transaction else 0
        member = self.members.get(member_id)
        if member is None:
            return self._unknown(member_id)
        if generation != self.generation:
            return int(ck.KafkaError.ILLEGAL_GENERATION)
        self._see(member)
        return 0

    def _unknown(self, member_id: str) -> int:
        is_fenced = member_id in self._fenced
        return int(ck.KafkaError.FENCED_INSTANCE_ID if is_fenced else ck.KafkaError.UNKNOWN_MEMBER_ID)

    def store(self, offsets: Offsets) -> None:
        for watcher in self.watchers:
            watcher(self, offsets)
        self.offsets.update(offsets)

    def see_all(self) -> None:
        """A coordinator that starts gives everyone a whole session."""
        for member in self.members.values():
            self._see(member)

    def _see(self, member: Member) -> None:
        member.seen_at = self._world.now
        self._world.at(member.session_s, lambda: self._expire(member))

    def _expire(self, member: Member) -> None:
        if self.members.get(member.id) is not member:
            return
        idle_s = self._world.now - member.seen_at
        # A member that waits for the others to join is not expected to say anything.
        waits = member.joined is not None and not self.is_stable
        is_idle = idle_s >= member.session_s - 1e-6 and not waits and self._is_up()
        if is_idle:
            self._world.note(self.name, f"{member.owner} has expired")
            self._expelled[member.owner] = set()
            self.leave(member.id)

    def _prepare(self, wait_s: float) -> None:
        self.is_stable = False
        if self._deadline is None:
            longest = max((member.rebalance_s for member in self.members.values()), default=0.0)
            self._deadline = self._world.at(longest, self._give_up_waiting)
        self._world.at(wait_s, self._complete_if_all_are_here)

    def _complete_if_all_are_here(self) -> None:
        if not self.is_stable and all(member.joined is not None for member in self.members.values()):
            self._complete()

    def _give_up_waiting(self) -> None:
        if not self._is_up():
            self._deadline = self._world.at(1.0, self._give_up_waiting)
            return
        for member in [each for each in self.members.values() if each.joined is None]:
            self._world.note(self.name, f"{member.owner} did not join in time")
            self._expelled[member.owner] = set()
            del self.members[member.id]
        self._complete()

    def _complete(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.is_stable = True
        self.generation += 1
        shares = self._shares()
        for told in self.on_agreed:
            told([tp for share in shares.values() for tp in share])
        shown = {member.owner: [number for _, number in shares[member.id]] for member in self.members.values()}
        self._world.note(self.name, f"generation {self.generation}: {shown}")
        for member in self.members.values():
            member.assigned, joined = shares[member.id], member.joined
            if member.owner in self._expelled:
                self._expelled[member.owner].update(member.assigned)
            member.joined = None
            self._see(member)
            if joined is not None:
                joined(self.generation, member.assigned)

    def _shares(self) -> dict[str, list[tuple[str, int]]]:
        """The range assignor: of each topic, consecutive partitions, the first members one more where it does not
        come out even."""
        shares: dict[str, list[tuple[str, int]]] = {member: [] for member in self.members}
        for topic in sorted({topic for member in self.members.values() for topic in member.topics}):
            readers = sorted(member.id for member in self.members.values() if topic in member.topics)
            size, more = divmod(self._partitions(topic), len(readers))
            start = 0
            for place, member_id in enumerate(readers):
                count = size + (place < more)
                shares[member_id] += [(topic, number) for number in range(start, start + count)]
                start += count
        return shares


def found(group: Group, tps: Sequence[Any]) -> list[tuple[int, str]]:
    """Committed offset and metadata of each."""
    return [group.offsets.get((tp.topic, tp.partition), (-1001, "")) for tp in tps]
