"""The archive of loaded classes with which a Kafka node of ours starts in half the CPU time: `make setup` makes it.

The JVM maps what it would parse and verify otherwise, and passes over an archive that is of another Java or of other
jars. I/O: processes, files, Kafka.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from console.local.broker import LocalBroker
from console.local.java import ARCHIVED, CLASSES, JARS
from schemas.settings import Settings
from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics

DUMP_S = 120.0
"""The node writes it at its end."""
TOPIC = TopicSpec("classes", record=None, partitions=1, cleanup="delete", retention_ms=60_000)


def make(path: Path) -> bool:
    """Whether there is one now. Raises what LocalBroker raises where no node starts at all."""
    with TemporaryDirectory(prefix="pointsman-classes-") as folder:
        fresh = Path(folder) / path.name
        broker = LocalBroker(Path(folder) / "broker", heap_mib=256, archive=fresh)
        try:
            broker.start()
            # What a node loads for its first topic is worth as much as what it loads to get there.
            ensure_topics(Settings(broker=broker.address), [TOPIC])
        finally:
            broker.stop(DUMP_S)
        if not fresh.exists():
            return False
        # In one step: a node may be starting with the former one.
        beside = path.with_suffix(".new")
        beside.write_bytes(fresh.read_bytes())
        beside.replace(path)
    return True


def main() -> int:
    if not make(CLASSES):
        print("setup: this Java archives no classes; a broker starts without, a second later", file=sys.stderr)
    ARCHIVED.write_text(str(JARS), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
