"""Stored summaries, with the real engine: those of the fold, made ahead, and rid of what was revoked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.memory.fold import refold
from agents.memory.model import Interaction
from console.memory.recall import StoreRecall
from console.memory.summaries import AGAIN_S, Maker, row_of, without
from streams.history.conversations import Conversations
from streams.history.door import Door
from streams.history.summaries import Summaries
from streams.history.tables import COPIES
from tests.support.history_door import migrated, opened
from tests.support.history_memory import TOPOLOGY, tell
from tests.support.history_rows import insert
from tests.support.memories import KEY, histories, history, mark


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


@pytest.fixture(scope="module")
def tables(door: Door) -> Iterator[Any]:
    with migrated(door, merging=False) as client:
        yield client


@pytest.fixture
def client(tables: Any) -> Any:
    for table in ("tasks_log", "agent_events_log", "memory_directives_log", "conversation_summaries", *COPIES):
        tables.command(f"TRUNCATE TABLE pointsman.{table}")
    return tables


@pytest.fixture
def stored(door: Door, client: Any) -> Iterator[Summaries]:
    summaries = Summaries(door.url)
    yield summaries
    summaries.close()


@pytest.fixture
def maker(door: Door, stored: Summaries) -> Maker:
    return Maker(
        StoreRecall(TOPOLOGY, Conversations(door.url, timeout_s=60)), stored, timedelta(days=20_000)
    )  # rows of 2023


def revoke(client: Any, *said: Interaction) -> None:
    fields = {
        "kind": "REVOKE",
        "id": ",".join(each.id for each in said),
        "agent_id": KEY.agent_id,
        "tenant": KEY.tenant,
        "conversation_id": KEY.conversation_id,
        "interactions": [[each.id for each in said]],
        "reason": "forged",
        "by": "ada",
        "at": 1,
    }
    insert(client, "MemoryDirective", fields, [0])


def shown(client: Any) -> str:
    """All that people see of summaries."""
    return str(
        client.query("SELECT first, members, lines, origins, text FROM pointsman.summaries ORDER BY 1").result_rows
    )


def test_a_summary_is_stored_while_all_that_it_stands_for_is_still_shown(
    client: Any, stored: Summaries, maker: Maker
) -> None:
    said = history(30)
    tell(client, said[:25], 0, times=2)
    assert (maker.step(), maker.step()) == (2, 0)
    assert [row_of(KEY, each) for each in refold(KEY, said[:25]).chunks] == stored.of([KEY])
    tell(client, said[25:], 25)
    assert maker.step() == 1
    last = stored.of([KEY])[-1]
    assert (last.first, last.last, last.ordinals) == (21, 30, tuple(range(21, 31)))
    assert {each.id for each in refold(KEY, said).recent} == set(last.members), "none of them is gone from the window"


def test_what_is_not_all_stored_is_not_summed_up(client: Any, stored: Summaries, maker: Maker) -> None:
    said = history(20)
    tell(client, said[:15], 0)
    tell(client, said[15:], 15, asked=False)
    assert maker.step() == 1
    assert [each.last for each in stored.of([KEY])] == [10]


def test_what_is_revoked_is_hidden_at_once_and_made_again_without(client: Any, stored: Summaries, maker: Maker) -> None:
    said = history(40)
    tell(client, said, 0)
    assert maker.step() == 4
    gone = [said[2], said[16]]
    assert all(mark(each.ordinal) in shown(client) for each in gone)
    revoke(client, *gone)
    assert not [each for each in gone if mark(each.ordinal) in shown(client)]
    assert mark(25) in shown(client)
    assert maker.step() == 2
    assert stored.of([KEY]) == [
        row_of(KEY, each) for each in refold(KEY, said, revoked=frozenset(each.id for each in gone)).chunks
    ]
    assert mark(4) in shown(client)
    assert not [each for each in gone if mark(each.ordinal) in shown(client)]
    assert maker.step() == 0


def test_what_was_made_again_is_looked_at_seldom_and_mended_if_another_store_puts_it_back(
    client: Any, door: Door, stored: Summaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, asked = 0.0, []
    recall = StoreRecall(TOPOLOGY, Conversations(door.url, timeout_s=60))
    maker = Maker(recall, stored, timedelta(days=20_000), lambda: now)
    said = history(10)
    tell(client, said, 0)
    assert maker.step() == 1
    old = stored.of([KEY])
    revoke(client, said[2])
    assert (maker.step(), maker.step()) == (1, 0)
    of = stored.of
    monkeypatch.setattr(stored, "of", lambda keys: asked.append(keys) or of(keys))  # type: ignore[func-returns-value]  # a list
    assert [maker.step() for _ in range(5)] == [0] * 5
    assert asked == []
    stored.put(old)
    now = AGAIN_S + 1
    assert maker.step() == 1
    assert mark(3) not in str(of([KEY]))
    now += 1
    revoke(client, said[4])
    assert maker.step() == 1, "another word on it is heard at once"
    assert mark(5) not in str(of([KEY]))


def test_what_is_out_of_reach_loses_the_lines_that_were_taken_from_what_is_revoked(
    client: Any, stored: Summaries, maker: Maker
) -> None:
    said = history(150)
    for start in range(0, 150, 50):
        tell(client, said[start : start + 50], start)
        maker.step()
    assert len(stored.of([KEY])) == 15
    revoke(client, said[4])
    assert maker.step() == 1
    assert len(stored.of([KEY])[0].members) == 9
    assert mark(5) not in str(stored.of([KEY]))
    assert mark(6) in shown(client)


@settings(max_examples=25)
@given(histories((10, 20, 25)), st.data())
def test_whatever_is_revoked_no_row_holds_it(all_: list[Interaction], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from([each.ordinal for each in all_]), min_size=1))
    revoked = frozenset(each.id for each in all_ if each.ordinal in gone)
    for chunk in refold(KEY, all_).chunks:
        row = without(row_of(KEY, chunk), revoked)
        assert not [number for number in gone if mark(number) in str(row)]
        assert not revoked.intersection(row.members, row.origins)
        assert set(row.origins) <= set(row.members)
