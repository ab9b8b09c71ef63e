"""How a process that ends cleanly gives up its slot's place in the group, so that nobody waits for it.

librdkafka's static members never leave: what they had would lie unread for a session, 30 s, unless somebody starts in
the slot again. I/O: Kafka.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from schemas.errors import ConfigurationError
from streams.transport.brokers import UNREACHABLE, Brokers
from streams.transport.securing import can_secure, security_of
from streams.transport.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

log = get_logger("pointsman.kafka")

LEAVE_S = 1.0
"""A process has four seconds to end, and the last of them is for this."""

_GROUP = 0
_MEMBERS_KNOWN_BY_PLACE = ""


class _Left(Response):  # type: ignore[misc]  # aiokafka carries no types that hold
    API_KEY, API_VERSION = 13, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(("member_id", String()), ("group_instance_id", String()), ("error_code", Int16))),
    )


class _LeaveStruct(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY, API_VERSION, RESPONSE_TYPE = 13, 3, _Left
    SCHEMA = Schema(
        ("group", String()),
        ("members", Array(("member_id", String()), ("group_instance_id", String()))),
    )


class _Leave(Request[_LeaveStruct]):  # type: ignore[misc]  # as above
    """Version 3 names members by their places (KIP-345); aiokafka's own stop at 1."""

    API_KEY = 13

    def __init__(self, group: str, instance: str) -> None:
        self._group, self._instance = group, instance

    def build(self, request_struct_class: type[_LeaveStruct]) -> _LeaveStruct:
        return request_struct_class(self._group, [(_MEMBERS_KNOWN_BY_PLACE, self._instance)])


def vacate(config: Mapping[str, Any], timeout_s: float = LEAVE_S) -> None:
    """Takes the place out of the group that these consumer's properties name; nothing, where they name no place.

    Never raises: what is not given up now is over with its session, as it is where librdkafka alone can sign on.
    """
    group, instance = config.get("group.id"), config.get("group.instance.id")
    if instance is None or not can_secure(config):
        return
    try:
        error = asyncio.run(asyncio.wait_for(_leave(config, str(group), str(instance), timeout_s), timeout_s))
    except (*UNREACHABLE, ConfigurationError) as raised:
        log.warning("the slot's place in the group stays until its session is over", why=str(raised))
    else:
        log.info("the slot's place in the group is given up", group=group, slot=instance, error=error)


async def _leave(config: Mapping[str, Any], group: str, instance: str, timeout_s: float) -> int:
    """An error code of Kafka's, 0 for none."""
    brokers = Brokers(config, security_of(config), timeout_s)
    try:
        await brokers.refresh([])
        found = await brokers.send(brokers.any(), FindCoordinatorRequest(group, _GROUP))
        if found.error_code:
            return int(found.error_code)
        answer = await brokers.send(found.coordinator_id, _Leave(group, instance))
        return int(answer.error_code or next((code for _, _, code in answer.members), 0))
    finally:
        brokers.close()
