"""The table of who reads and writes what: it is what the pages say, and rights are no more than it."""

from __future__ import annotations

import re

from schemas.access import MANAGE, PRINCIPALS, USES, Grant, Principal, grants, group_of, used_by
from schemas.topics import Topics
from tests.unit.test_docs import TOPICS, page

# What the pages call them.
CALLED: dict[str, tuple[Principal, ...]] = {
    "anyone": ("producer",),
    "you": ("subscriber",),
    "users": ("subscriber",),
    "whoever cannot take a record": ("worker", "host", "store"),
    "anyone, mender": ("producer", "mender"),
    "whoever cannot take a record, mender": ("worker", "host", "store", "mender"),
    "that agent's hosts, mender": ("host", "mender"),
    "that agent's hosts, consensus": ("host", "worker"),
    "host": ("host",),
    "hosts": ("host",),
    "that agent's hosts": ("host",),
    "store": ("store",),
    "mender": ("mender",),
    **dict.fromkeys(
        ("worker", "every worker", "worker, keyed by agent", "router", "consensus", "breaker", "recovery"), ("worker",)
    ),
}


def principals(cell: str) -> set[str]:
    whole = CALLED.get(cell)
    return set(whole or (principal for part in cell.split(", ") for principal in CALLED[part]))


def rows(name: str) -> dict[str, tuple[set[str], set[str]]]:
    """Writers and readers of each topic, by the last two columns of the page's table of topics."""
    found = {}
    for line in page(name).splitlines():
        if match := re.match(r"\| `([\w.<>]+\.v1)` \|.*\| ([^|]+) \| ([^|]+) \|$", line):
            found[match[1]] = (principals(match[2]), principals(match[3]))
    return found


def expected() -> dict[str, tuple[set[str], set[str]]]:
    return {spec.name: (set(USES[spec.kind][0]), set(USES[spec.kind][1])) for spec in TOPICS.specs() if spec.kind}


def test_the_pages_say_who_reads_and_writes_each_topic() -> None:
    assert len(expected()) == len(TOPICS.specs())
    assert rows("docs/architecture.md") == expected()


def test_rights_are_what_the_table_says_and_no_more() -> None:
    topics = Topics(("a", "b"), 2, "eu.")
    found = {(grant.principal, grant.name): grant for grant in grants(topics) if grant.resource == "topic"}
    for principal in PRINCIPALS:
        for spec in topics.specs():
            assert spec.kind
            grant = found.pop((principal, spec.name), None)
            operations = set(grant.operations) if grant else set()
            if principal == "operator":
                assert operations == set(MANAGE)
                continue
            writers, readers = USES[spec.kind]
            assert ("Write" in operations) == (principal in writers)
            assert ("Read" in operations) == (principal in readers)
            assert operations <= {"Read", "Write", "DescribeConfigs"}
    assert found == {}
    assert all(grant.pattern == "literal" and grant.name.startswith("eu.") for grant in found.values())


def test_each_process_joins_its_own_group_alone() -> None:
    joined = [
        grant for grant in grants(Topics(("a",), 1, "eu.")) if grant.resource == "group" and "Read" in grant.operations
    ]
    assert joined == [
        *(Grant(each, "group", group_of(each, "eu."), ("Read",)) for each in ("worker", "host", "store")),
        Grant("subscriber", "group", "eu.subscriber-", ("Read",), "prefix"),
    ]


def test_a_process_makes_sure_of_the_topics_that_it_uses() -> None:
    topics = Topics(("a",), 1)
    assert {spec.kind for spec in topics.specs()} - {spec.kind for spec in used_by("worker", topics)} == {
        "cards",
        "memory",
        "snapshots",
    }
    assert {spec.kind for spec in used_by("host", topics)} == {
        *("inbox", "events", "snapshots", "cards", "dead", "orchestrator", "pauses", "memory")
    }
    assert {spec.kind for spec in topics.specs()} - {spec.kind for spec in used_by("store", topics)} == {
        *("spilled", "snapshots")
    }
