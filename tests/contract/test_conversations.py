"""Memory out of the history, with the real engine: the window that it gives is the window that the host folded."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agents.memory.canonical import state_bytes, state_hash, window_bytes
from agents.memory.fold import fold, reach, refold
from agents.memory.model import CHUNK, ForeignInteraction, Interaction, Key, State, Summary
from agents.memory.modelled import SUMMARISED, modelled, payload_of
from agents.memory.ports import SourceAway
from agents.memory.window import window
from console.cli.deployment import Deployment as ConsoleDeployment
from console.cli.failures import NotFoundError
from console.cli.memory import memory_of, show_context
from console.cli.memory_checks import revoke, verify_context
from console.cli.output import Format, Output
from console.memory.recall import LAST, StoreRecall, read_so_far
from console.memory.summaries import row_of
from streams.history import conversations as conversations_module
from streams.history.connection import Connection
from streams.history.conversations import Conversations
from streams.history.door import Door
from streams.history.migrations import lost, migrate
from streams.history.queries import History
from streams.history.summaries import Summaries
from streams.history.tables import COPIES
from tests.simulation.standins import replaced
from tests.support.contract import breaches, promises
from tests.support.history import T0_US, Deployment, slip, task
from tests.support.history_door import migrated, opened
from tests.support.history_memory import LOG, NOBODY, TOPOLOGY, claim, tell, tell_models
from tests.support.history_rows import insert
from tests.support.memories import KEY, history, interaction, mark


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


@pytest.fixture(scope="module")
def tables(door: Door) -> Iterator[Any]:
    with migrated(door, merging=False) as client:  # only what reads may fold
        yield client


@pytest.fixture
def client(tables: Any) -> Any:
    for table in ("tasks_log", "agent_events_log", "conversation_summaries", *COPIES):
        tables.command(f"TRUNCATE TABLE pointsman.{table}")
    return tables


@pytest.fixture
def recall(door: Door, client: Any) -> Iterator[StoreRecall]:
    conversations = Conversations(door.url, timeout_s=60)
    yield StoreRecall(TOPOLOGY, conversations)
    conversations.close()


def folded(interactions: Sequence[Interaction]) -> State:
    """As a host has it that saw everything."""
    state = State(KEY)
    for each in interactions:
        state = fold(state, each)
    return state


def state_of(recall: StoreRecall, key: Key = KEY) -> State:
    memories, _ = recall.recall(0, [key])
    held = memories[key]
    return refold(key, held.interactions, facts_before=held.facts_before, models=held.models)


@pytest.mark.parametrize("n", [1, 10, 119, 120, 431])
def test_the_window_out_of_the_history_is_the_window_that_was_folded(client: Any, recall: StoreRecall, n: int) -> None:
    said = [replace(each, facts=(f"fact {each.ordinal}",) if each.ordinal % 40 == 3 else ()) for each in history(n)]
    for start in range(0, n, 100):
        tell(client, said[start : start + 100], start, times=2)
    assert window_bytes(window(state_of(recall))) == window_bytes(window(folded(said)))
    assert state_hash(state_of(recall)) == state_hash(folded(said))
    assert recall.recall(0, [KEY])[1] == {KEY.agent_id: n}


def models_of(interactions: Sequence[Interaction], said: str = "In short", **fields: Any) -> list[Summary]:
    """What a model makes of each chunk that is complete."""
    found = []
    for start in range(0, len(interactions) - CHUNK + 1, CHUNK):
        members = interactions[start : start + CHUNK]
        text = "\n".join([f"{said}: {start}", *(fact for each in members for fact in each.facts)])
        made = modelled(members, text, "model 1", 400, epoch=fields.get("epoch", 1), count=members[-1].ordinal)
        assert isinstance(made, Summary)
        found.append(made)
    return found


@pytest.mark.parametrize("n", [10, 25, 431])
def test_what_models_made_comes_out_of_the_history_as_it_was_folded(client: Any, recall: StoreRecall, n: int) -> None:
    said = history(n)
    models = models_of(said)
    tell(client, said, 0)
    tell_models(client, models, n, times=2)
    memories, through = recall.recall(0, [KEY])
    assert through == {KEY.agent_id: n + len(models)}
    expected = refold(KEY, said, models=models)
    assert len(expected.models) == min(n // CHUNK, 11)
    assert state_bytes(state_of(recall)) == state_bytes(expected)
    assert window_bytes(window(state_of(recall))) == window_bytes(window(expected))
    assert read_so_far(memories[KEY], n).models == (), "what a host has to take from the log"


def test_what_a_fenced_hosts_model_made_is_nobodys_memory(client: Any, recall: StoreRecall) -> None:
    claim(client, 1, 0)
    tell(client, history(25), 1)
    claim(client, 2, 30)
    tell_models(client, models_of(history(20), "a sleeper says"), 31)
    assert state_of(recall).models == ()
    owners = models_of(history(20), "the owner says", epoch=2)
    tell_models(client, owners, 40)
    assert state_of(recall).models == tuple(owners)


def test_people_see_what_models_made_beside_the_others_until_something_of_it_is_revoked(
    door: Door, client: Any
) -> None:
    said = history(25)
    tell(client, said, 0)
    tell_models(client, models_of(said), 25, times=2)
    Summaries(door.url).put([row_of(KEY, each) for each in folded(said).chunks])
    people = History(door.url)
    sql = "SELECT first, last, kind, maker, text, length(members) FROM summaries WHERE kind = 'model' ORDER BY first"
    assert people.query(sql).rows == [
        (1, 10, "model", "model 1", "In short: 0", 10),
        (11, 20, "model", "model 1", "In short: 10", 10),
    ]
    assert people.query("SELECT count() FROM summaries").rows == [(4,)]
    assert people.query("SELECT count() FROM interactions").rows == [(25,)]
    word = {"kind": "REVOKE", "id": "r", "agent_id": KEY.agent_id, "tenant": KEY.tenant, "by": "ada", "at": T0_US}
    ids = pa.array([[said[4].id]], pa.list_(pa.field("item", pa.string(), nullable=False)))
    insert(client, "MemoryDirective", {**word, "conversation_id": KEY.conversation_id, "interactions": ids}, [0])
    assert people.query("SELECT first, kind FROM summaries ORDER BY 1, 2").rows == [(11, "extractive"), (11, "model")]
    client.command("TRUNCATE TABLE pointsman.memory_directives_log")
    people.close()


def test_more_is_read_than_a_state_depends_on() -> None:
    assert all(count - reach(count) < LAST for count in range(1, 1_000))


def told(client: Any) -> None:
    """Two conversations, one of them long, with facts, copies, a fenced host's words, and models' summaries."""
    said = [replace(each, facts=(f"fact {each.ordinal}",) if each.ordinal % 7 == 3 else ()) for each in history(230)]
    claim(client, 1, 0)
    tell(client, said[:200], 1, times=2)
    tell_models(client, models_of(said[:200]), 201)
    claim(client, 2, 230)
    tell(client, [replace(each, answer="a sleeper's", facts=("no fact",)) for each in said[200:210]], 231)
    tell(client, [replace(each, epoch=2) for each in said[200:]], 241)
    tell(client, history(4, KEY._replace(conversation_id="c2")), 280)
    tell(client, [interaction(5, KEY._replace(conversation_id="c2"))], 290, asked=False)


@pytest.mark.parametrize("last", [1, 20, 160, 500])
@pytest.mark.parametrize("facts_max", [5, 100])
def test_conversations_read_as_a_whole_and_by_their_ends_are_the_same(
    door: Door, client: Any, monkeypatch: pytest.MonkeyPatch, last: int, facts_max: int
) -> None:
    told(client)
    keys = [(*KEY,), ("acme", KEY.agent_id, "c2"), ("acme", KEY.agent_id, "nothing")]
    conversations = Conversations(door.url, timeout_s=60)
    read = []
    for rows in (conversations_module.WHOLE_ROWS, 100, 1):  # all is read as a whole, what was asked alone, nothing
        monkeypatch.setattr(conversations_module, "WHOLE_ROWS", rows)
        read.append(conversations.read(keys, [LOG], 0, last, facts_max))
    conversations.close()
    assert read[0].through == read[1].through == read[2].through == {LOG: 291}
    assert read[0].claims == read[1].claims == read[2].claims == {LOG: [(0, 1), (230, 2)]}
    assert read[0].found == read[1].found == read[2].found
    assert len(read[0].found) == 2
    before = max(230 - last, 0)
    fenced = min(max(before - 200, 0), 10)  # of whom claims tell that they are nobody's
    assert len(read[0].found[keys[0]].facts) == min(facts_max, (before + 4) // 7 + fenced)
    assert len(read[0].found[keys[0]].models) == len([each for each in range(10, 201, 10) if each > before])


def test_memories_are_apart(client: Any, recall: StoreRecall) -> None:
    others = [KEY._replace(tenant="other"), KEY._replace(conversation_id="c2"), KEY._replace(agent_id="writer")]
    for number, key in enumerate([KEY, *others]):
        asked = f"asked in {key.conversation_id} of {key.tenant}"  # agents of one conversation are asked the same
        tell(client, [replace(each, asked=asked, answer=f"of {key}") for each in history(3, key)], 10 * number)
    memories, _ = recall.recall(0, [KEY, *others])
    assert {key: {(each.asked, each.answer) for each in found.interactions} for key, found in memories.items()} == {
        key: {(f"asked in {key.conversation_id} of {key.tenant}", f"of {key}")} for key in [KEY, *others]
    }


def _whichever(position: int) -> Any:
    """Rows of all names in this place of their key are one's."""
    return property(lambda row: (*row[:position], KEY[position], *row[position + 1 : 3]))


