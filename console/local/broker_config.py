"""How a Kafka node of our own is configured: its properties, and what it logs.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LOG4J = """<Configuration status="error"><Appenders><File name="file" fileName="{file}" append="true">
<PatternLayout pattern="%d{{ISO8601}} %-5p %c{{1}} %m%n"/></File></Appenders>
<Loggers>{loggers}<Root level="warn"><AppenderRef ref="file"/></Root></Loggers></Configuration>
"""
LOG4J = _LOG4J.format(file="broker.log", loggers="")

# Kafka's 10 s between two looks for transactions that are overdue stay as they are: a broker that looks sooner may look
# before its partitions have a leader again, and then it forgets to write the end of what it aborts (KAFKA-20734).
# A session of 5 s is longer than a pause that anybody makes; a start that cannot end its former self's waits as long.
# One thread of each kind: on two cores, which clients need too, a second one answers nobody sooner and is woken all
# the same. Turns of 48 produce requests cost such a node a sixth less, side by side on a busy machine.
_NODE = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{doors}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs=data
num.network.threads=1
num.io.threads=1
num.partitions=1
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
message.max.bytes=1048588
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=16777216
log.segment.bytes=268435456
"""

# Nobody but the node that is gone has a session with it, so it may be over at once.
_CONTROLLER = """process.roles=controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT
log.dirs=data
broker.session.timeout.ms=200
broker.heartbeat.interval.ms=100
"""
CONTROLLER_LOG = "controller.log"
CONTROLLER_LOG4J = _LOG4J.format(
    file=CONTROLLER_LOG,
    loggers='<Logger name="org.apache.kafka.controller.ReplicationControlManager" level="info"/>',
)
ACTIVE, FENCED = "Performing controller activation", "Fencing broker 1 "
"""What the controller logs when it begins to decide, and when it takes the node for gone."""


@dataclass(frozen=True, slots=True)
class BrokerDoor:
    """One more port on which a node listens, and the one at which it tells those who ask there to find it: a proxy's.

    `name` is a listener's, of capital letters and digits.
    """

    name: str
    port: int
    advertised: int


def node_properties(port: int, controller: int, doors: Sequence[BrokerDoor]) -> str:
    """Of a node that is broker and controller, at these ports."""
    return _NODE.format(
        port=port,
        controller=controller,
        doors="".join(f",{door.name}://127.0.0.1:{door.port}" for door in doors),
        advertised="".join(f",{door.name}://127.0.0.1:{door.advertised}" for door in doors),
        protocols="".join(f",{door.name}:PLAINTEXT" for door in doors),
    )


def controller_properties(controller: int) -> str:
    """Of the same node's controller alone."""
    return _CONTROLLER.format(controller=controller)
