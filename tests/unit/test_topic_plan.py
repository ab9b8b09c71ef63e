"""What a plan finds: each difference between a deployment's topics and a broker's, and what it warns of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.topics import DAY_MS, Topics
from schemas.topology import TopicPolicy
from streams.transport.topic_plan import Change, ClusterState, Plan, TopicState, plan_topics

TOPICS = Topics(("one", "two"), 4, "eu.", TopicPolicy(replication=3, min_insync_replicas=2))


def cluster(topics: Topics, brokers: int = 3) -> ClusterState:
    """One that has what this deployment needs."""
    states = {
        spec.name: TopicState(spec.partitions, spec.replication or 1, {**spec.config(), "flush.ms": "1"})
        for spec in topics.specs()
    }
    return ClusterState(brokers, 1, states)


def altered(topic: str, state: TopicState | None) -> ClusterState:
    """The same, but for one topic; None: it is not there."""
    whole = cluster(TOPICS)
    topics = {name: each for name, each in whole.topics.items() if name != topic}
    return replace(whole, topics={**topics, **({} if state is None else {topic: state})})


def actions(plan: Plan) -> dict[str, str]:
    """What is to be done, less what is not."""
    return {step.topic: step.action for step in plan.steps if step.action != "unchanged"}


def test_nothing_is_to_be_done_where_the_broker_has_it_all() -> None:
    plan = plan_topics(TOPICS, cluster(TOPICS))
    assert actions(plan) == {}
    assert len(plan.steps) == len(TOPICS.specs())
    assert plan.warnings == ()
    assert plan.replicas() == 3 * (4 * (len(TOPICS.specs()) - 4) + 4)


def test_a_missing_topic_is_created() -> None:
    plan = plan_topics(TOPICS, altered("eu.tasks.dead.v1", None))
    assert actions(plan) == {"eu.tasks.dead.v1": "create"}
    assert plan.of("create")[0].spec == next(spec for spec in TOPICS.specs() if spec.kind == "dead")


@pytest.mark.parametrize(
    ("key", "now", "wanted"),
    [
        ("retention.ms", "1000", str(7 * DAY_MS)),
        ("cleanup.policy", "compact", "delete"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("min.insync.replicas", "1", "2"),
    ],
)
def test_each_property_that_differs_is_changed(key: str, now: str, wanted: str) -> None:
    state = cluster(TOPICS).topics["eu.tasks.results.v1"]
    plan = plan_topics(TOPICS, altered("eu.tasks.results.v1", replace(state, config={**state.config, key: now})))
    assert actions(plan) == {"eu.tasks.results.v1": "change"}
    assert plan.of("change")[0].changes == (Change(key, now, wanted),)
    assert any("producers' time" in warning for warning in plan.warnings) == (key == "message.timestamp.type")


def test_a_property_without_an_opinion_of_ours_is_left_alone() -> None:
    state = cluster(TOPICS).topics["eu.tasks.results.v1"]
    other = replace(state, config={**state.config, "flush.ms": "2", "max.message.bytes": "9"})
    assert actions(plan_topics(TOPICS, altered("eu.tasks.results.v1", other))) == {}
    unstated = replace(TOPICS, settings=TopicPolicy())
    assert actions(plan_topics(unstated, cluster(TOPICS))) == {}


def test_another_partition_count_is_refused_whatever_else_differs() -> None:
    state = TopicState(2, 3, {"cleanup.policy": "compact"})
    plan = plan_topics(TOPICS, altered("eu.tasks.submitted.v1", state))
    assert actions(plan) == {"eu.tasks.submitted.v1": "refused"}
    assert plan.of("refused")[0].why == "has 2 partitions, topology says 4"


def test_topics_of_agents_that_left_are_left_over_and_those_of_others_are_not_seen() -> None:
    whole = cluster(replace(TOPICS, agents=("one", "two", "gone")))
    foreign = {name: TopicState(1, 1, {}) for name in ("agents.x.inbox.v1", "us.agents.x.inbox.v1", "eu.mine")}
    plan = plan_topics(TOPICS, replace(whole, topics={**whole.topics, **foreign}))
    assert actions(plan) == {"eu.agents.gone.inbox.v1": "left over", "eu.agents.gone.events.v1": "left over"}


@pytest.mark.parametrize(
    ("brokers", "default", "warned"), [(3, 1, True), (2, 1, False), (3, 3, False), (3, None, False)]
)
def test_one_copy_on_three_brokers_is_warned_of(brokers: int, default: int | None, warned: bool) -> None:
    plan = plan_topics(replace(TOPICS, settings=TopicPolicy()), ClusterState(brokers, default, {}))
    assert any("one copy on a cluster of 3 brokers" in warning for warning in plan.warnings) == warned
    assert (plan.replicas() is None) == (default is None)


def test_other_copies_than_stated_are_warned_of_and_not_moved() -> None:
    state = replace(cluster(TOPICS).topics["eu.tasks.results.v1"], replication=2)
    plan = plan_topics(TOPICS, altered("eu.tasks.results.v1", state))
    assert actions(plan) == {}
    assert ["eu.tasks.results.v1 has 2" in warning for warning in plan.warnings] == [True]


def test_no_copy_to_spare_is_warned_of() -> None:
    policy = TopicPolicy(replication=3, min_insync_replicas=3)
    (warning,) = plan_topics(replace(TOPICS, settings=policy), ClusterState(3, 3, {})).warnings
    assert "nothing can be written" in warning