def _asked_by_anybody(*positions: int) -> Any:
    """Questions of one id are one's, whoever asked them."""
    earliest = conversations_module._earliest

    class Found(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            same = [each for each in self if all(each[at] == key[at] for at in positions)]
            return self[same[0]] if same else default

    return lambda rows: Found(earliest(rows))


@pytest.mark.parametrize(
    ("place", "stand_in"),
    [
        ("streams.history.conversation_rows.Row.key", _whichever(0)),
        ("streams.history.conversation_rows.Row.key", _whichever(1)),
        ("streams.history.conversation_rows.Row.key", _whichever(2)),
        ("streams.history.conversations._earliest", _asked_by_anybody(1, 2, 3)),
        ("streams.history.conversations._earliest", _asked_by_anybody(0, 2, 3)),
    ],
    ids=["another tenant's", "another agent's", "another conversation's", "asked by a tenant", "asked elsewhere"],
)
def test_a_build_that_mixes_memories_up_is_seen(client: Any, recall: StoreRecall, place: str, stand_in: Any) -> None:
    with replaced((place, stand_in)), pytest.raises((AssertionError, ForeignInteraction, KeyError)):
        test_memories_are_apart(client, recall)


ODD = (
    "c1",
    "c1 ",
    "C1",
    "c1'",
    "c1\\'",
    'c1"',
    "c1\\",
    "c1\t",
    "c1\n",
    "c1')], [('acme",
    "c%31",
    "{keys}",
    "c\u0301",
    "\u0107",
    "",
)


def test_memories_are_apart_whatever_signs_their_names_have(client: Any, recall: StoreRecall) -> None:
    """They go to ClickHouse as parameters, in the request's address."""
    keys = [KEY._replace(conversation_id=name) for name in ODD]
    keys += [KEY._replace(tenant=f"acme{name}") for name in ODD if name]
    for number, key in enumerate(keys):
        tell(client, [replace(each, answer=f"of number {number}.") for each in history(2, key)], 10 * number)
    for wanted in (keys, *([key] for key in keys)):
        memories, _ = recall.recall(0, wanted)
        assert {key: {each.answer for each in found.interactions} for key, found in memories.items()} == {
            key: {f"of number {keys.index(key)}."} for key in wanted
        }
        assert all(each.asked for found in memories.values() for each in found.interactions)


MINUTE_US = 60_000_000


def merged(client: Any) -> None:
    """All copies folded for good."""
    client.command("SYSTEM START MERGES")
    for table in ("tasks_log", "agent_events_log", *COPIES):
        client.command(f"OPTIMIZE TABLE pointsman.{table} FINAL")
    client.command("SYSTEM STOP MERGES")


def again(n: int, distance: int) -> tuple[list[Interaction], list[Interaction]]:
    """A conversation of `n`, and what came then: a task under an id that was used `distance` interactions before."""
    said = history(n)
    repeated = said[n - distance].task_id
    return said, [replace(interaction(n + 1), task_id=repeated), *(interaction(n + 2 + each) for each in range(3))]


@pytest.mark.parametrize("distance", [1, 9, 10, 12, 110])
@pytest.mark.parametrize("rows", [conversations_module.WHOLE_ROWS, 1])
@pytest.mark.parametrize("late", [False, True])
def test_a_task_id_that_comes_again_in_its_conversation_is_another_task(
    client: Any, recall: StoreRecall, monkeypatch: pytest.MonkeyPatch, distance: int, rows: int, late: bool
) -> None:
    """One host, one epoch: so the id of the event is the same, too."""
    monkeypatch.setattr(conversations_module, "WHOLE_ROWS", rows)
    said, then = again(125, distance)
    tell(client, said, 0, times=2)
    if late:  # what was asked is stored after what was answered
        tell(client, then, 125, asked=False, submitted_at=T0_US + 2 * MINUTE_US)
        memories, through = recall.recall(0, [KEY])
        assert [each.asked for each in memories[KEY].interactions] == [each.asked for each in said]
        assert through == {KEY.agent_id: 125}, "it is left to the log"
    tell(client, then, 125, times=2, submitted_at=T0_US + 2 * MINUTE_US)
    if late:
        merged(client)
    memories, through = recall.recall(0, [KEY])
    assert through == {KEY.agent_id: 129}
    assert [each.asked for each in memories[KEY].interactions][-129:] == [each.asked for each in [*said, *then]]
    state, told = state_of(recall), folded([*said, *then])
    assert state_bytes(state) == state_bytes(told)
    assert window_bytes(window(state)) == window_bytes(window(told))
    assert mark(126) in str(state.recent)


def test_what_stands_behind_a_newer_claim_is_nobodys_memory(client: Any, recall: StoreRecall) -> None:
    claim(client, 1, 0)
    tell(client, history(5), 1)
    claim(client, 2, 6)
    tell(client, [interaction(6, answer="a sleeper's")], 7)
    assert [each.ordinal for each in recall.recall(0, [KEY])[0][KEY].interactions] == [1, 2, 3, 4, 5]
    tell(client, [interaction(6, epoch=2, answer="the owner's")], 8)
    assert state_of(recall).recent[-1].answer == "the owner's"


def test_an_outcome_whose_submission_is_not_stored_yet_is_left_to_the_log(client: Any, recall: StoreRecall) -> None:
    tell(client, history(4), 100)
    late = [interaction(5), interaction(6)]
    tell(client, late, 200, asked=False)
    memories, through = recall.recall(0, [KEY])
    assert len(memories[KEY].interactions) == 4
    assert through == {KEY.agent_id: 200}
    tell(client, late, 200)
    memories, through = recall.recall(0, [KEY])
    assert len(memories[KEY].interactions) == 6
    assert through == {KEY.agent_id: 202}


def test_what_was_asked_is_on_its_way_beside_the_other_statements(
    client: Any, recall: StoreRecall, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(client, history(3), 0)
    began, look_up = threading.Event(), Connection.look_up

    def together(self: Connection, sql: str, *more: Any) -> Any:
        if "conversation_tasks_log" in sql:
            began.set()
        assert began.wait(60)
        return look_up(self, sql, *more)

    monkeypatch.setattr(Connection, "look_up", together)
    assert [each.ordinal for each in recall.recall(0, [KEY])[0][KEY].interactions] == [1, 2, 3]


def test_without_what_was_asked_there_is_no_memory_and_the_next_reading_goes_on(
    client: Any, recall: StoreRecall, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(client, history(3), 0)
    asked = conversations_module._WHOLE_ASKED
    monkeypatch.setattr(conversations_module, "_WHOLE_ASKED", "SELECT throwIf(1)")
    with pytest.raises(SourceAway):
        recall.recall(0, [KEY])
    monkeypatch.setattr(conversations_module, "_WHOLE_ASKED", asked)
    assert recall.recall(0, [KEY])[1] == {KEY.agent_id: 3}


def test_nothing_is_known_of_a_memory_that_is_not_there(recall: StoreRecall) -> None:
    assert recall.recall(0, [KEY]) == ({}, {})


def test_a_history_that_is_away_is_said_to_be() -> None:
    with pytest.raises(SourceAway):
        StoreRecall(TOPOLOGY, Conversations("http://127.0.0.1:1")).recall(0, [KEY])


def test_people_see_what_was_asked_beside_what_was_answered(door: Door, client: Any) -> None:
    claim(client, 1, 0)
    tell(client, history(3), 1, times=2)
    people = History(door.url)
    sql = "SELECT ordinal, asked, answer FROM interactions WHERE tenant = 'acme' AND conversation_id = 'c1' ORDER BY 1"
    assert people.query(sql).rows == [(each.ordinal, each.asked, each.answer) for each in history(3)]
    people.close()


def test_a_copy_that_was_dropped_is_filled_again(client: Any, recall: StoreRecall) -> None:
    tell(client, history(12), 0)
    tell_models(client, models_of(history(12)), 12)
    client.command("DROP TABLE pointsman.conversation_outcomes_log")
    client.command("DROP VIEW pointsman.conversation_outcomes_copy")
    assert lost(client) == ["conversation_outcomes_copy", "conversation_outcomes_log"]
    migrate(client)
    assert state_hash(state_of(recall)) == state_hash(refold(KEY, history(12), models=models_of(history(12))))


def log(deployment: Deployment, interactions: Sequence[Interaction]) -> None:
    """As the router and the host write them."""
    for each in interactions:
        whose = {"tenant": each.key.tenant, "conversation_id": each.key.conversation_id}
        dispatch = {"slip": slip(each.key.agent_id), "task": {**task(each.task_id, text=each.asked), **whose}}
        event = {
            "event_id": f"{each.id}-1-0",
            "kind": each.status,
            "slip": slip(each.key.agent_id),
            "task": {"task_id": each.task_id, "submitted_at": T0_US, "deadline_ms": T0_US // 1000, **whose},
            "started_at": 0,
            "finished_at": each.at,
            "facts": list(each.facts),
            **{name: getattr(each, name) for name in ("answer", "ordinal", "epoch", "error")},
        }
        one, topics, key = deployment.one, deployment.topics, each.task_id.encode()
        deployment.raw(topics.inbox(each.key.agent_id), one("TaskDispatched", dispatch), key)
        deployment.raw(topics.events(each.key.agent_id), one("AgentEvent", event), key)
    deployment.flush()


def note(deployment: Deployment, model: Summary) -> None:
    """As the host writes what a model made."""
    event = {
        "event_id": f"{model.first} {model.since}",
        "kind": "NOTE",
        "slip": {**slip(KEY.agent_id), "reason": SUMMARISED},
        "task": {**NOBODY, "tenant": KEY.tenant, "conversation_id": KEY.conversation_id},
        "epoch": 1,
        "payload": payload_of(model),
    }
    topic = deployment.topics.events(KEY.agent_id)
    deployment.raw(topic, deployment.one("AgentEvent", event), KEY.conversation_id.encode())
    deployment.flush()


def shown_lines(console: ConsoleDeployment) -> list[dict[str, Any]]:
    out = Output(io.StringIO(), io.StringIO())
    show_context(console, KEY, form=Format.JSONL, out=out)
    found = json.loads(out.out.getvalue())  # type: ignore[attr-defined]  # a StringIO
    assert breaches([found], promises()["pointsman context show"]) == []
    lines: list[dict[str, Any]] = found["lines"]
    return lines


def verified(console: ConsoleDeployment) -> tuple[int, dict[str, Any]]:
    out = Output(io.StringIO(), io.StringIO())
    code = verify_context(console, KEY, form=Format.JSONL, out=out)
    return code, json.loads(out.out.getvalue())  # type: ignore[attr-defined]  # a StringIO


@pytest.mark.broker
def test_verify_and_revoke_tell_what_differs_and_take_out_what_is_poisoned(
    door: Door, client: Any, broker: str, prefix: str
) -> None:
    deployment = Deployment(broker, prefix, door.url, agents=(KEY.agent_id,))
    console = ConsoleDeployment(deployment.settings, deployment.topology, Path("topology.yaml"))
    said = history(25)
    log(deployment, said)
    tell(client, said[:22], 0, topic=deployment.topics.events(KEY.agent_id))

    def verify() -> tuple[int, dict[str, Any]]:
        return verified(console)

    code, found = verify()
    assert (code, found["same"], found["interactions"], found["behind"]) == (0, True, 22, 3), found["differs"]
    assert breaches([found], promises()["pointsman context verify"]) == []

    forged = row_of(KEY, refold(KEY, said).chunks[0])
    summaries = Summaries(door.url)
    summaries.put([forged])
    assert verify()[1]["summaries"] == 1
    summaries.put([forged._replace(lines=("asked: forged?", *forged.lines[1:]))])
    code, found = verify()
    assert (code, found["same"], found["log_hash"] == found["history_hash"]) == (1, False, True)
    assert "+ summary of 1 to 10: asked: forged?" in found["differs"]
    summaries.put([forged])
    summaries.close()
    assert verify()[0] == 0

    sql = "ALTER TABLE pointsman.conversation_outcomes_log UPDATE answer = 'forged' WHERE ordinal = 17"
    client.command("SYSTEM START MERGES")  # they do mutations, too
    client.command(f"{sql} SETTINGS mutations_sync = 2")
    client.command("SYSTEM STOP MERGES")
    code, found = verify()
    assert (code, found["same"]) == (1, False)
    assert [line for line in found["differs"] if "forged" in line and line.startswith("+")]

    quiet = Output(io.StringIO(), io.StringIO())
    with pytest.raises(NotFoundError, match="t99"):
        revoke(console, KEY, ["t17", "t99"], why="forged", yes=True, form=Format.JSONL, out=quiet)
    assert verify()[0] == 1, "nothing is revoked where one name is wrong"
    revoke(console, KEY, ["t17", said[2].id], why="forged", yes=True, form=Format.JSONL, out=quiet)
    state, directives, held = memory_of(console, KEY)
    assert mark(17) in str(held.interactions), "the log keeps it"
    derived = state_bytes(state) + window_bytes(window(state, directives=directives))
    assert not [n for n in (3, 17) if mark(n).encode() in derived]
    assert mark(16).encode() in derived
    code, found = verify()
    assert code == 0, "and the history's memory is without it, too"
    assert (found["interactions"], found["revoked"], found["behind"]) == (22, 2, 3)
    deployment.close()


@pytest.mark.broker
def test_verify_checks_the_facts_of_what_models_made_and_show_names_who_made_it(
    door: Door, client: Any, broker: str, prefix: str
) -> None:
    deployment = Deployment(broker, prefix, door.url, agents=(KEY.agent_id,))
    console = ConsoleDeployment(deployment.settings, deployment.topology, Path("topology.yaml"))
    said = [replace(each, facts=("The budget is 5,000.",)) if each.ordinal == 15 else each for each in history(25)]
    log(deployment, said)
    tell(client, said[:22], 0, topic=deployment.topics.events(KEY.agent_id))
    whole, lossy = models_of(said)
    note(deployment, replace(whole, since=27))
    code, found = verified(console)
    assert (code, found["models"], found["differs"]) == (0, 1, [])
    assert [line for line in shown_lines(console) if line["maker"]] == [], "it is not shown yet"
    log(deployment, [interaction(26), interaction(27)])
    (line,) = [line for line in shown_lines(console) if line["maker"]]
    assert (line["maker"], line["text"], len(line["tasks"])) == ("model 1", "In short: 0", 10)
    assert line["from"] == "model 1, of interactions 1 to 10"
    note(deployment, replace(lossy, lines=lossy.lines[:1]))
    code, found = verified(console)
    assert (code, found["models"]) == (1, 2)
    lost_fact = "summary of 11 to 20 by model 1: the fact 'The budget is 5,000.' is not in it"
    assert found["differs"] == [lost_fact]
    note(deployment, replace(lossy, since=31))  # as its host would have made it
    assert verified(console)[0] == 0
    deployment.close()
