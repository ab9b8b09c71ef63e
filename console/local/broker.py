"""One Apache Kafka node of our own, for the demo, `pointsman dev` and the tests: started, stopped and killed for real.

The jars come from Maven (`make setup`); nothing is downloaded here. I/O: files, processes, loopback sockets.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from console.local.broker_faults import fault_in, without_frames
from console.local.child import LOG_TAIL_LINES, tail
from console.local.guard import Guard
from console.local.interrupts import shielded
from console.local.java import JARS, class_archive, missing_tools
from console.local.ports import free_ports
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError

OUT = "broker.out"
FAULT_LINES = 60
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 8.0
# The JVM's second compiler pays over minutes; a start without it takes half the CPU time. A node that lives long has it
# for what runs most: with its usual thresholds, and G1's threads, a node used half as much CPU again in the first
# minute of its load, of two cores that the pipeline needs itself.
FAST_JVM = (
    "-XX:+IgnoreUnrecognizedVMOptions",  # thresholds are HotSpot's, and nobody promises their names
    "-XX:+UseSerialGC",
    "-XX:Tier4InvocationThreshold=30000",
    "-XX:Tier4MinInvocationThreshold=10000",
    "-XX:Tier4CompileThreshold=60000",
    "-XX:Tier4BackEdgeThreshold=200000",
)
QUICK_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# Any valid id will do: a node of ours never meets another cluster.
CLUSTER_ID = "cG9pbnRzbWFuLWRldi0wMA"

LOG4J = """<Configuration status="error"><Appenders><File name="file" fileName="broker.log" append="true">
<PatternLayout pattern="%d{ISO8601} %-5p %c{1} %m%n"/></File></Appenders>
<Loggers><Root level="warn"><AppenderRef ref="file"/></Root></Loggers></Configuration>
"""

# Kafka's 10 s between two looks for transactions that are overdue stay as they are: a broker that looks sooner may look
# before its partitions have a leader again, and then it forgets to write the end of what it aborts (KAFKA-20734).
# After a kill -9 a node waits until its former self's session is over, and does nothing meanwhile: 9 s by default. 5 s
# are longer than a pause that anybody makes.
# One thread of each kind: on two cores, which clients need too, a second one answers nobody sooner and is woken all
# the same. Turns of 48 produce requests cost such a node a sixth less, side by side on a busy machine.
PROPERTIES = """process.roles=broker,controller
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


@dataclass(frozen=True, slots=True)
class BrokerDoor:
    """One more port on which a node listens, and the one at which it tells those who ask there to find it: a proxy's.

    `name` is a listener's, of capital letters and digits.
    """

    name: str
    port: int
    advertised: int


