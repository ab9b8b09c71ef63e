"""What the tests' broker with users promises of the rights that it grants."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclBinding, AclBindingFilter

from tests.support import secured
from tests.support.secured import SecuredBroker

SCRIPT = ["kafka-acls.sh --add --allow-principal User:ops --operation Write --operation Describe --topic t"]


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


class Late:
    """A broker that hears of its controller's rules one by one, each when it is asked the next time."""

    def __init__(self) -> None:
        self.made: list[AclBinding] = []
        self.heard = 0

    def create_acls(self, rules: Sequence[AclBinding], **_: Any) -> dict[AclBinding, Future[Any]]:
        self.made += rules
        return {rule: done(None) for rule in rules}

    def describe_acls(self, _filter: AclBindingFilter, **_: Any) -> Future[Any]:
        self.heard = min(self.heard + 1, len(self.made))
        return done(self.made[: self.heard])


def test_the_broker_goes_by_all_that_was_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Late()
    monkeypatch.setattr(secured, "AdminClient", lambda _config: late)
    SecuredBroker(tmp_path, ["ops"]).grant(SCRIPT)
    assert late.heard == len(late.made) == 2
