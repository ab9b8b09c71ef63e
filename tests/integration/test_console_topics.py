"""`pointsman topics` on a real broker, which creates no topic by itself."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from console.cli import topics as topics_cli
from console.cli.deployment import load
from console.cli.failures import ExitCode, UsageError
from console.cli.output import Format, Output
from schemas.settings import Settings
from schemas.topics import TopicSpec
from schemas.topology import load_topology
from streams.transport import topic_admin
from streams.transport.admin import await_leaders, ensure_topics
from streams.transport.topic_admin import TopicAdmin
from tests.support.console import Said, pointsman
from tests.support.contract import breaches, promises
from tests.support.topologies import TEXT
from tests.support.waiting import PATIENCE

Capture = pytest.CaptureFixture[str]
HEARD_S = 10.0
pytestmark = pytest.mark.broker


class Terminal(io.StringIO):
    """A person who types this."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def file(tmp_path: Path, prefix: str) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(TEXT.replace("prefix: t.", f"prefix: {prefix}\npartitions: 2"))
    return path


def topics(capsys: Capture, broker: str, file: Path, *arguments: str) -> Said:
    return pointsman(capsys, "topics", *arguments, "--broker", broker, "--topology", str(file))


def made(broker: str, *new: NewTopic) -> None:
    """Topics as somebody else would make them; the broker shows them when this returns, not just the controller."""
    admin = AdminClient({"bootstrap.servers": broker})  # kept: its futures fail with it
    for future in admin.create_topics([*new]).values():
        future.result()
    specs = [TopicSpec(each.topic, None, each.num_partitions, "delete", 3_600_000) for each in new]
    await_leaders(Settings.resolve({"broker": broker}, {}), specs)


def test_plan_apply_and_nothing_left_to_do(broker: str, file: Path, capsys: Capture) -> None:
    names = {spec.name for spec in load_topology(file).topics().specs()}
    planned = topics(capsys, broker, file, "plan", "-o", "json")
    assert planned.code == ExitCode.OK
    plan = json.loads(planned.out)
    assert {row["topic"]: row["action"] for row in plan["topics"]} == dict.fromkeys(names, "create")
    assert plan["totals"]["topics"] == len(names)
    assert plan["totals"]["partitions"] == plan["totals"]["replicas"] == 2 * (len(names) - 4) + 4
    assert topics(capsys, broker, file, "plan", "--check").code == ExitCode.FAILED
    assert not names & AdminClient({"bootstrap.servers": broker}).list_topics(timeout=PATIENCE * 10).topics.keys()

    done = topics(capsys, broker, file, "apply", "--yes", "-o", "jsonl")
    assert done.code == ExitCode.OK, done.err
    assert {row["topic"]: row["outcome"] for row in done.rows} == dict.fromkeys(names, "done")
    again = topics(capsys, broker, file, "apply", "-o", "jsonl")  # nothing to ask about
    assert {row["outcome"] for row in again.rows} == {"unchanged"}
    assert "Nothing to do" in again.err
    assert topics(capsys, broker, file, "plan", "--check").code == ExitCode.OK
    # What worker and host make when they start is the same.
    assert ensure_topics(Settings.resolve({"broker": broker}, {}), load_topology(file).topics().specs()) == []


def test_changes_are_made_in_place_and_other_properties_kept(
    broker: str, file: Path, prefix: str, capsys: Capture
) -> None:
    admin, name = AdminClient({"bootstrap.servers": broker}), f"{prefix}tasks.results.v1"
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "1000", "segment.bytes": "1048576"}
    made(broker, NewTopic(name, 2, 1, config=config))
    plan = topics(capsys, broker, file, "plan")
    assert plan.code == ExitCode.OK
    (line,) = (line for line in plan.out.splitlines() if line.startswith(name))
    assert "retention.ms: 1000 -> 604800000" in line
    assert "CreateTime -> LogAppendTime" in line
    assert "producers' time" in plan.err
    assert topics(capsys, broker, file, "apply", "--yes").code == ExitCode.OK
    described = json.loads(topics(capsys, broker, file, "describe", name, "-o", "json").out)
    assert described["config"]["retention.ms"] == "604800000"
    assert topics(capsys, broker, file, "plan", "--check").code == ExitCode.OK
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    assert future.result()["segment.bytes"].value == "1048576"


