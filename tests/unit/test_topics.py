"""Names of topics: one place builds them, and takes them apart."""

from __future__ import annotations

from schemas.topics import Topics

TOPICS = Topics(agents=("one",), partitions=2, prefix="eu.")


def test_agents_that_left_are_known_by_their_topics() -> None:
    names = [
        *(TOPICS.inbox("gone"), TOPICS.events("gone"), TOPICS.events("lone"), TOPICS.inbox("one")),
        *("agents.foreign.inbox.v1", "us.agents.foreign.inbox.v1", "eu.agents.a.b.inbox.v1", "eu.agents.old.inbox.v2"),
    ]
    told = TOPICS.of_any_agent(names)
    assert told.agents == ("one", "gone", "lone")
    assert (told.partitions, told.prefix) == (2, "eu.")
    assert told.record_of(TOPICS.inbox("gone")) == "TaskDispatched"
    assert TOPICS.record_of(TOPICS.inbox("gone")) is None


def test_without_a_prefix_those_of_others_are_foreign() -> None:
    plain = Topics(agents=(), partitions=1)
    assert plain.of_any_agent([TOPICS.inbox("one"), plain.inbox("two")]).agents == ("two",)


def test_every_topic_has_one_name_and_the_partitions_of_its_kind() -> None:
    specs = TOPICS.specs()
    assert len({spec.name for spec in specs}) == len(specs)
    assert all(spec.name.startswith("eu.") and spec.name.endswith(".v1") for spec in specs)
    assert {spec.partitions for spec in specs if spec.cleanup == "delete"} == {2}
