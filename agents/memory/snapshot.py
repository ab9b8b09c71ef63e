"""All memories of one partition of an agent at one position of its log, as records that prove themselves.

A snapshot is the canonical bytes of every state (`agents.memory.canonical`), their hash, the position that they stand
for, and the epoch of the host that folded them. It goes over several records, each of which bears the head; whoever
takes the partition over takes the newest that is whole, fits its own hash, and was written by the owner of its time.
Anything else is refused, by name: the log is the truth, and a snapshot only saves reading it. I/O: none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, get_type_hints

from agents.memory.canonical import FORMAT as STATE_FORMAT
from agents.memory.canonical import digest, key_of, state_bytes
from agents.memory.model import Key, State
from schemas.epochs import LogEpochs

FORMAT = 1
RAW_BYTES_MAX = 1 << 30
"""What one may hold, unpacked: nobody is to be made to allocate more by a few bytes."""

_LEVEL = 1  # states are text, much of it alike: a higher level costs more than it saves


class Refused(StrEnum):
    """Why a snapshot is not taken."""

    INCOMPLETE = "INCOMPLETE"  # parts are missing: its host died, or is still at it
    FORMAT = "FORMAT"  # another version's
    HASH = "HASH"  # its bytes are not those that were hashed
    FOREIGN = "FOREIGN"  # another agent's or partition's, or a memory in it is another's than it is said to be
    EPOCH = "EPOCH"  # its writer did not own the log at that position
    BEYOND = "BEYOND"  # it stands for events that the log does not have
    GAP = "GAP"  # what came after it is not in the log any more
    DIVERGED = "DIVERGED"  # the log has other interactions in the place of those that it holds


class Position(NamedTuple):
    """Offsets behind the last record that is in: of the inbox, the first dispatch whose outcome is not."""

    inbox: int
    log: int


class Part(NamedTuple):
    """One record. All parts of a snapshot have the same head, which is all but `part` and `data`."""

    agent_id: str
    partition: int
    epoch: int
    inbox_offset: int
    log_offset: int
    agent_version: str
    format: int
    states: int
    raw_bytes: int
    state_hash: str
    hash: str
    parts: int
    part: int
    data: bytes

    @property
    def head(self) -> tuple[object, ...]:
        return self[:-2]


_KINDS = get_type_hints(Part)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`states` are canonical bytes by key: a state is read out of them when it is wanted first. Those that were used
    last come last."""

    agent_id: str
    partition: int
    epoch: int
    position: Position
    states: Mapping[Key, bytes]
    agent_version: str = ""


def hash_of(states: Mapping[Key, bytes]) -> str:
    """What two hosts that hold the same memories agree in, wherever each began to fold."""
    return digest(b"".join(_lines(dict(sorted(states.items())))))


def memory_hash(states: Mapping[Key, State]) -> str:
    """As `hash_of`."""
    return hash_of({key: state_bytes(state) for key, state in states.items()})


def to_record(part: Part) -> bytes:
    """One line of JSON, the head, and the data behind it."""
    fields = part._replace(data=b"")._asdict()
    del fields["data"]
    line = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return line + b"\n" + part.data


def of_record(value: bytes) -> Part | None:
    """None for what is no part of a snapshot."""
    line, _, data = value.partition(b"\n")
    try:
        part = Part(**json.loads(line), data=data)
    except (ValueError, TypeError):
        return None
    return part if all(type(each) is _KINDS[name] for name, each in part._asdict().items()) else None


def pack(snapshot: Snapshot, part_bytes_max: int) -> list[Part]:
    """The records of a snapshot, at least one."""
    content = b"".join(_lines(snapshot.states))
    data = zlib.compress(content, _LEVEL)
    pieces = [data[at : at + part_bytes_max] for at in range(0, len(data), part_bytes_max)]
    head = Part(
        snapshot.agent_id,
        snapshot.partition,
        snapshot.epoch,
        *snapshot.position,
        snapshot.agent_version,
        FORMAT * 1_000 + STATE_FORMAT,
        len(snapshot.states),
        len(content),
        hash_of(snapshot.states),
        "",
        len(pieces),
        0,
        b"",
    )
    head = head._replace(hash=_seal(head))
    return [head._replace(part=number, data=piece) for number, piece in enumerate(pieces)]


