"""A node of our own starts from the archive of classes that `make setup` made, where it made one for these jars."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from console.local.broker import LocalBroker
from console.local.java import class_archive

pytestmark = pytest.mark.broker


@pytest.mark.skipif(class_archive() is None or sys.platform != "linux", reason="no archive, or no way to see its use")
def test_a_node_maps_its_classes(local_broker: LocalBroker) -> None:
    assert str(class_archive()) in Path(f"/proc/{local_broker.pid}/maps").read_text("utf-8")
