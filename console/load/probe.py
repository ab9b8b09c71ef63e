"""What a run costs while it runs: CPU and memory of each process, and how far each consumer group is behind.

I/O: /proc, Kafka.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.access import PROCESSES, group_of
from schemas.settings import Settings
from schemas.topology import Topology
from streams.transport.batch import TopicPartition
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.topic_admin import TopicAdmin

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """At one moment, `at_us` since the epoch. A process that is not there has no numbers. `busy_s`: CPU seconds of the
    whole machine since it started."""

    at_us: int
    cpu_s: Mapping[str, float]
    rss_mib: Mapping[str, float]
    busy_s: float
    lag: Mapping[str, int] = field(default_factory=dict)


def usage(pid: int) -> tuple[float, float] | None:
    """CPU seconds so far and MiB of memory of a process; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS, pages * PAGE / MIB


def busy_s() -> float:
    """Of all cores together, since the machine started; what others took of a virtual machine counts as busy."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


class LagMeter:
    """Records of the lifecycle that are appended and that a group has not committed. One thread uses it.

    A worker in `exactly_once` ends each topic-partition that it writes to with the marker of a transaction, behind
    which nobody commits, as nobody reads it: that does not count, and all markers before it do.
    """

    def __init__(self, settings: Settings, topology: Topology) -> None:
        topics = topology.topics()
        self._prefix = topics.prefix
        everything = (topics.submitted, *topics.inboxes, *topics.logs, topics.results, topics.orchestrator, topics.dead)
        self._read = {
            "worker": {topics.submitted, *topics.logs},
            "host": {*topics.inboxes},
            "store": {*everything},
        }
        is_transactional = topology.delivery == "exactly_once"
        self._marked = {*everything} - {topics.submitted, *topics.logs} if is_transactional else set()
        self._admin = TopicAdmin(settings, topology)
        self._consumer = BatchConsumer(
            client_config(settings, topology, "consumer", name="pointsman-load"),
            str,
            rows_max=1,
            bytes_max=MIB,
            poll_s=0.01,
        )
        self._partitions: list[TopicPartition] = self._consumer.partitions_of(everything)
        self._starts: dict[TopicPartition, int] = self.ends()

    def ends(self) -> dict[TopicPartition, int]:
        """One past the last record of each topic-partition of the lifecycle."""
        return {owner: high for owner, (_, high) in self._consumer.watermarks(self._partitions).items()}

    @property
    def starts(self) -> dict[tuple[str, int], int]:
        """Where the topics ended when this was made: what is before is not this run's."""
        return {(topic, partition): end for (topic, partition), end in self._starts.items()}

    def lag(self) -> dict[str, int]:
        """By group; what was there before this was made does not count."""
        ends = self.ends()
        found: dict[str, int] = {}
        for group in PROCESSES:
            positions = self._admin.positions(group_of(group, self._prefix))
            found[group] = sum(
                max(end - (owner.topic in self._marked) - max(positions.get(owner, 0), self._starts[owner]), 0)
                for owner, end in ends.items()
                if owner.topic in self._read[group]
            )
        return found

    def close(self) -> None:
        self._consumer.close()
