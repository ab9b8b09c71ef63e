"""What a chaos run starts beside the product: a ClickHouse of its own, and the service behind an agent of kind http.

`python -m console.chaos.servant clickhouse|service PORT READY_FILE PATH`; it ends with its standard input. I/O:
loopback sockets, files.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agents.builtin.faults import Failure
from agents.builtin.switched import HANG_S, Switch, said_by
from streams.transport.http_server import BoundedServer, Exchange


class _Service(BoundedServer):
    def __init__(self, port: int, switch: Switch) -> None:
        self.switch = switch
        super().__init__("127.0.0.1", port, _Request)


class _Request(Exchange):
    """One request, by the protocol of docs/agents/protocol.md."""

    server: _Service

    def serve(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))) or b"{}")
        agent, task = asked.get("agent", ""), asked.get("task", {})
        behaviour = self.server.switch.of(agent)
        hangs = behaviour.of(agent, task.get("task_id", "")) == "hang"
        time.sleep(HANG_S if hangs else behaviour.slow_ms / 1000)
        said = said_by(agent, behaviour, task.get("task_id", ""), task.get("text", ""))
        answer: dict[str, object] = {"id": asked.get("id")}
        if isinstance(said, Failure):
            answer |= {"failed": said.error, "error_class": str(said.error_class)}
        else:
            answer |= {"answer": said.text, "confidence": said.confidence, "vote_key": said.vote_key}
        self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


def main(arguments: Sequence[str]) -> int:
    kind, port, ready, path = arguments[0], int(arguments[1]), Path(arguments[2]), Path(arguments[3])
    if kind == "clickhouse":
        from streams.history.door import Door  # noqa: PLC0415  the service needs no engine
        from streams.history.engine import Engine  # noqa: PLC0415  as above

        engine = Engine(path)
        door = Door(engine, port)
        _announce(ready)
        sys.stdin.buffer.read()
        door.close()
        engine.close()
    else:
        service = _Service(port, Switch(path))
        service.start()
        _announce(ready)
        sys.stdin.buffer.read()
        service.close()
    return 0


def _announce(ready: Path) -> None:
    draft = ready.with_name(f".{ready.name}")
    draft.write_text(json.dumps({"pid": os.getpid()}))
    draft.replace(ready)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
