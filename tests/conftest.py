"""What every test may use: the real broker of the session, and names that no other test has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from console.local.broker import LocalBroker
from tests.support.examples import FULL
from tests.support.waiting import limit_waits

_PREFIXES = count(1)

# How long an example takes is the machine's affair, and others may be at work on it. CI says the same of the same
# commit, and plays a third; `--hypothesis-profile=full` plays all, and others each time (docs/testing.md).
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", CALM, max_examples=FULL)
settings.register_profile("brief", CALM, max_examples=FULL // 3, derandomize=True)
settings.load_profile("brief")

# The JVM's second compiler pays over minutes, and no broker of a test lives that long: those of `pointsman dev` and of
# chaos runs, which have it otherwise, cost half as much without.
if "POINTSMAN_FULL_LOAD" not in os.environ:
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# What a process would log below a warning is noise between the dots.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))


def own_limit_s(item: pytest.Item) -> int:
    """The time limit that a test states of its own; 0 where it has none but everybody's."""
    mark = item.get_closest_marker("timeout")
    return int(mark.args[0]) if mark is not None and mark.args else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that may take long come first, so that pytest-xdist's workers end together.

    Told by the time limits that their tests state of their own. Within a file the order stays.
    """
    limits_s: Counter[Path] = Counter()
    for item in items:
        limits_s[item.path] += own_limit_s(item)
    items.sort(key=lambda item: -limits_s[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    limit_waits(own_limit_s(item) or float(item.config.getini("timeout")))


@pytest.fixture(scope="session")
def local_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path_factory.mktemp("broker"), heap_mib=768, short_lived=True) as broker:
        yield broker


@pytest.fixture(scope="session")
def broker(local_broker: LocalBroker) -> str:
    """Address of the session's broker; tests share it and keep apart by topic prefix."""
    return local_broker.address


@pytest.fixture
def prefix() -> str:
    """A topic prefix of this test's own."""
    return f"t{next(_PREFIXES)}."


@pytest.fixture
def repository() -> Path:
    return Path(__file__).resolve().parent.parent
