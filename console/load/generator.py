"""The generator as a process of its own: started and held, told when to begin, stopped.

I/O: processes, the clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from console.local.interrupts import shielded
from loadtest.driver import Sent
from loadtest.scenario import Mix
from loadtest.schedule import Schedule
from schemas.errors import PointsmanError

READY_TIMEOUT_S = 120.0
END_TIMEOUT_S = 90.0


class GeneratorError(PointsmanError):
    """It ended, or never got ready; with its last words."""


@dataclass(frozen=True)
class Order:
    """What it is to send. `routes` None: all."""

    schedule: Schedule
    mix: Mix
    seed: int
    run: str
    routes: tuple[str, ...] | None
    measured_from_s: float
    at_once: bool = False

    def flags(self) -> list[str]:
        stages = [[stage.seconds, stage.rate] for stage in self.schedule.stages]
        return [
            *("--stages", json.dumps(stages), "--mix", self.mix.model_dump_json(), "--seed", str(self.seed)),
            *("--run", self.run, "--measured-from", str(self.measured_from_s), "--hold"),
            *(("--routes", json.dumps(self.routes)) if self.routes is not None else ()),
            *(("--at-once",) if self.at_once else ()),
        ]


class Generator:
    """`python -m loadtest.driver`, which prepares its tasks when this is made."""

    def __init__(self, order: Order, broker: str, topology: Path, environment: dict[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "loadtest.driver", "--broker", broker, "--topology", str(topology)]
        self._log_path = log
        with log.open("wb") as errors, shielded():
            self._process = subprocess.Popen(
                [*command, *order.flags()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
                env=environment,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def await_ready(self) -> None:
        """Raises GeneratorError where it does not come to that."""
        said: list[str] = []
        stdout = self._process.stdout
        assert stdout is not None
        reading = threading.Thread(target=lambda: said.append(stdout.readline()), daemon=True)
        reading.start()
        reading.join(READY_TIMEOUT_S)
        if not said or not said[0]:
            self.kill()
            raise self._error("did not get ready")

    def begin(self, at_us: int) -> None:
        """Task 0 is due at this time, in microseconds since the epoch. Raises GeneratorError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{at_us}\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._error("ended before it began") from error

    def stop(self) -> None:
        """It sends nothing more; `sent` says how far it came."""
        self._process.terminate()

    def sent(self, timeout_s: float = END_TIMEOUT_S) -> Sent:
        """What it did, once it ended. Raises GeneratorError where it did not end well."""
        try:
            out, _ = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error("did not end") from None
        try:
            said: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
            return Sent(**said)
        except (IndexError, ValueError, TypeError):
            raise self._error(f"ended with status {self._process.returncode}") from None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _error(self, what: str) -> GeneratorError:
        words = self._log_path.read_text("utf-8", "replace").strip().splitlines()[-5:]
        return GeneratorError("\n".join((f"The load generator {what}. Its last words:", *words)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()
