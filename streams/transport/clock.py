"""What time it is for the broker, as far as its newest records tell.

I/O: Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable

import confluent_kafka as ck
from confluent_kafka.admin import OffsetSpec

from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from streams.transport.clients import BrokerSettings, ClientSettings, ConnectionWatch
from streams.transport.topic_admin import CHECK_TIMEOUT_S, HINT, admin_client


def newest_ms(settings: BrokerSettings, topology: ClientSettings | None, topics: Iterable[str]) -> int | None:
    """The greatest append time of all records in these topics; None where there are none, or no such topics.

    Raises UnreachableError where no broker answers.
    """
    client = admin_client(settings, topology, ConnectionWatch("admin"))
    try:
        known = client.list_topics(timeout=CHECK_TIMEOUT_S).topics
    except ck.KafkaException as raised:
        why = raised.args[0].str()
        raise UnreachableError("the Kafka broker", settings.broker, why, HINT, code=ErrorCode.NO_BROKER) from raised
    wanted = {
        ck.TopicPartition(name, number): OffsetSpec.max_timestamp()
        for name in topics
        if name in known
        for number in known[name].partitions
    }
    if not wanted:
        return None
    times = []
    for future in client.list_offsets(wanted, request_timeout=CHECK_TIMEOUT_S).values():
        try:
            times.append(future.result().timestamp)
        except ck.KafkaException:
            continue  # of a partition that has no leader now, or that this user may not read
    return max((time for time in times if time > 0), default=None)
