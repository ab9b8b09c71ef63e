"""A cluster of three KRaft nodes, each broker and controller, that can be killed and come back.

I/O: processes, files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from console.local.broker import LocalBroker
from console.local.ports import free_ports

NODES = 3
# Later lines win over the usual ones above them. A node that is gone is noticed soon.
PROPERTIES = """
node.id={node}
controller.quorum.voters={voters}
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
replica.lag.time.max.ms=3000
controller.quorum.election.timeout.ms=500
auto.leader.rebalance.enable=false
"""


class Node(LocalBroker):
    def __init__(self, folder: Path, node: int, port: int, controllers: Sequence[int]) -> None:
        super().__init__(folder, port, heap_mib=256, short_lived=True)
        self._node, self._controllers = node, controllers
        self._controller = controllers[node - 1]

    def _write_config(self) -> Path:
        config = super()._write_config()
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(self._controllers, 1))
        usual = re.sub(r"^(node.id|controller.quorum.voters)=.*\n", "", config.read_text(), flags=re.MULTILINE)
        config.write_text(usual + PROPERTIES.format(node=self._node, voters=voters))
        return config


class Cluster:
    """`nodes` by their ids; `address` names all of them."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * NODES)
        self.nodes = {
            node: Node(folder / str(node), node, ports[node - 1], ports[NODES:]) for node in range(1, NODES + 1)
        }
        self._ends = ExitStack()

    @property
    def address(self) -> str:
        return ",".join(node.address for node in self.nodes.values())

    def __enter__(self) -> Self:
        """All at once: none of them is ready before there are two."""
        threads = [Thread(target=node.start) for node in self.nodes.values()]
        for node, thread in zip(self.nodes.values(), threads, strict=True):
            self._ends.callback(node.kill)
            thread.start()
        for thread in threads:
            thread.join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()