@pytest.mark.parametrize("slow_calls", [3, 1_000_000])
def test_apply_ends_when_brokers_have_heard_of_the_changes_or_says_that_they_have_not(
    slow_calls: int, broker: str, file: Path, prefix: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, asked = f"{prefix}tasks.results.v1", [0]
    made(broker, NewTopic(name, 2, 1, config={"retention.ms": "1000"}))
    configs = TopicAdmin._configs

    def late(self: TopicAdmin, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Of a broker that has not heard of it the first times that it is asked."""
        found, asked[0] = configs(self, names), asked[0] + 1
        return {**found, name: {**found[name], "retention.ms": "1000"}} if asked[0] <= slow_calls else found

    monkeypatch.setattr(TopicAdmin, "_configs", late)
    monkeypatch.setattr(topic_admin, "HEARD_TIMEOUT_S", 0.5 if slow_calls > 3 else HEARD_S * PATIENCE)
    said = topics(capsys, broker, file, "apply", "--yes")
    assert said.code == ExitCode.OK
    assert ("has heard of the changes yet" in said.err) is (slow_calls > 3)
    assert asked[0] > 3


def test_another_partition_count_is_refused_and_nothing_is_done(
    broker: str, file: Path, prefix: str, capsys: Capture
) -> None:
    admin, name = AdminClient({"bootstrap.servers": broker}), f"{prefix}tasks.submitted.v1"
    made(broker, NewTopic(name, 3, 1))
    for arguments in (("plan",), ("apply", "--yes")):
        said = topics(capsys, broker, file, *arguments)
        assert said.code == ExitCode.INVALID
        assert "has 3 partitions, topology says 2" in said.out
        assert "docs/topics.md" in said.err
    assert f"{prefix}tasks.results.v1" not in admin.list_topics(timeout=PATIENCE * 10).topics


def test_topics_of_agents_that_left_are_kept(broker: str, file: Path, prefix: str, capsys: Capture) -> None:
    assert topics(capsys, broker, file, "apply", "--yes").code == ExitCode.OK
    text = file.read_text()
    file.write_text(text.replace("  slower: {run: pack.age:slower, effect: read, timeout_ms: 8001}\n", ""))
    plan = topics(capsys, broker, file, "apply", "--yes")
    assert plan.code == ExitCode.OK
    left = [
        row["topic"] for row in topics(capsys, broker, file, "plan", "-o", "jsonl").rows if row["action"] == "left over"
    ]
    assert left == [f"{prefix}agents.slower.inbox.v1", f"{prefix}agents.slower.events.v1"]
    assert set(left) <= AdminClient({"bootstrap.servers": broker}).list_topics(timeout=PATIENCE * 10).topics.keys()


def test_one_topic_that_fails_does_not_keep_the_others(broker: str, file: Path, prefix: str, capsys: Capture) -> None:
    # One broker cannot hold two copies.
    file.write_text(f"topic_policy: {{replication: 2}}\n{file.read_text()}")
    name = f"{prefix}tasks.results.v1"
    made(broker, NewTopic(name, 2, 1, config={"retention.ms": "1000"}))
    said = topics(capsys, broker, file, "apply", "--yes", "-o", "jsonl")
    assert said.code == ExitCode.FAILED
    outcomes = {row["topic"]: (row["outcome"], row["why"]) for row in said.rows}
    assert outcomes[name] == ("done", None)
    outcome, why = outcomes[f"{prefix}tasks.submitted.v1"]
    assert outcome == "failed"
    assert "replication" in why.lower()
    assert "Copies differ from topic_policy.replication" in said.err


def test_nobody_can_be_asked_in_a_pipe_and_a_person_is(broker: str, file: Path, capsys: Capture) -> None:
    asked = topics(capsys, broker, file, "apply")
    assert asked.code == ExitCode.USAGE
    assert "`pointsman topics apply --yes`" in asked.err
    deployment = load({"broker": broker, "topology": file})
    out = Output(io.StringIO(), io.StringIO())
    with pytest.raises(UsageError, match="Nothing was changed"):
        topics_cli.apply_plan(deployment, yes=False, form=Format.TABLE, out=out, answers=Terminal("no\n"))
    assert out.out.getvalue() == ""  # type: ignore[attr-defined]
    done = topics_cli.apply_plan(deployment, yes=False, form=Format.JSONL, out=out, answers=Terminal("y\n"))
    assert done == ExitCode.OK
    rows = [json.loads(line) for line in out.out.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert {row["outcome"] for row in rows} == {"done"}


def test_list_and_describe(broker: str, file: Path, prefix: str, capsys: Capture) -> None:
    empty = topics(capsys, broker, file, "list", "-o", "jsonl")
    assert empty.code == ExitCode.OK
    assert {row["records"] for row in empty.rows} == {None}
    assert "are missing" in empty.err
    missing = topics(capsys, broker, file, "describe", "tasks.results.v1")
    assert missing.code == ExitCode.NOT_FOUND
    assert "`pointsman topics apply`" in missing.err

    assert topics(capsys, broker, file, "apply", "--yes").code == ExitCode.OK
    listed = topics(capsys, broker, file, "list", "-o", "jsonl")
    assert [row["topic"] for row in listed.rows] == [spec.name for spec in load_topology(file).topics().specs()]
    assert {row["records"] for row in listed.rows} == {0}
    told = json.loads(topics(capsys, broker, file, "describe", "tasks.results.v1", "-o", "json").out)
    assert told["topic"] == f"{prefix}tasks.results.v1"
    assert (told["written_by"], told["read_by"]) == (["worker", "mender"], ["subscriber", "worker", "store"])
    assert [row["end_offset"] for row in told["partitions"]] == [0, 0]
    assert "leader" in topics(capsys, broker, file, "describe", f"{prefix}tasks.results.v1").out


def test_the_fields_are_those_of_the_page(broker: str, file: Path, prefix: str, capsys: Capture) -> None:
    def said(*arguments: str) -> Any:
        return json.loads(topics(capsys, broker, file, *arguments, "-o", "json").out)

    wrong = NewTopic(f"{prefix}tasks.results.v1", 2, 1, config={"retention.ms": "1000"})
    made(broker, wrong, NewTopic(f"{prefix}agents.gone.inbox.v1", 2, 1))
    plan = said("plan")
    rows = [*plan["topics"], *topics(capsys, broker, file, "plan", "-o", "jsonl").rows]
    nested = {name.removeprefix("topics[]."): kind for name, kind in promises()["pointsman topics plan"].items()}
    whole = {name: nested.pop(name) for name in ("topics", "totals", "warnings")}
    assert breaches(rows, nested) == []
    assert breaches([{**plan, "topics": []}], whole) == []
    assert breaches(said("list"), promises()["pointsman topics list"]) == []
    assert breaches(said("apply", "--yes"), promises()["pointsman topics apply"]) == []
    assert breaches(said("list"), promises()["pointsman topics list"]) == []
    assert breaches([said("describe", "tasks.results.v1")], promises()["pointsman topics describe"]) == []


def test_an_unknown_topic_gets_the_nearest_name(broker: str, file: Path, prefix: str, capsys: Capture) -> None:
    said = topics(capsys, broker, file, "describe", f"{prefix}tasks.result.v1")
    assert said.code == ExitCode.NOT_FOUND
    assert f"did you mean {prefix}tasks.results.v1?" in said.err


def test_the_other_forms_ask_no_broker(file: Path, capsys: Capture) -> None:
    for form in ("acl", "strimzi"):
        said = topics(capsys, "127.0.0.1:1", file, "plan", "--form", form)
        assert (said.code, said.err) == (ExitCode.OK, "")
        assert said.out
    assert topics(capsys, "127.0.0.1:1", file, "plan", "--form", "acl", "-o", "json").code == ExitCode.USAGE


def test_no_broker_is_said(file: Path, capsys: Capture) -> None:
    assert topics(capsys, "127.0.0.1:1", file, "plan").code == ExitCode.UNREACHABLE
