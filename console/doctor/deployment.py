"""What is configured: settings, the topology, and the agents that it names.

I/O: files, the agents' imports in a process of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from console.doctor.check import Case, Check, Finding, fail, ok, warn
from console.local.check import CheckFailedError, check
from schemas.codes import ErrorCode
from schemas.errors import TopologyError
from schemas.nearest import nearest
from schemas.settings import KAFKA_CONFIG, PREFIX, SECRETS, Settings

SHOWN_MAX = 3
# Importing the agents may load half of somebody's models.
AGENTS_S = 20.0
# Of librdkafka's properties, those that name a file it reads.
FILES = (".location",)
NOT_FILES = ("ssl.engine.location",)


def settings(case: Case) -> Iterator[Finding]:
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields if name != "kafka"}
    known[KAFKA_CONFIG] = "kafka_config"
    stated = sorted(name for name in case.environ if name.startswith(PREFIX) and case.environ[name])
    for name in stated:
        if name not in known:  # its value may be a secret under a misspelt name
            near = nearest(name.removeprefix(PREFIX).lower(), known.values())
            meant = f"; did you mean {PREFIX}{near.upper()}?" if near else ""
            yield warn(f"{name} is set, and is no setting{meant}", "Correct its name, or unset it.")
    if case.settings_error is not None:
        code = case.settings_error.error_code
        yield fail(str(case.settings_error), f"`pointsman explain {code}` says more.", code)
        return
    values = (f"{name}={'***' if known[name] in SECRETS else case.environ[name]}" for name in stated if name in known)
    yield ok(", ".join(values) or f"no {PREFIX} variable is set: every setting is a flag or its default")


def kafka_files(case: Case) -> Finding:
    assert case.settings is not None
    given = {**(case.topology.kafka if case.topology else {}), **case.settings.kafka}
    named = {key: str(value) for key, value in given.items() if key.endswith(FILES) and key not in NOT_FILES}
    unreadable = [f"{key}={path}" for key, path in named.items() if not os.access(path, os.R_OK)]
    if unreadable:
        return fail(
            f"cannot be read: {', '.join(unreadable)}",
            f"Put the file there, or correct the property in the file that {KAFKA_CONFIG} names, or in the topology.",
            ErrorCode.KAFKA_CONFIG,
        )
    protocol = given.get("security.protocol", "plaintext")
    mechanism = given.get("sasl.mechanism", given.get("sasl.mechanisms", ""))
    signed = f", {mechanism} as {given.get('sasl.username', '?')}" if mechanism else ""
    source = f" by {case.environ[KAFKA_CONFIG]}" if case.environ.get(KAFKA_CONFIG) else ""
    return ok(f"{str(protocol).upper()}{signed}{source}")


def topology(case: Case) -> Finding:
    error = case.topology_error
    if error is None:
        assert case.topology is not None
        counts = f"{len(case.topology.agents)} agents, {len(case.topology.routes)} routes"
        return ok(f"{case.topology_path}: valid, {counts}, version {case.topology.version}")
    return _faulty(error) if isinstance(error, TopologyError) else fail(str(error), "", error.error_code)


def agents(case: Case) -> Finding:
    assert case.topology is not None
    try:
        verdict = check(case.topology_path, str(case.topology_path), case.environ, AGENTS_S - 1)
    except CheckFailedError as error:
        return fail(str(error), "Import its modules by hand: python -c 'import MODULE'.", error.error_code)
    if verdict.faults:
        return _faulty(TopologyError(str(case.topology_path), verdict.faults))
    kinds = [agent.kind for agent in case.topology.agents.values()]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return ok(f"{len(kinds)} agents can be called: {counts}")


def _faulty(error: TopologyError) -> Finding:
    shown = "; ".join(fault.of(Path(error.source).name) for fault in error.faults[:SHOWN_MAX])
    more = f"; and {len(error.faults) - SHOWN_MAX} more" if len(error.faults) > SHOWN_MAX else ""
    fix = f"`pointsman validate {error.source}` shows them all, `pointsman explain {error.faults[0].code}` says more."
    return fail(f"{shown}{more}", fix, error.error_code)


def checks() -> Iterator[Check]:
    yield Check("deployment", "settings", settings)
    yield Check("deployment", "topology", topology)
    yield Check("deployment", "agents", agents, needs=("topology",), limit_s=AGENTS_S)
    yield Check("deployment", "Kafka's settings", kafka_files, needs=("settings",))
