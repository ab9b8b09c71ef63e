"""The in-memory broker's stand-in for confluent_kafka.admin.AdminClient. I/O: none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import ResourceType

from tests.simulation.broker import BrokerError
from tests.simulation.wire import Client, Cluster, Listing, exception

REQUEST_S = 30.0


@dataclass(frozen=True)
class Entry:
    """One setting of a topic."""

    value: str


class AdminClient(Client):
    """As confluent_kafka's, of the cluster `cluster`: topics only. What it returns is done already."""

    def __init__(self, cluster: Cluster, config: Mapping[str, Any]) -> None:
        super().__init__(cluster, config)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Listing:
        assert timeout >= 0, "P11: a wait without an end"
        found: Listing = self.call(lambda: Listing(self.broker), timeout)
        return found

    def poll(self, timeout: float = -1) -> int:
        """There is nothing to tell: whom it cannot reach, it finds out when it asks."""
        assert timeout >= 0, "P11: a wait without an end"
        return 0

    def describe_cluster(self, **_: Any) -> Future[None]:
        """What nobody looks at, at once."""
        answered: Future[None] = Future()
        answered.set_result(None)
        return answered

    def create_topics(self, new_topics: Sequence[Any], **_: Any) -> dict[str, Future[None]]:
        return {
            new.topic: self._done(
                lambda new=new: self.broker.create(new.topic, new.num_partitions, new.config)  # type: ignore[misc]
            )
            for new in new_topics
        }

    def delete_topics(self, topics: Sequence[str], **_: Any) -> dict[str, Future[None]]:
        return {name: self._done(lambda name=name: self._delete(name)) for name in topics}  # type: ignore[misc]

    def _delete(self, name: str) -> None:
        self.broker.partition(name, 0)
        del self.broker.topics[name]

    def delete_records(self, until: Sequence[Any], **_: Any) -> dict[Any, Future[None]]:
        return {tp: self._done(lambda tp=tp: self._cut(tp)) for tp in until}  # type: ignore[misc]

    def _cut(self, tp: Any) -> None:
        self.broker.partition(tp.topic, tp.partition).truncate(tp.offset)

    def describe_configs(self, resources: Sequence[Any], **_: Any) -> dict[Any, Future[Mapping[str, Entry]]]:
        return {each: self._done(lambda each=each: self._config(each)) for each in resources}  # type: ignore[misc]

    def _config(self, resource: Any) -> Mapping[str, Entry]:
        if resource.restype is ResourceType.BROKER:
            return {"default.replication.factor": Entry("1")}
        name = resource.name
        self.broker.partition(name, 0)
        return {setting: Entry(value) for setting, value in self.broker.configs[name].items()}

    def _done(self, request: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.call(request, REQUEST_S))
        except BrokerError as error:
            future.set_exception(exception(error.code))
        except Exception as error:  # noqa: BLE001  whoever asks for the result raises it
            future.set_exception(error)
        return future
