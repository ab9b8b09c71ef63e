"""One Apache Kafka node of our own, for the demo, `pointsman dev` and the tests: started, stopped and killed for real.

The jars come from Maven (`make setup`); nothing is downloaded here. I/O: files, processes, loopback sockets.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from console.local.broker_config import (
    ACTIVE,
    CONTROLLER_LOG,
    CONTROLLER_LOG4J,
    FENCED,
    LOG4J,
    BrokerDoor,
    controller_properties,
    node_properties,
)
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
FENCE_TIMEOUT_S = 30.0
SESSION_OVER_S = 3.0
WRITTEN_S = 0.25  # ten times what a controller gathers (controller.quorum.append.linger.ms)
CLEAN = ".kafka_cleanshutdown"
"""What a node leaves in its data when it stops, and takes away when it starts."""
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
        data = self._dir / "data"
        # Its first start makes this folder. What there is without it is of a formatting that was cut off.
        if not (data / "__cluster_metadata-0").exists():
            shutil.rmtree(data, ignore_errors=True)
            self._format(config)
        elif not (data / CLEAN).exists():
            self._fence_its_former_self()
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
        config.write_text(node_properties(self.port, self._controller, self._doors))
        return config

    def _format(self, config: Path) -> None:
        """Makes the storage of a new node."""
        with self._helper("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", config) as process:
            if process.wait(START_TIMEOUT_S) == 0:
                return
        text = f"Kafka's storage could not be made in {self._dir}. {self.fault() or self.last_words()}"
        raise ConfigurationError(text, code=ErrorCode.KAFKA_STORAGE)

    def _fence_its_former_self(self) -> None:
        """Has the node's controller, alone, take the node that was killed for gone.

        A node that starts while its former self still counts as there leads its partitions at first, takes up the
        transactions that were ending, and has no leader to write their ends to as soon as its former self's session is
        over: it then forgets them (KAFKA-20734), and whoever reads committed records waits for ever. What is wrong with
        the controller is wrong with the node, whose start says so.
        """
        config, log = self._dir / "controller.properties", self._dir / CONTROLLER_LOG
        config.write_text(controller_properties(self._controller))
        (self._dir / "controller.log4j2.xml").write_text(CONTROLLER_LOG4J)
        log.unlink(missing_ok=True)
        with self._helper("kafka.Kafka", config, log4j="controller.log4j2.xml") as process:
            until = time.monotonic() + FENCE_TIMEOUT_S
            led = False
            while process.poll() is None and time.monotonic() < until:
                said = log.read_text("utf-8", "replace") if log.exists() else ""
                if FENCED in said:
                    time.sleep(WRITTEN_S)  # it says so before it has written it, and forgets that when it ends
                    process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(STOP_TIMEOUT_S)
                    return
                if ACTIVE in said and not led:  # one that was gone already is not said to be
                    led, until = True, time.monotonic() + SESSION_OVER_S
                time.sleep(0.02)

    @contextmanager
    def _helper(
        self, main_class: str, *arguments: str | Path, log4j: str = "log4j2.xml"
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A short-lived program of Kafka's on the node's data, ended with the block."""
        process: subprocess.Popen[bytes] | None = None
        guard: Guard | None = None
        try:
            with shielded():
                process = self._java(main_class, *arguments, jvm=QUICK_JVM, heap_mib=128, log4j=log4j)
                guard = Guard(process.pid)
            yield process
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            if guard is not None:
                guard.release()

    def _java(
        self,
        main_class: str,
        *arguments: str | Path,
        jvm: Sequence[str],
        heap_mib: int,
        log4j: str = "log4j2.xml",
    ) -> subprocess.Popen[bytes]:
        archive = class_archive() if self._archive is None else None
        command = [
            "java",
            f"-Xmx{heap_mib}m",
            *jvm,
            *((f"-XX:SharedArchiveFile={archive}",) if archive else ()),
            f"-Dlog4j2.configurationFile={log4j}",
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
