"""What a peer is told, and records to bytes and back by fastavro: a byte 0, the schema's id, one Avro datum.

I/O: reads the file that PEER_CONFIG names.
"""

from __future__ import annotations

import json
import os
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

FRAME_BYTES = 5


class Config:
    """`broker`, `group`, `policy`, and the topics: `submitted`, and `topic_of` for what is written."""

    def __init__(self, path: Path) -> None:
        found = json.loads(path.read_text("utf-8"))
        self.broker: str = found["broker"]
        self.group: str = found["group"]
        self.partitions: int = found["partitions"]
        self.state_dir: str = found["state_dir"]
        self.policy: dict[str, Any] = found["policy"]
        self.schemas: dict[str, Any] = found["schemas"]
        topics = found["topics"]
        self.submitted: str = topics["submitted"]
        self.inboxes: dict[str, str] = topics["inboxes"]
        self._others = {"TaskResult": topics["results"], "OrchestratorEvent": topics["orchestrator"]}

    @classmethod
    def given(cls) -> Config:
        return cls(Path(os.environ["PEER_CONFIG"]))

    def topic_of(self, record: str, agent: str | None) -> str:
        return self._others[record] if agent is None else self.inboxes[agent]

    @property
    def outputs(self) -> list[str]:
        return [*self.inboxes.values(), *self._others.values()]


class Avro:
    """Encodes and decodes the records by name. Slip, half of a dispatch, has no frame of its own."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = {name: parse_schema(each["schema"]) for name, each in schemas.items()}
        self._frames = {name: struct.pack(">BI", 0, each["id"]) for name, each in schemas.items()}

    def frame(self, record: str) -> bytes:
        return self._frames[record]

    def decode(self, value: bytes, record: str) -> dict[str, Any]:
        """Raises ValueError for a value that is not framed as this record is."""
        if value[:FRAME_BYTES] != self._frames[record]:
            raise ValueError(f"not a {record}")
        found: dict[str, Any] = schemaless_reader(BytesIO(value[FRAME_BYTES:]), self._schemas[record], None)
        return found

    def encode(self, record: str, datum: dict[str, Any]) -> bytes:
        out = BytesIO()
        out.write(self._frames[record])
        schemaless_writer(out, self._schemas[record], datum)
        return out.getvalue()
