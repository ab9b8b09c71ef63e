"""The services that are configured: whether they answer, let us in, and hold what fits.

I/O: Kafka, HTTP.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from console.doctor.check import ANSWER_S, Case, Check, Finding, fail, ok, warn
from console.local.foreign import check_clickhouse
from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from schemas.settings import database_of
from schemas.topics import Topics

CLICKHOUSE_MIN = (25, 3)
# What two clocks may differ by before deadlines and recovery feel it: the margin with which recovery reads.
CLOCK_TOLERANCE_S = 10.0
START = "`pointsman dev` starts one here"
# The broker alone has its three seconds; what asks more of it has as many for each request.
TOPICS_S = 3 * ANSWER_S
REGISTRY_S = 7.5  # its client's own bounds, and a bit


def kafka(case: Case) -> Finding:
    from streams.transport.topic_admin import TopicAdmin  # noqa: PLC0415  librdkafka, only when used

    assert case.settings is not None
    try:
        state = TopicAdmin(case.settings, case.topology).cluster(())
    except UnreachableError as error:
        if "broker" in case.named:
            raise
        return warn(
            f"nothing answers at {error.address}, where it is looked for when nothing is said",
            f"{START}; --broker HOST:PORT or POINTSMAN_BROKER names another.",
        )
    return ok(f"{case.settings.broker} answers, {state.brokers} broker{'' if state.brokers == 1 else 's'}")


def topics(case: Case) -> Iterator[Finding]:
    """What is there against what the topology wants; nothing where no broker answers, which its own line says."""
    from streams.transport.topic_admin import TopicAdmin  # noqa: PLC0415  as above
    from streams.transport.topic_plan import plan_topics  # noqa: PLC0415  as above

    assert case.settings is not None
    assert case.topology is not None
    wanted = case.topology.topics()
    try:
        admin = TopicAdmin(case.settings, case.topology)
        plan = plan_topics(wanted, admin.cluster(spec.name for spec in wanted.specs()))
    except UnreachableError:
        yield warn("not looked at: no broker answers", "See Kafka.")
        return
    refused, different = plan.of("refused"), plan.of("change")
    missing, count = plan.of("create"), len(plan.own)
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        yield fail(
            f"{refused[0].topic} {refused[0].why}{more}",
            "A partition count cannot change: use another prefix (docs/topics.md), or correct the topology.",
            ErrorCode.TOPICS_DIFFER,
        )
    if different:
        yield warn(
            f"{len(different)} of {count} are configured otherwise than the topology wants",
            "`pointsman topics plan` shows how, `pointsman topics apply` sets it.",
        )
    if missing:
        yield warn(
            f"{len(missing)} of {count} are missing",
            "Whoever starts first makes them, auto-creation on the broker or not; `pointsman topics apply` does, too.",
        )
    if not (refused or different or missing):
        yield ok(f"all {count} are there, as the topology wants them")
    for warning in plan.warnings:
        yield warn(warning, "")


def clock(case: Case) -> Finding:
    """The newest records tell the broker's time. That they are old says nothing; that they are of the future does."""
    from streams.transport.clock import newest_ms  # noqa: PLC0415  as above

    assert case.settings is not None
    assert case.topology is not None
    try:
        newest = newest_ms(case.settings, case.topology, _telling(case.topology.topics()))
    except UnreachableError:
        return warn("not looked at: no broker answers", "See Kafka.")
    if newest is None:
        return ok("no record tells the broker's time yet")
    ahead = newest / 1000 - time.time()
    if ahead > CLOCK_TOLERANCE_S:
        return fail(
            f"the broker's newest record is {ahead:.0f} s in the future: one of the two clocks is wrong",
            "Set both by the network (chrony, systemd-timesyncd): deadlines are told by them.",
        )
    return ok(f"the broker's newest record is {max(0.0, -ahead):.0f} s old")


def _telling(names: Topics) -> list[str]:
    return [names.submitted, names.results, names.health]


def clickhouse(case: Case) -> Finding:
    assert case.settings is not None
    try:
        version = check_clickhouse(case.settings)
    except UnreachableError as error:
        if "clickhouse" in case.named:
            raise
        return warn(
            f"nothing answers at {error.address}, where it is looked for when nothing is said",
            f"{START}; --clickhouse URL or POINTSMAN_CLICKHOUSE names another.",
        )
    said = f"ClickHouse {version} at {case.settings.clickhouse} lets user {case.settings.clickhouse_user} in"
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < CLICKHOUSE_MIN:
        return warn(said, "It is older than what the tables were written for, 25.3: update it.")
    return ok(said)


def tables(case: Case) -> Finding:
    from streams.history.migrations import examine, lost  # noqa: PLC0415  as above
    from streams.history.queries import QueryError, connect  # noqa: PLC0415  as above

    assert case.settings is not None
    settings = case.settings
    database = database_of(settings.clickhouse)
    try:
        client = connect(settings.clickhouse, *settings.clickhouse_login, send_receive_timeout=int(ANSWER_S))
    except (UnreachableError, QueryError):
        return warn("not looked at: no ClickHouse lets us in", "See ClickHouse.")
    try:
        missing, count = examine(client, database=database)
        gone = lost(client, database=database) if missing < count else []
    finally:
        client.close()
    if gone:
        hint = "The store makes them again when it starts. docs/store.md says how to have what they held read again."
        return fail(f"somebody has dropped {', '.join(gone)}", hint)
    if missing == count:
        return ok("none yet; the store makes them when it starts")
    if missing:
        return ok(f"{count - missing} of {count} migrations are applied; the store applies the rest when it starts")
    return ok(f"all {count} migrations are applied")


def registry(case: Case) -> Finding:
    from streams.transport.foreign_ids import subjects_of  # noqa: PLC0415  as above
    from streams.transport.registry_client import RegistryClient  # noqa: PLC0415  as above

    assert case.settings is not None
    assert case.topology is not None
    if not case.settings.schema_registry:
        return ok("none is named; ids are those of schemas/registry.json")
    client, subject = RegistryClient.of(case.settings), subjects_of(case.topology.topics())[0]
    try:
        versions = client.versions(subject)
    finally:
        client.close()
    said = f"{case.settings.schema_registry} answers, and has {len(versions)} versions of {subject}"
    if not versions:
        return warn(said, "`pointsman schemas push` registers what producers may use.")
    return ok(said)


def checks() -> Iterator[Check]:
    both = ("settings", "topology")
    yield Check("services", "Kafka", kafka, needs=("settings",), limit_s=2 * ANSWER_S)
    yield Check("services", "topics", topics, needs=both, limit_s=TOPICS_S)
    yield Check("services", "clocks", clock, needs=both, limit_s=TOPICS_S)
    yield Check("services", "ClickHouse", clickhouse, needs=("settings",), limit_s=2 * ANSWER_S)
    yield Check("services", "history's tables", tables, needs=("settings",), limit_s=2 * ANSWER_S)
    yield Check("services", "schema registry", registry, needs=both, limit_s=REGISTRY_S)
