"""The pipeline under test: started here for the run and cleaned away after it, or a deployment that runs already.

I/O: processes, Kafka, files.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from agents.registry import resolve
from console.cli.deployment import Deployment
from console.local.child import ProcessEndedError
from console.local.ports import Ports
from console.local.services import PIPELINE
from console.local.supervisor import Supervisor
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, PointsmanError
from schemas.settings import Settings
from schemas.topology import Topology
from streams.transport.admin import check_broker, check_topics, delete_topics

BACK_TIMEOUT_S = 90.0
STOP_S = 8.0


class Pipeline:
    """Where tasks go. `pids` are those of the processes that can be measured, by name."""

    def __init__(self, settings: Settings, topology: Topology, topology_path: Path, folder: Path) -> None:
        self.settings, self.topology, self.topology_path, self.folder = settings, topology, topology_path, folder

    @property
    def own_broker(self) -> bool:
        return False

    @property
    def own_history(self) -> bool:
        """Whether the history holds nothing but this run."""
        return False

    def pids(self) -> dict[str, int]:
        return {}

    def check(self) -> None:
        """Raises ProcessEndedError when a process has ended that was not made to."""

    def take_away(self, process: str, how: str) -> None:
        """Ends or stops one. Raises ConfigurationError where it is not ours."""
        raise ConfigurationError(f"The {process} is not ours to {how}.", code=ErrorCode.SCENARIO)

    def bring_back(self, process: str, how: str) -> None:
        """Raises ProcessEndedError where it does not come back."""

    def environment(self) -> dict[str, str]:
        """For processes that speak to it."""
        return dict(os.environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class OwnPipeline(Pipeline):
    """Worker, host and store of this run, on a broker and a ClickHouse of this run or of the user's own.

    On a broker of the user's own everything is under a prefix that nobody else has, and is deleted afterwards; rows in
    a ClickHouse of the user's own stay, under topic names with that prefix. Data of ours lie in a temporary folder;
    after a failure they are kept, and it is said where.
    """

    def __init__(
        self,
        deployment: Deployment,
        topology: Topology,
        *,
        own_broker: bool,
        own_clickhouse: bool,
        note: Callable[[str], None],
    ) -> None:
        if not own_broker:
            topology = topology.model_copy(update={"prefix": f"{topology.prefix}load-{token_hex(4)}."})
        resolve(topology)
        folder = Path(tempfile.mkdtemp(prefix="pointsman-load-"))
        path = folder / "topology.yaml"
        path.write_text(topology.model_dump_json(indent=2))  # JSON is YAML
        super().__init__(deployment.settings, topology, path, folder)
        self._own_broker, self._own_clickhouse, self._note = own_broker, own_clickhouse, note
        self._away: set[str] = set()
        self._supervisor = Supervisor(
            path.read_bytes(),
            topology,
            folder / "data",
            deployment.settings,
            own_broker=own_broker,
            own_clickhouse=own_clickhouse,
            usual=Ports(),
            services=PIPELINE,
            report=note,
        )

    @property
    def own_broker(self) -> bool:
        return self._own_broker

    @property
    def own_history(self) -> bool:
        return self._own_clickhouse

    def pids(self) -> dict[str, int]:
        found = {name: child.pid for name, child in self._supervisor.children.items() if child.running}
        if self._supervisor.broker is not None:
            found["broker"] = self._supervisor.broker.pid
        return {name: pid for name, pid in found.items() if pid is not None}

    def check(self) -> None:
        for name, child in self._supervisor.children.items():
            if name not in self._away:
                child.check()
        broker = self._supervisor.broker
        if broker is not None and not broker.running:
            raise ProcessEndedError("broker", broker.status, broker.log_path, broker.last_words())

    def take_away(self, process: str, how: str) -> None:
        child = self._supervisor.children[process]
        self._away.add(process)
        if how == "pause":
            self._signal(process, signal.SIGSTOP)
            return
        if how == "kill":
            child.kill()
        else:
            child.terminate()
        child.wait(time.monotonic() + STOP_S)

    def bring_back(self, process: str, how: str) -> None:
        if how == "pause":
            self._signal(process, signal.SIGCONT)
        else:
            child = self._supervisor.children[process]
            child.start()
            until = time.monotonic() + BACK_TIMEOUT_S
            while child.ready() is None:
                if time.monotonic() > until:
                    raise ProcessEndedError.of(process, None, child.log_path)
                time.sleep(0.05)
        self._away.discard(process)

    def _signal(self, process: str, number: signal.Signals) -> None:
        pid = self._supervisor.children[process].pid
        assert pid is not None
        os.kill(pid, number)

    def environment(self) -> dict[str, str]:
        return dict(self._supervisor.site.environment())

    def __enter__(self) -> Self:
        try:
            if not self._own_broker:
                check_broker(self.settings, self.topology)
            self._supervisor.start()
        except BaseException:
            self._end(failed=True)
            raise
        ours: dict[str, object] = {
            "broker": self._supervisor.site.broker,
            "clickhouse": self._supervisor.site.clickhouse,
        }
        if self._own_broker:
            ours["kafka"] = {}
        if self._own_clickhouse:
            ours |= {"clickhouse_user": "default", "clickhouse_password": SecretStr("")}
        self.settings = self.settings.model_copy(update=ours)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(failed=kind is not None and not issubclass(kind, KeyboardInterrupt))

    def _end(self, *, failed: bool) -> None:
        for process in sorted(self._away):
            if self._supervisor.children[process].running:
                self._signal(process, signal.SIGCONT)  # a stopped process hears no other signal
        try:
            self._supervisor.__exit__(None, None, None)
        finally:
            if not self._own_broker:
                self._delete_topics()
            if failed:
                self._note(f"data and logs are kept in {self.folder}")
            else:
                shutil.rmtree(self.folder, ignore_errors=True)

    def _delete_topics(self) -> None:
        names = [spec.name for spec in self.topology.topics().specs()]
        try:
            delete_topics(self.settings, names, self.topology)
        except PointsmanError as error:
            self._note(f"topics of the run, {self.topology.prefix}*, are left behind: {error}")


class Attached(Pipeline):
    """A deployment that runs already: nothing of it is started, changed or cleaned, and its processes are not seen."""

    def __init__(self, deployment: Deployment) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pointsman-load-"))
        super().__init__(deployment.settings, deployment.topology, deployment.topology_path, folder)
        check_topics(deployment.settings, [deployment.topology.topics().submitted])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def harmless_routes(topology: Topology) -> tuple[str, ...]:
    """Routes on which no agent writes: the only ones that a deployment in use is sent made-up tasks for."""
    return tuple(
        name
        for name, route in topology.routes.items()
        if all(topology.agents[agent].effect != "write" for agent in route.plan)
    )