class LocalBroker:
    """A KRaft node under `data_dir`; the same directory started again has its records and its ports.

    `short_lived` halves what a start costs and lowers the rate that the node ever reaches: for a life of a minute.
    `start` raises ConfigurationError when Java or the jars are missing, UnreachableError when the node does not
    answer in time, 120 s by default. `inherit` are descriptors that stay open in it, `doors` more ports that it listens
    on. Into `archive` it writes at its end which classes it had loaded. `stop` is clean and bounded, `kill` is SIGKILL.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        heap_mib: int = 1024,
        short_lived: bool = False,
        inherit: Sequence[int] = (),
        doors: Sequence[BrokerDoor] = (),
        archive: Path | None = None,
    ) -> None:
        self._dir, self._heap_mib, self._inherit = data_dir.absolute(), heap_mib, tuple(inherit)
        self._doors, self._archive = tuple(doors), archive
        self._jvm = QUICK_JVM if short_lived else FAST_JVM
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self._answered = False
        self._log_from = 0
        ports = data_dir / "ports"
        if port is None and ports.exists():
            self.port, self._controller = map(int, ports.read_text().split())
        else:
            free = free_ports(2)
            self.port, self._controller = port or free[0], free[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status of the node that was started last; None while it runs, or when there was none."""
        return self._process.poll() if self._process else None

    @property
    def log_path(self) -> Path:
        return self._dir / "broker.log"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> str:
        """Starts the node, waits until it answers, and gives its address."""
        if missing := missing_tools():
            raise ConfigurationError(
                "A local broker needs "
                + " and ".join(missing)
                + ". Or pass --broker HOST:PORT to use one of your own.",
                code=ErrorCode.PREREQUISITES,
            )
        self._dir.mkdir(parents=True, exist_ok=True)
        (self._dir / OUT).write_bytes(b"")
        self._log_from = self.log_path.stat().st_size if self.log_path.exists() else 0
        config = self._write_config()
        # Its first start makes this folder. What there is without it is of a formatting that was cut off.
        if not (self._dir / "data" / "__cluster_metadata-0").exists():
            shutil.rmtree(self._dir / "data", ignore_errors=True)
            self._format(config)
        with shielded():
            jvm = self._jvm if self._archive is None else (*self._jvm, f"-XX:ArchiveClassesAtExit={self._archive}")
            self._process = self._java("kafka.Kafka", config, jvm=jvm, heap_mib=self._heap_mib)
            self._guard = Guard(self._process.pid)
        self._answered = False
        self._wait_until_it_answers(timeout_s)
        self._answered = True
        return self.address

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """SIGTERM, then SIGKILL if the node is not gone within `timeout_s`: its next start then checks its logs.

        One that never answered has nothing to lose by a SIGKILL, and may be long in heeding a SIGTERM.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM if self._answered else signal.SIGKILL)
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._gone()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._gone()

    def last_words(self) -> str:
        """The end of what it said: of its log, then of its output, less what only its authors can read."""
        return without_frames("\n".join(filter(None, self._tails(LOG_TAIL_LINES))))

    def fault(self) -> str | None:
        """What its last words mean for a person; None where they are of no known fault."""
        return fault_in("\n".join(self._tails(FAULT_LINES)))

    def _tails(self, lines: int) -> tuple[str, str]:
        """Of log and output since the start."""
        return tail(self.log_path, lines, self._log_from), tail(self._dir / OUT, lines)

    def _gone(self) -> None:
        self._process = None
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_config(self) -> Path:
        (self._dir / "ports").write_text(f"{self.port} {self._controller}\n")
        (self._dir / "log4j2.xml").write_text(LOG4J)
        config = self._dir / "server.properties"
        config.write_text(
            PROPERTIES.format(
                port=self.port,
                controller=self._controller,
                doors="".join(f",{door.name}://127.0.0.1:{door.port}" for door in self._doors),
                advertised="".join(f",{door.name}://127.0.0.1:{door.advertised}" for door in self._doors),
                protocols="".join(f",{door.name}:PLAINTEXT" for door in self._doors),
            )
        )
        return config

    def _format(self, config: Path) -> None:
        """Makes the storage of a new node."""
        process: subprocess.Popen[bytes] | None = None
        try:
            with shielded():
                process = self._java(
                    "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", config, jvm=QUICK_JVM, heap_mib=128
                )
            if process.wait(START_TIMEOUT_S) == 0:
                return
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        text = f"Kafka's storage could not be made in {self._dir}. {self.fault() or self.last_words()}"
        raise ConfigurationError(text, code=ErrorCode.KAFKA_STORAGE)

    def _java(
        self, main_class: str, *arguments: str | Path, jvm: Sequence[str], heap_mib: int
    ) -> subprocess.Popen[bytes]:
        archive = class_archive() if self._archive is None else None
        command = [
            "java",
            f"-Xmx{heap_mib}m",
            *jvm,
            *((f"-XX:SharedArchiveFile={archive}",) if archive else ()),
            "-Dlog4j2.configurationFile=log4j2.xml",
            f"-Dpointsman.data={self._dir}",  # read by nobody but who looks for it among the processes
            *("-cp", f"{JARS}/*"),
            main_class,
            *map(str, arguments),
        ]
        with (self._dir / OUT).open("ab") as out:
            # A session of its own: a Ctrl-C meant for the supervisor must not reach the broker before its turn.
            # In its directory, so that no path, with whatever commas or blanks, has to stand in Java's properties.
            return subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self._dir,
                pass_fds=self._inherit,
            )

    def _wait_until_it_answers(self, timeout_s: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        alive = self._process.poll() is None
        self.kill()
        if fault := self.fault():
            text = f"The local Kafka broker did not start. {fault}\nIts log: {self.log_path}"
            raise ConfigurationError(text, code=ErrorCode.LOCAL_BROKER_FAULT)
        why = "it did not answer in time" if alive else "its process ended"
        hint = f"Read {self.log_path} and {self._dir / OUT}. Their last words:\n{self.last_words()}"
        raise UnreachableError("the local Kafka broker", self.address, why, hint, code=ErrorCode.LOCAL_BROKER)
