"""Topics as the deployment needs them, and whether the broker is there at all.

I/O: Kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import confluent_kafka as ck

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError
from streams.transport.bounded import close
from streams.transport.clients import ConnectionWatch, TransportError, client_config, opened
from streams.transport.requests import watermarks
from streams.transport.topic_admin import HINT, TopicAdmin
from streams.transport.topic_plan import compare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.topics import TopicSpec
    from streams.transport.clients import BrokerSettings, ClientSettings
    from streams.transport.topic_plan import TopicState

CLOSE_TIMEOUT_S = 1.0
# A busy cluster of three takes 20 s to give a hundred new partitions their leaders.
LEADERS_TIMEOUT_S = 60.0
LISTED_MAX = 5
STAMP = "message.timestamp.type"
MIGRATE = "A partition count cannot change; docs/topics.md says how to migrate to another prefix."
APPLY = (
    "Create them with `pointsman topics apply` as a user who may, or grant the right: "
    "`pointsman topics plan --form acl` prints all that each process needs."
)


def check_broker(settings: BrokerSettings, topology: ClientSettings | None = None) -> None:
    """Raises UnreachableError within about three seconds where no broker answers."""
    TopicAdmin(settings, topology).listed()


def check_topics(settings: BrokerSettings, names: Iterable[str], topology: ClientSettings | None = None) -> None:
    """Raises UnreachableError within about three seconds where no broker answers, or one has not all these topics."""
    known = TopicAdmin(settings, topology).listed()
    if missing := [name for name in names if name not in known]:
        raise no_topics(settings, f"topics are missing: {', '.join(missing)}")


def no_topics(settings: BrokerSettings, why: str) -> UnreachableError:
    """The broker answers, and has not what the deployment needs."""
    hint = "Start the deployment (`pointsman dev`), make its topics (`pointsman topics apply`), or check its prefix."
    return UnreachableError("the deployment's topics", settings.broker, why, hint, code=ErrorCode.NO_TOPICS)


def ensure_topics(
    settings: BrokerSettings, specs: Iterable[TopicSpec], topology: ClientSettings | None = None
) -> list[str]:
    """Create the missing topics and give their names.

    Raises ConfigurationError where an existing topic has another partition count or keeps its producers' timestamps
    (recovery looks positions up by append time), or where a missing one may not be created, UnreachableError where no
    broker answers, or leads a partition.
    """
    admin, wanted = TopicAdmin(settings, topology), list(specs)
    existing = admin.cluster(spec.name for spec in wanted).topics
    _refuse_differences(wanted, existing)
    missing = [spec for spec in wanted if spec.name not in existing]
    failed = {name: why for name, why in admin.create(missing).items() if why is not None}
    if failed:
        raise ConfigurationError(
            f"{_count(len(missing))} missing, or hidden from this user, and could not be created:\n"
            + "\n".join(_listed(f"{name}: {why}" for name, why in failed.items()))
            + f"\n{APPLY}",
            code=ErrorCode.TOPIC_REQUEST,
        )
    # All of them: another process may have made some a moment ago.
    await_leaders(settings, wanted, topology)
    return [spec.name for spec in missing]


def require_topics(
    settings: BrokerSettings, specs: Iterable[TopicSpec], topology: ClientSettings | None = None
) -> None:
    """Raises ConfigurationError where a topic is missing, UnreachableError where no broker answers."""
    known = TopicAdmin(settings, topology).listed()
    missing = [spec.name for spec in specs if spec.name not in known]
    if missing:
        raise ConfigurationError(
            f"{_count(len(missing))} missing, or hidden from this user:\n" + "\n".join(_listed(missing)) + f"\n{APPLY}",
            code=ErrorCode.TOPIC_REQUEST,
        )


def delete_topics(settings: BrokerSettings, names: Iterable[str], topology: ClientSettings | None = None) -> None:
    """Delete topics; those that are not there are no error."""
    for name, why in TopicAdmin(settings, topology).delete(list(names)).items():
        if why is not None:
            raise ConfigurationError(f"{name} could not be deleted: {why}", code=ErrorCode.TOPIC_REQUEST)


def await_leaders(settings: BrokerSettings, specs: Iterable[TopicSpec], topology: ClientSettings | None = None) -> None:
    """Returns once every partition's leader answers for it. Raises UnreachableError after a minute.

    The controller has made the topics; the brokers hear of it a moment later. librdkafka 2.16 was seen to report
    records delivered that were sent in that moment and are not in the log.
    """
    tps = [(spec.name, number) for spec in specs for number in range(spec.partitions)]
    offsets(settings, tps, topology, wait_s=LEADERS_TIMEOUT_S)


def offsets(
    settings: BrokerSettings,
    tps: Iterable[tuple[str, int]],
    topology: ClientSettings | None = None,
    *,
    wait_s: float,
) -> dict[tuple[str, int], tuple[int, int]]:
    """The first offset of each topic-partition, and the one after its last.

    Raises UnreachableError where a leader does not answer within `wait_s`.
    """
    config = client_config(settings, topology, "consumer", name="pointsman-admin")
    # A consumer, for its requests are tried again while there is no leader; an admin client was seen to go on failing.
    consumer = opened(ck.Consumer, config, ConnectionWatch("admin"))
    try:
        found = watermarks(consumer, tps, wait_s)
    except TransportError as error:
        raise UnreachableError(
            "the Kafka broker", settings.broker, str(error), HINT, code=ErrorCode.NO_BROKER
        ) from error
    finally:
        close(consumer, CLOSE_TIMEOUT_S)
    return {(tp[0], tp[1]): marks for tp, marks in found.items()}


def _refuse_differences(wanted: list[TopicSpec], existing: Mapping[str, TopicState]) -> None:
    steps = list(compare(wanted, existing))
    counts = [f"{step.topic} {step.why}" for step in steps if step.action == "refused"]
    stamps = [
        f"{step.topic} has {STAMP}={change.now}, it must be {change.wanted}"
        for step in steps
        for change in step.changes
        if change.key == STAMP
    ]
    if counts or stamps:
        advice = [MIGRATE] if counts else []
        advice += ["`pointsman topics apply` sets it."] if stamps else []
        raise ConfigurationError(
            "\n".join(("The broker's topics do not fit this topology:", *_listed((*counts, *stamps)), *advice)),
            code=ErrorCode.TOPICS_DIFFER,
        )


def _count(missing: int) -> str:
    return "1 topic is" if missing == 1 else f"{missing} topics are"


def _listed(lines: Iterable[str]) -> list[str]:
    every = [f"  {line}" for line in lines]
    more = len(every) - LISTED_MAX
    return every if more <= 1 else [*every[:LISTED_MAX], f"  ... and {more} more"]
