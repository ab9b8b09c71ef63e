"""What a worker that takes partitions over spends on reading the logs back, from bytes to cells, without a broker.

`python -m console.bench_fold` makes the logs of `--tasks` tasks with the rig of `console.bench_worker`, leaves the last
`--open` of them unanswered, and folds it all from batches of `--rows` records. Beside the way in which a recovery does
it: with results last, when each task is made anew before it is known that it is over, and that batch by batch. CPU time
of the process. I/O: the clock, stdout.
"""

from __future__ import annotations

import argparse
import cProfile
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from console.bench_worker import Cost, Rig
from console.cli.output import Output
from schemas.registry import FileRegistry
from schemas.topology import Topology, load_topology
from streams.core.cell import Cell
from streams.core.effects import Effects
from streams.core.recovery import Fold
from streams.processors.recovery import Recovery
from streams.transport.batch import Batch, merged
from streams.transport.garbage import calm_collector

US = 1e6


class Logs(Rig):
    """What a worker and its agents wrote of so many tasks: by topic, each partition's records in order."""

    def __init__(self, topology: Topology, tasks: int, still_open: int, seed: int = 1) -> None:
        super().__init__(topology, seed)
        self.batches: dict[str, list[Batch]] = {}
        self.turns(400, tasks - still_open, Cost())
        if still_open:
            self._router.handle(self._submissions(still_open), self._now_ms)
            for (topic, partition), (values, keys) in self._sent.take().items():
                self.written(topic, partition, values, keys)

    def written(self, topic: str, partition: int, values: list[Any], keys: list[Any]) -> None:
        batch = self._batch(topic, values, keys, np.full(len(values), partition, np.int32))
        batch.channel = topic
        self.batches.setdefault(topic, []).append(batch)

    def cut(self, rows: int) -> None:
        """The same records in batches of so many."""
        whole = {topic: merged(batches) for topic, batches in self.batches.items()}
        self.batches = {
            topic: [every.take(np.arange(start, min(start + rows, len(every)))) for start in range(0, len(every), rows)]
            for topic, every in whole.items()
        }

    @property
    def records(self) -> int:
        return sum(len(batch) for batches in self.batches.values() for batch in batches)

    def fold(self, *, results_first: bool = True, one_by_one: bool = False) -> dict[int, tuple[Cell, Effects]]:
        """A cell of each partition, and what its recovery would emit."""
        recovery = Recovery(self._topology, self._policy, FileRegistry.load(), {})
        cells = {number: Cell(self._policy, number) for number in self._cells}
        folds = {number: Fold(cell) for number, cell in cells.items()}
        results = self.batches.get(self._topics.results, [])
        others = [batch for topic in self.batches if topic != self._topics.results for batch in self.batches[topic]]
        for part in (results, others) if results_first else (others, results):
            if not one_by_one:
                recovery.fold_all(part, folds)
                continue
            for batch in part:
                recovery.fold(batch, folds)
        return {number: (cells[number], fold.resume(self._now_ms)) for number, fold in folds.items()}


def main(arguments: Sequence[str]) -> int:
    """Prints a row for each way, twice."""
    parser = argparse.ArgumentParser(prog="python -m console.bench_fold", description=__doc__)
    parser.add_argument("--tasks", type=int, default=30_000, help="tasks in the logs")
    parser.add_argument("--open", type=int, default=2_000, help="how many of them are not answered yet")
    parser.add_argument("--rows", type=int, default=200, help="records in a batch, as they are read")
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    parser.add_argument("--profile", type=Path, default=None, help="write cProfile's statistics of the first way here")
    given = parser.parse_args(arguments)
    calm_collector()
    logs = Logs(load_topology(given.topology), given.tasks, given.open)
    logs.cut(given.rows)
    if given.profile is not None:
        profile = cProfile.Profile()
        profile.runcall(logs.fold)
        profile.dump_stats(given.profile)
        return 0
    rows = []
    for results_first, one_by_one in ((True, False), (False, False), (False, True)) * 2:
        began = time.process_time()
        logs.fold(results_first=results_first, one_by_one=one_by_one)
        took = time.process_time() - began
        way = ["first" if results_first else "last", "one by one" if one_by_one else "many at once"]
        rows.append([*way, round(took / logs.records * US, 2), round(took, 2), logs.records])
    Output().table(["results", "batches", "us_per_record", "seconds", "records"], rows, "CPU-us a record")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
