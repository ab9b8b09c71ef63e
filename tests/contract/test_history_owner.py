"""A history belongs to one deployment: the first, whatever the tables held before, and for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.topology import Topology
from streams.history.owner import own
from tests.support import scenes
from tests.support.history_door import migrated, opened
from tests.support.history_rows import identity_free, insert


@pytest.fixture
def client() -> Iterator[Any]:
    with opened() as door, migrated(door) as client:
        yield client


def of(prefix: str) -> Topology:
    return scenes.topology(prefix=prefix)


def test_the_first_deployment_has_it_and_another_is_refused(client: Any) -> None:
    own(client, of("eu."))
    own(client, of("eu."))
    with pytest.raises(ConfigurationError, match=r"prefix 'eu\.'; this deployment has the prefix 'us\.'") as raised:
        own(client, of("us."))
    assert raised.value.error_code is ErrorCode.HISTORY_OWNER
    with pytest.raises(ConfigurationError):
        own(client, of(""))
    assert client.query("SELECT prefix FROM pointsman.owner").result_rows == [("eu.",)]


def test_a_history_from_before_there_were_owners_is_whose_tasks_it_holds(client: Any) -> None:
    insert(client, "TaskSubmitted", identity_free("x"), [1], topic="eu.tasks.submitted.v1")
    with pytest.raises(ConfigurationError, match=r"holds tasks of eu\.tasks\.submitted\.v1"):
        own(client, of(""))
    own(client, of("eu."))


def test_of_two_that_take_it_at_one_time_both_see_the_earlier(client: Any) -> None:
    own(client, of("eu."))
    client.command("INSERT INTO pointsman.owner (prefix, claimed_at) VALUES ('us.', '2020-01-01 00:00:00')")
    own(client, of("us."))
    with pytest.raises(ConfigurationError):
        own(client, of("eu."))
