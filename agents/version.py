"""Which version of an agent answers: what it declares, and a digest of what its answers depend on.

A changed prompt, model or line of code is another version, though nobody raised the number. What is in the digest: how
it is run, its options, its environment as far as it stands in the topology, and the bytes of its own module or program.
What these import or call is not: raise `version` for that. I/O: reads the files of the agents' code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from schemas.topology import Agent
from schemas.topology_agent import Summarising

DIGEST_CHARS = 8
PART_CHARS = 12
VALUE_CHARS_MAX = 200
FILE_BYTES_MAX = 1 << 20

# What an agent's answers do not depend on, or `code` and `options` say better.
_LEFT_OUT = frozenset(
    {"version", "description", "options", "timeout_ms", "concurrency", "accuracy", "connect_timeout_ms"}
)


class Declared(NamedTuple):
    """One version: its name, `VERSION+DIGEST`, and the parts that the digest is of, by name."""

    name: str
    parts: Mapping[str, str]


def declared(agent: Agent) -> Declared:
    """The version that a host of this agent answers with; its module has to be imported. Never raises: code that cannot
    be read is not in the digest."""
    parts = dict(_parts(agent))
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return Declared(_named(agent.version, text), parts)


def maker_of(summary: Summarising) -> str:
    """Who makes summaries, as they say it: `module:function VERSION+DIGEST`."""
    files = {path.name: _digest(path.read_bytes()) for path in _module(summary.run)}
    parts = {"options": dict(summary.options), **files}
    return f"{summary.run} {_named(summary.version, json.dumps(parts, sort_keys=True))}"


def _named(version: str, parts: str) -> str:
    return f"{version}+{sha256(parts.encode()).hexdigest()[:DIGEST_CHARS]}"


def _parts(agent: Agent) -> Iterator[tuple[str, str]]:
    yield "version", agent.version
    for name, value in agent.model_dump(mode="json", exclude_defaults=True, exclude=set(_LEFT_OUT)).items():
        # Headers and variables are no secrets, but no business of the log's either.
        yield name, value if isinstance(value, str) else _digest(json.dumps(value, sort_keys=True).encode())
    for name, option in agent.options.items():
        text = json.dumps(option, ensure_ascii=False)
        yield f"options.{name}", text if len(text) <= VALUE_CHARS_MAX else _digest(text.encode())
    for path in _files(agent):
        yield f"file.{path.name}", _digest(path.read_bytes())
    if agent.summary is not None:
        for path in _module(agent.summary.run):
            yield f"summary.file.{path.name}", _digest(path.read_bytes())


def _files(agent: Agent) -> Iterator[Path]:
    """The agent's own code, where it is files that can be read: its module, or what its command line names."""
    if agent.kind == "command":
        folder = Path(agent.cwd or ".")
        yield from _readable([str(folder / word) for word in agent.command or ()])
    elif agent.run is not None:
        yield from _module(agent.run)


def _module(run: str) -> Iterator[Path]:
    return _readable([getattr(sys.modules.get(run.partition(":")[0]), "__file__", None)])


def _readable(named: Iterable[str | None]) -> Iterator[Path]:
    for name in named:
        try:
            if name is not None and (path := Path(name)).is_file() and path.stat().st_size <= FILE_BYTES_MAX:
                with path.open("rb"):  # it may be closed to us
                    pass
                yield path
        except OSError:
            continue


def _digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()[:PART_CHARS]}"
