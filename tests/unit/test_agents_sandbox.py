"""What protects a program: the list of arguments for bubblewrap, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.sandbox import Bubblewrap, description, find_bubblewrap, guarded, limits, words
from agents.targets import Program, UnfitAgentError
from schemas.codes import FaultCode
from schemas.settings import KAFKA_CONFIG
from schemas.topology import Agent

NODE = Program(("/usr/bin/node", "agent.mjs"), "/srv/fleet", {"A": "b"})


def agent(**fields: Any) -> Agent:
    return Agent.model_validate({"kind": "command", "command": ["node", "agent.mjs"], "effect": "read", **fields})


def pairs(found: list[str], flag: str) -> list[str]:
    return [found[i + 1] for i, word in enumerate(found) if word == flag]


def test_without_bubblewrap_the_program_runs_as_it_is() -> None:
    assert words(NODE, agent(), None, []) == ["/usr/bin/node", "agent.mjs"]


def test_bubblewrap_cuts_off_everything_that_is_not_granted() -> None:
    assert words(NODE, agent(), "/usr/bin/bwrap", ["/etc/pointsman/kafka.properties"]) == [
        *("/usr/bin/bwrap", "--die-with-parent", "--unshare-all", "--cap-drop", "ALL"),
        *("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp", "--tmpfs", "/var/tmp", "--tmpfs", "/run"),
        *("--ro-bind", "/dev/null", "/etc/pointsman/kafka.properties"),
        *("--chdir", "/srv/fleet", "--", "/usr/bin/node", "agent.mjs"),
    ]


def test_the_network_is_shared_where_the_topology_grants_it() -> None:
    found = words(NODE, agent(network=True), "bwrap", [])
    assert found.index("--share-net") > found.index("--unshare-all")
    assert "/run/systemd/resolve" in pairs(found, "--ro-bind-try")
    assert "--share-net" not in words(NODE, agent(), "bwrap", [])


def test_what_the_program_needs_of_a_masked_folder_is_shown_again_behind_the_mask() -> None:
    program = Program(("/tmp/venv/bin/python", "/var/tmp/x.py", "/tmp/../etc/passwd", "-v"), "/tmp/checkout/a", {})
    found = words(program, agent(), "bwrap", [])
    assert pairs(found, "--ro-bind") == ["/", "/tmp/checkout", "/tmp/venv", "/var/tmp/x.py"]
    assert found.index("/tmp/checkout") > found.index("--tmpfs")
    # A name that only begins like a masked folder is none.
    assert pairs(words(Program(("/tmpx/a",), "/runs/b", {}), agent(), "bwrap", []), "--ro-bind") == ["/"]


def test_the_words_of_the_program_come_last_and_cannot_be_taken_for_flags() -> None:
    found = words(Program(("/bin/tool", "--share-net"), "/", {}), agent(), "bwrap", [])
    assert found[found.index("--") :] == ["--", "/bin/tool", "--share-net"]


def test_limits_are_the_topologys() -> None:
    found = limits(agent(memory_mib_max=64, files_max=32))
    assert found == {"RLIMIT_DATA": 64 * 1024 * 1024, "RLIMIT_NOFILE": 32, "RLIMIT_CORE": 0}


def test_it_says_which_of_both_protects_an_agent() -> None:
    there, missing = Bubblewrap("/usr/bin/bwrap"), Bubblewrap(None, "bubblewrap is not installed")
    assert description(agent(), there).startswith("bubblewrap: no network, files read-only")
    assert description(agent(network=True), there).startswith("bubblewrap: network, files read-only")
    said = description(agent(memory_mib_max=64), missing)
    assert said.startswith(
        "resource limits only (bubblewrap is not installed): 64 MiB and 256 files a process; neither"
    )


def make_bubblewrap(folder: Path, script: str) -> dict[str, str]:
    tool = folder / "bwrap"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    find_bubblewrap.cache_clear()
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_a_bubblewrap_that_may_make_no_namespaces_is_none(tmp_path: Path) -> None:
    environ = make_bubblewrap(tmp_path, "echo 'bwrap: No permissions to create a new namespace' >&2; exit 1")
    why = "bubblewrap does not work here: bwrap: No permissions to create a new namespace"
    assert find_bubblewrap(environ["PATH"]) == Bubblewrap(None, why)
    found = guarded(NODE, agent(), environ)
    assert found.words == NODE.words
    assert why in found.protection
    with pytest.raises(UnfitAgentError) as raised:
        guarded(NODE, agent(sandbox="required"), environ)
    assert [(fault.code, fault.key) for fault in raised.value.faults] == [(FaultCode.NO_SANDBOX, ("sandbox",))]
    assert str(raised.value) == f"is required, and {why}"


def test_one_that_works_is_used_unless_the_topology_says_off(tmp_path: Path) -> None:
    environ = make_bubblewrap(tmp_path, "exit 0") | {KAFKA_CONFIG: str(tmp_path / "secrets")}
    found = guarded(NODE, agent(sandbox="required"), environ)
    assert found.words[0] == str(tmp_path / "bwrap")
    assert pairs(list(found.words), "--ro-bind")[-1] == "/dev/null"
    assert str(tmp_path / "secrets") in found.words
    assert found.limits["RLIMIT_CORE"] == 0
    assert guarded(NODE, agent(sandbox="off"), environ).words == NODE.words
    assert "sandbox: off" in guarded(NODE, agent(sandbox="off"), environ).protection


def test_without_any_it_says_so(tmp_path: Path) -> None:
    find_bubblewrap.cache_clear()
    assert find_bubblewrap(str(tmp_path)) == Bubblewrap(None, "bubblewrap is not installed")
