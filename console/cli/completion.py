"""Tab completion: the scripts for the shells, and what to offer for the values of flags.

Values come from the topology file alone, read as far as it can be read. A shell asks at each press of Tab, so nothing
here connects to anything, complains, or takes long. I/O: reads the topology file; stdout.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

VARIABLE = "_POINTSMAN_COMPLETE"
TOPOLOGY_BYTES_MAX = 1024 * 1024


class Shell(StrEnum):
    """What `pointsman completion` writes a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def script(shell: Shell) -> str:
    """What a shell has to read once, so that Tab asks us."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # noqa: PLC0415  only when used

    return get_completion_script(prog_name="pointsman", complete_var=VARIABLE, shell=shell.value)


def is_asked() -> bool:
    """Whether a shell has called us to know what could come next."""
    return bool(os.environ.get(VARIABLE))


def answer(command: Any) -> int:
    """Tells the shell what could come next; gives the exit code that it expects. Never raises, never complains."""
    from typer.completion import completion_init, shell_complete  # type: ignore[attr-defined]  # noqa: PLC0415  as above

    offered, code = io.StringIO(), 0
    with contextlib.redirect_stdout(offered), contextlib.redirect_stderr(io.StringIO()):
        try:
            completion_init()
            code = shell_complete(command, {}, "pointsman", VARIABLE, os.environ[VARIABLE])
        except SystemExit as exit_:  # fish's way to say whether there is anything
            code = exit_.code if isinstance(exit_.code, int) else 0
        except Exception:  # noqa: BLE001  a line that cannot be understood has nothing to offer
            return 1
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(offered.getvalue().encode("utf-8", "replace"))
        sys.stdout.buffer.flush()
    return code


def agents(ctx: Any, incomplete: str) -> list[str]:
    return _named(ctx, incomplete, lambda topology: topology.get("agents", {}))


def routes(ctx: Any, incomplete: str) -> list[str]:
    return _named(ctx, incomplete, lambda topology: topology.get("routes", {}))


def topics(ctx: Any, incomplete: str) -> list[str]:
    return _named(ctx, incomplete, _topic_names)


def tiers(incomplete: str) -> list[str]:
    as_typed = str.lower if incomplete.islower() else str.upper
    return [tier for tier in map(as_typed, ("LOW", "MEDIUM", "HIGH")) if tier.startswith(incomplete)]


def dead_reasons(incomplete: str) -> list[str]:
    from schemas.reasons import DeadReason  # noqa: PLC0415  only when used

    return [reason.value for reason in DeadReason if reason.value.startswith(incomplete.upper())]


def _topic_names(topology: dict[str, Any]) -> Iterable[str]:
    from schemas.topics import Topics  # noqa: PLC0415  only when used

    agent_names = tuple(map(str, topology.get("agents", {})))
    return [spec.name for spec in Topics(agent_names, 1, str(topology.get("prefix") or "")).specs()]


def _named(ctx: Any, incomplete: str, names: Callable[[dict[str, Any]], Iterable[Any]]) -> list[str]:
    try:
        return [name for name in map(str, names(_topology(ctx))) if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001  half a file, or none: nothing to offer
        return []


def _topology(ctx: Any) -> dict[str, Any]:
    """The file as plain data, unchecked: loading it in full takes four times as long."""
    from ruamel.yaml import YAML  # noqa: PLC0415  only when used

    stated = ctx.params.get("topology") or os.environ.get("POINTSMAN_TOPOLOGY") or "topology.yaml"
    path = Path(stated)
    if not path.is_file() or path.stat().st_size > TOPOLOGY_BYTES_MAX:
        return {}
    loaded = YAML(typ="safe").load(path.read_text("utf-8"))
    return loaded if isinstance(loaded, dict) else {}