def unpack(parts: Iterable[Part]) -> Snapshot | Refused:
    """The snapshot that these records of one head are, or why they are none."""
    by_number = {each.part: each for each in parts}
    if not by_number:
        return Refused.INCOMPLETE
    head = next(iter(by_number.values()))
    if by_number.keys() != set(range(head.parts)):
        return Refused.INCOMPLETE
    if head.format != FORMAT * 1_000 + STATE_FORMAT:
        return Refused.FORMAT
    if head.hash != _seal(head) or not 0 <= head.raw_bytes <= RAW_BYTES_MAX:
        return Refused.HASH
    content = _inflated(b"".join(by_number[number].data for number in range(head.parts)), head.raw_bytes)
    if content is None:
        return Refused.HASH
    try:
        states = dict(_line(line) for line in content.splitlines())
    except (ValueError, TypeError):
        return Refused.HASH
    if len(states) != head.states or hash_of(states) != head.state_hash:
        return Refused.HASH
    if not all(key.agent_id == head.agent_id and key_of(data) == key for key, data in states.items()):
        return Refused.FOREIGN
    position = Position(head.inbox_offset, head.log_offset)
    return Snapshot(head.agent_id, head.partition, head.epoch, position, states, head.agent_version)


class Found(NamedTuple):
    """The snapshot to begin with, None where there is none that may be trusted; those that were refused; and one of the
    records of the one that was not."""

    snapshot: Snapshot | None
    refused: tuple[tuple[Part, Refused], ...] = ()
    head: Part | None = None


def newest(parts: Iterable[Part], agent_id: str, partition: int, epochs: LogEpochs, log: range) -> Found:
    """The newest snapshot of this log that holds, among records in any order, with copies, of several epochs.

    `epochs` is what is known of the log's claims, `log` the offsets that it holds. The newer epoch wins; within one,
    the later position.
    """
    groups: dict[tuple[object, ...], list[Part]] = {}
    for each in parts:
        groups.setdefault(each.head, []).append(each)
    refused: list[tuple[Part, Refused]] = []
    for group in sorted(groups.values(), key=lambda group: _rank(group[0]), reverse=True):
        head = group[0]
        why = _misfit(head, agent_id, partition, epochs, log)
        found = unpack(group) if why is None else why
        if isinstance(found, Snapshot):
            return Found(found, tuple(refused), head)
        refused.append((head, found))
    return Found(None, tuple(refused))


def _rank(head: Part) -> tuple[int, int, int]:
    return head.epoch, head.log_offset, head.inbox_offset


def _misfit(head: Part, agent_id: str, partition: int, epochs: LogEpochs, log: range) -> Refused | None:
    if (head.agent_id, head.partition) != (agent_id, partition):
        return Refused.FOREIGN
    if head.log_offset > log.stop:
        return Refused.BEYOND
    if head.log_offset < log.start:
        return Refused.GAP
    owner = epochs.in_force(head.log_offset)
    # What is not known of a log that changed hands often is its oldest owners: they were before the first known one.
    if head.epoch != owner and (owner or head.epoch >= epochs.oldest):
        return Refused.EPOCH
    return None


def _seal(head: Part) -> str:
    """A hash of the head, in which the hash of the states is."""
    return digest(
        json.dumps(head._replace(hash="").head, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    )


def _inflated(data: bytes, size: int) -> bytes | None:
    """Exactly so many bytes, or None."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(data, size + 1)
    except zlib.error:
        return None
    return content if len(content) == size and inflater.eof else None


def _lines(states: Mapping[Key, bytes]) -> Iterator[bytes]:
    return (b"%s\t%s\n" % (_key(key), data) for key, data in states.items())


def _key(key: Key) -> bytes:
    return json.dumps(list(key), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _line(line: bytes) -> tuple[Key, bytes]:
    key, _, data = line.partition(b"\t")
    return Key(*json.loads(key)), data
