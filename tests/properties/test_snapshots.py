"""The laws of snapshots: with the rest of the log they give what the whole log gives, or they are refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import assume, given
from hypothesis import strategies as st

from agents.memory.canonical import state_bytes, state_of
from agents.memory.fold import fold, refold, resolve
from agents.memory.model import RECENT, Diverged, Interaction, Key, State
from agents.memory.rebuild import Rebuild
from agents.memory.snapshot import (
    Found,
    Part,
    Position,
    Refused,
    Snapshot,
    memory_hash,
    newest,
    of_record,
    pack,
    to_record,
    unpack,
)
from schemas.epochs import LogEpochs
from tests.support.examples import examples
from tests.support.memories import interaction

AGENT, PARTITION = "planner", 3
KEYS = [Key("acme", AGENT, f"c{number}") for number in range(3)]
PART_BYTES = 300


@dataclass(frozen=True)
class Event:
    """One record of the log: a claim, or an outcome of the host with that epoch."""

    epoch: int
    of: Interaction | None = None


@dataclass
class Host:
    """Folds what it writes and what it has read, as the owner of the log or as one that was."""

    epoch: int
    states: dict[Key, State] = field(default_factory=dict)

    def fold(self, each: Interaction) -> None:
        self.states[each.key] = fold(self.states.get(each.key, State(each.key)), each)


def folded(log: Sequence[Event], states: Mapping[Key, State] | None = None, begin: int = 0) -> dict[Key, State]:
    """What a reader of the log makes of it from `begin` on, without what is void."""
    epochs, host = LogEpochs(), Host(0, dict(states or {}))
    for offset, event in enumerate(log):
        epochs.note(offset, event.epoch)
        if offset >= begin and event.of is not None and not epochs.is_void(offset, event.epoch):
            host.fold(event.of)
    return host.states


def epochs_of(log: Sequence[Event]) -> LogEpochs:
    epochs = LogEpochs()
    for offset, event in enumerate(log):
        epochs.note(offset, event.epoch)
    return epochs


def snapshot_of(states: Mapping[Key, State], epoch: int, log_offset: int) -> list[Part]:
    held = {key: state_bytes(state) for key, state in states.items()}
    return pack(Snapshot(AGENT, PARTITION, epoch, Position(0, log_offset), held, "1+abc"), PART_BYTES)


def found_in(parts: Sequence[Part], log: Sequence[Event]) -> Found:
    return newest(parts, AGENT, PARTITION, epochs_of(log), range(len(log)))


def recovered(parts: Sequence[Part], log: Sequence[Event]) -> dict[Key, State]:
    """What the next host begins with: the newest snapshot that holds, and the rest of the log."""
    snapshot = found_in(parts, log).snapshot
    if snapshot is None:
        return folded(log)
    return folded(log, {key: state_of(data) for key, data in snapshot.states.items()}, snapshot.position.log)


@dataclass
class Story:
    """A log in which hosts follow each other, and what they wrote of snapshots meanwhile.

    A host that lost the log goes on for a while: what it writes is void. It takes a snapshot only with the broker's
    word that the log is still its own, so it takes none then; its last one may come late, behind its successor's claim.
    """

    log: list[Event] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    late: list[Part] = field(default_factory=list)
    counts: dict[Key, int] = field(default_factory=dict)

    def owner(self, epoch: int) -> Host:
        self.log.append(Event(epoch))
        return Host(epoch, folded(self.log))

    def writes(self, host: Host, key: Key, number: int) -> None:
        held = host.states.get(key)
        ordinal = held.count + 1 if held else 1
        each = interaction(ordinal, key, epoch=host.epoch, facts=(f"fact {number}",) if number % 4 == 0 else ())
        each = replace(each, task_id=f"{key.conversation_id}-{number}-{host.epoch}")
        host.fold(each)
        self.log.append(Event(host.epoch, each))


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2)),
    st.tuples(st.just("write"), st.integers(0, 2)),
    st.tuples(st.just("snapshot"), st.integers(0, 12)),
    st.tuples(st.just("late snapshot"), st.integers(0, 3)),
    st.tuples(st.just("take over"), st.integers(0, 4)),
)
stories = st.lists(steps, min_size=1, max_size=40)


def told(script: Sequence[tuple[str, int]]) -> Story:
    story = Story()
    host = story.owner(1)
    for number, (what, n) in enumerate(script):
        if what == "write":
            story.writes(host, KEYS[n], number)
        elif what == "snapshot":
            # It may be killed after any of its records.
            story.parts += snapshot_of(host.states, host.epoch, len(story.log))[:n]
        elif what == "late snapshot":
            # The end of the log was asked for before, and more was written since: less is said than is true.
            story.late += snapshot_of(host.states, host.epoch, max(len(story.log) - n, host_begins(story, host)))
        else:
            before, host = host, story.owner(host.epoch + 1)
            for zombie in range(n):
                story.writes(before, KEYS[zombie % 3], 1_000 + zombie)
    return story


def host_begins(story: Story, host: Host) -> int:
    """The offset behind its claim."""
    return max(offset for offset, event in enumerate(story.log) if event == Event(host.epoch)) + 1


@examples(60)
@given(stories, st.randoms(use_true_random=False))
def test_snapshot_and_tail_are_the_full_fold_whoever_crashed_when(script: list[tuple[str, int]], order: object) -> None:
    story = told(script)
    parts = [*story.parts, *story.late]
    order.shuffle(parts)  # type: ignore[attr-defined]
    expected = folded(story.log)
    assert recovered(parts, story.log) == expected
    assert memory_hash(recovered(parts, story.log)) == memory_hash(expected)


@examples(60)
@given(stories, st.randoms(use_true_random=False))
def test_the_newer_epoch_wins_in_whatever_order_the_hosts_write(script: list[tuple[str, int]], order: object) -> None:
    story = told(script)
    parts = [*story.parts, *story.late]
    whole = [each for each in parts if not isinstance(unpack([p for p in parts if p.head == each.head]), Refused)]
    assume(whole)
    order.shuffle(parts)  # type: ignore[attr-defined]
    snapshot = found_in(parts, story.log).snapshot
    assert snapshot is not None
    assert (snapshot.epoch, snapshot.position.log) == max((each.epoch, each.log_offset) for each in whole)


@examples(60)
@given(stories, st.data())
def test_a_snapshot_of_a_host_that_lost_the_log_is_refused(script: list[tuple[str, int]], data: st.DataObject) -> None:
    story = told([*script, ("take over", 3), ("write", 0)])
    zombie = data.draw(st.integers(1, story.log[-1].epoch - 1))
    begins = max(offset for offset, event in enumerate(story.log) if event.of is None)
    at = data.draw(st.integers(begins + 1, len(story.log)))
    found = found_in(snapshot_of({KEYS[0]: State(KEYS[0])}, zombie, at), story.log)
    assert (found.snapshot, [why for _, why in found.refused]) == (None, [Refused.EPOCH])


@examples(60)
@given(stories, st.data())
def test_whatever_is_changed_in_a_record_it_is_refused(script: list[tuple[str, int]], data: st.DataObject) -> None:
    story = told([*script, ("write", 1)])
    parts = snapshot_of(folded(story.log), story.log[-1].epoch, len(story.log))
    which = data.draw(st.integers(0, len(parts) - 1))
    name = data.draw(
        st.sampled_from(["data", "log_offset", "inbox_offset", "epoch", "states", "agent_version", "parts"])
    )
    value = getattr(parts[which], name)
    if isinstance(value, bytes):
        at = data.draw(st.integers(0, len(value) - 1))
        changed: object = value[:at] + bytes([value[at] ^ data.draw(st.integers(1, 255))]) + value[at + 1 :]
    else:
        changed = f"{value}!" if isinstance(value, str) else max(value - 1, 0) if value else value + 1
    parts[which] = parts[which]._replace(**{name: changed})  # type: ignore[arg-type]
    found = found_in(parts, story.log)
    assert found.snapshot is None
    assert found.refused
    assert recovered(parts, story.log) == folded(story.log), "the log is still there"


def test_one_that_stands_for_more_than_the_log_has_is_refused_and_so_is_another_agents() -> None:
    story = told([("write", 0), ("write", 1)])
    states = folded(story.log)
    beyond = snapshot_of(states, 1, len(story.log) + 1)
    foreign = [each._replace(agent_id="other") for each in snapshot_of(states, 1, len(story.log))]
    for parts, why in ((beyond, Refused.BEYOND), (foreign, Refused.FOREIGN), (beyond[:-1], Refused.BEYOND)):
        assert [each for _, each in found_in(parts, story.log).refused] == [why]
    cut = newest(snapshot_of(states, 1, 1), AGENT, PARTITION, epochs_of(story.log), range(2, len(story.log)))
    assert [each for _, each in cut.refused] == [Refused.GAP]
    other = [each._replace(format=each.format + 1) for each in snapshot_of(states, 1, len(story.log))]
    assert unpack(other) is Refused.FORMAT
    assert unpack([]) is Refused.INCOMPLETE


def test_an_agent_without_memories_has_a_snapshot_too() -> None:
    (part,) = pack(Snapshot(AGENT, PARTITION, 1, Position(4, 1), {}), PART_BYTES)
    found = unpack([part])
    assert isinstance(found, Snapshot)
    assert (found.states, found.position) == ({}, Position(4, 1))


@examples(25)
@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 5), st.data())
def test_a_rebuild_gives_what_a_host_holds_that_was_never_away(
    writes: list[int], rounds: int, data: st.DataObject
) -> None:
    story = told([("write", number) for number in writes * rounds])
    events = [event.of for event in story.log if event.of is not None]
    if data.draw(st.booleans()):  # a log of hosts that did not count
        events = [replace(each, ordinal=0) for each in events]
    expected = folded(story.log)
    whole = Rebuild()
    at = data.draw(st.integers(0, len(events)))
    for each in events:
        whole.take(each)
    assert (whole.states(), whole.hash(), whole.cold) == (expected, memory_hash(expected), set())
    before = Rebuild()
    for each in events[:at]:
        before.take(each)
    rest = Rebuild(Snapshot(AGENT, PARTITION, 1, Position(0, 0), before.state_bytes()))
    again = data.draw(st.integers(max(at - RECENT, 0), at))  # copies change nothing
    for each in events[again:]:
        rest.take(each)
    assert rest.hash() == whole.hash()


def test_a_conversation_that_began_before_the_log_is_cold() -> None:
    rebuild = Rebuild(Snapshot(AGENT, PARTITION, 1, Position(0, 0), {}))
    for number in (200, 201):
        rebuild.take(interaction(number, KEYS[0]))
    rebuild.take(interaction(1, KEYS[1]))
    assert (rebuild.cold, set(rebuild.states())) == ({KEYS[0]}, {KEYS[1]})


def test_a_long_conversation_keeps_its_facts() -> None:
    rebuild, state = Rebuild(), State(KEYS[0])
    for number in range(1, 400):
        each = interaction(number, KEYS[0], facts=(f"fact {number}",) if number % 50 == 1 else ())
        rebuild.take(each)
        state = fold(state, each)
    assert rebuild.states() == {KEYS[0]: state}
    assert len(state.facts) == 8


def test_a_record_is_its_part_and_nothing_else_is() -> None:
    (part,) = pack(Snapshot(AGENT, PARTITION, 1, Position(4, 1), {KEYS[0]: state_bytes(State(KEYS[0]))}), 1_000)
    assert of_record(to_record(part)) == part
    wrong = (b"", b"{}", b"[1]\nx", b"{\xff", to_record(part).replace(b'"epoch":1', b'"epoch":"1"'))
    assert [of_record(each) for each in wrong] == [None] * 5


@st.composite
def successions(draw: st.DrawFn) -> list[Interaction]:
    """One conversation in its log: each host may know fewer interactions than there are, and counts on from there."""
    written: list[Interaction] = []
    count = 0
    for epoch in range(1, draw(st.integers(1, 3)) + 1):
        count = max(count - draw(st.integers(0, 12)), 0)
        for _ in range(draw(st.integers(1, 30))):
            count += 1
            each = interaction(count, KEYS[0], epoch=epoch, facts=(f"fact {epoch}.{count}",) if count % 4 == 0 else ())
            again = draw(st.booleans()) and count % 7 == 0  # of an attempt that it did not know, or knew no longer
            written.append(each if again else replace(each, task_id=f"t{count}-{epoch}"))
    return written


@examples(60)
@given(successions(), st.data())
def test_a_rebuild_of_a_log_that_hosts_counted_differently_is_what_the_newest_knows_or_contradicts_the_snapshot(
    written: list[Interaction], data: st.DataObject
) -> None:
    expected = {KEYS[0]: refold(KEYS[0], written)}
    whole, before = Rebuild(), Rebuild()
    for each in written:
        whole.take(each)
    assert whole.states() == expected
    at = data.draw(st.integers(0, len(written)))
    for each in written[:at]:
        before.take(each)
    rest = Rebuild(Snapshot(AGENT, PARTITION, 1, Position(0, 0), before.state_bytes()))
    try:
        for each in written[at:]:
            rest.take(each)
    except Diverged:
        counted = resolve(written[:at])[-1].ordinal
        assert min(each.ordinal for each in written[at:]) <= counted, "nobody wrote in the place of another"
    else:
        assert rest.states() == expected
