"""A node of our own: it starts from the archive of classes that `make setup` made, and after a kill all is ended."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import confluent_kafka as ck
import pytest

from console.local.broker import LocalBroker
from console.local.broker_config import CONTROLLER_LOG, FENCED
from console.local.java import class_archive
from schemas.settings import Settings
from schemas.topics import TopicSpec
from streams.transport.admin import ensure_topics
from tests.support.waiting import PATIENCE, deadline_in, leaving, patient_s

PARTITIONS, PRODUCERS = 30, 6

pytestmark = pytest.mark.broker


@pytest.mark.skipif(class_archive() is None or sys.platform != "linux", reason="no archive, or no way to see its use")
def test_a_node_maps_its_classes(local_broker: LocalBroker) -> None:
    assert str(class_archive()) in Path(f"/proc/{local_broker.pid}/maps").read_text("utf-8")


def create(own: LocalBroker, topic: str, partitions: int) -> None:
    """Their leaders answer, so the node counts as there."""
    ensure_topics(Settings(broker=own.address), [TopicSpec(topic, None, partitions, "delete", 3_600_000)])


def opened(address: str, number: int) -> ck.Producer:
    producer = ck.Producer(
        {"bootstrap.servers": address, "transactional.id": f"p{number}", "linger.ms": 0, "log_level": 0}
    )
    producer.init_transactions(patient_s(30))
    return producer


class Ending(threading.Thread):
    """Ends one transaction after another, each in all partitions, so that some are always about to end."""

    def __init__(self, address: str, number: int) -> None:
        super().__init__(name=f"producer-{number}", daemon=True)
        self.number, self.producer = number, opened(address, number)
        self.done, self.stop, self.error = 0, threading.Event(), ""

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.producer.begin_transaction()
                for partition in range(PARTITIONS):
                    self.producer.produce("ends", b"", partition=partition)
                self.producer.commit_transaction(PATIENCE * 5.0)
                self.done += 1
        except ck.KafkaException as error:  # the broker was killed
            self.error = str(error)


def ends(address: str, isolation: str) -> list[int]:
    config = {"bootstrap.servers": address, "group.id": "looks", "isolation.level": isolation, "log_level": 0}
    with leaving(ck.Consumer(config)) as consumer:
        parts = [ck.TopicPartition("ends", partition) for partition in range(PARTITIONS)]
        return [consumer.get_watermark_offsets(part, timeout=PATIENCE * 10.0)[1] for part in parts]


@pytest.mark.timeout(240)
def test_transactions_that_were_ending_when_a_node_was_killed_have_ended(tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker", heap_mib=512, short_lived=True) as own:
        create(own, "ends", PARTITIONS)
        threads = [Ending(own.address, number) for number in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        until = deadline_in(60)
        while min(thread.done for thread in threads) < 3:
            assert time.monotonic() < until, [thread.done for thread in threads]
            assert not any(thread.error for thread in threads), [thread.error for thread in threads]
            time.sleep(0.05)
        own.kill()
        for thread in threads:
            thread.stop.set()
        own.start()
        for thread in threads:
            thread.join(patient_s(30))
            assert not thread.is_alive(), thread.done
            opened(own.address, thread.number)  # aborts what had not been about to end
        until = deadline_in(30)
        while ends(own.address, "read_committed") != (written := ends(own.address, "read_uncommitted")):
            assert time.monotonic() < until, "a transaction hangs"
            time.sleep(0.2)
        assert min(written) >= 3 * PRODUCERS
        # Which of them hang without this is chance, and on an idle machine mostly none.
        assert FENCED in (tmp_path / "broker" / CONTROLLER_LOG).read_text("utf-8")


@pytest.mark.timeout(120)
def test_a_node_that_counts_as_gone_already_comes_up_all_the_same(tmp_path: Path) -> None:
    with LocalBroker(tmp_path / "broker", heap_mib=512, short_lived=True) as own:
        create(own, "before", 1)
        own.kill()
        own._fence_its_former_self()  # as a start that is cut off does
        log = tmp_path / "broker" / CONTROLLER_LOG
        assert FENCED in log.read_text("utf-8")
        own.start(PATIENCE * 20.0)
        assert FENCED not in log.read_text("utf-8")
        create(own, "after", 1)
