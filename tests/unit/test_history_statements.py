"""The shape of SQL: heads of inserts, trailing formats, refused statements, scripts."""

from __future__ import annotations

import pytest

from streams.history.statements import answer_format, insert_head, is_query, refused, split, without_format


@pytest.mark.parametrize(
    ("sql", "head", "name", "data"),
    [
        ("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t ", "CSV", "1,2\n"),
        ("insert into t (a, b)\nformat  Native \nxyz", "insert into t (a, b)\n", "Native", "xyz"),
        ('INSERT INTO t FORMAT JSONEachRow {"a": 1}', "INSERT INTO t ", "JSONEachRow", '{"a": 1}'),
        (
            "INSERT INTO t SETTINGS async_insert = 0 FORMAT TSV\n\n",
            "INSERT INTO t SETTINGS async_insert = 0 ",
            "TSV",
            "\n",
        ),
        (
            "/* why */ INSERT INTO t -- FORMAT CSV\n VALUES (1)",
            "/* why */ INSERT INTO t -- FORMAT CSV\n ",
            "Values",
            " (1)",
        ),
        ("INSERT INTO t (`values`, format) VALUES (1, 2);", "INSERT INTO t (`values`, format) ", "Values", " (1, 2);"),
        ("INSERT INTO t ('a FORMAT CSV') FORMAT TSV\nx", "INSERT INTO t ('a FORMAT CSV') ", "TSV", "x"),
    ],
)
def test_an_insert_with_data_has_a_head(sql: str, head: str, name: str, data: str) -> None:
    found = insert_head(sql.encode())
    assert found is not None
    assert (found.head, found.format, sql.encode()[found.data_at :].decode()) == (head, name, data)


def test_data_is_bytes_and_may_look_like_sql() -> None:
    data = b"\x00\xff' SELECT ( FORMAT \x80"
    found = insert_head(b"INSERT INTO t FORMAT Native\n" + data)
    assert found is not None
    assert (b"INSERT INTO t FORMAT Native\n" + data)[found.data_at :] == data


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FORMAT CSV",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t WITH 1 AS x SELECT x FORMAT CSV",
        "",
        "   ",
        "INSERT INTO t",
    ],
)
def test_other_statements_have_none(sql: str) -> None:
    assert insert_head(sql.encode()) is None


@pytest.mark.parametrize(
    ("sql", "name", "rest"),
    [
        ("SELECT 1 FORMAT JSON", "JSON", "SELECT 1 "),
        ("SELECT 1\n FORMAT Native", "Native", "SELECT 1\n "),
        ("select 1 format CSV;", "CSV", "select 1 ;"),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "JSON", "SELECT 1  SETTINGS max_threads = 1"),
        ("SELECT format FROM t", None, "SELECT format FROM t"),
        ("SELECT 'x FORMAT JSON'", None, "SELECT 'x FORMAT JSON'"),
        ("SELECT 1 -- FORMAT JSON", None, "SELECT 1 -- FORMAT JSON"),
        ("SELECT format('{}', x) FROM t", None, "SELECT format('{}', x) FROM t"),
    ],
)
def test_the_format_of_an_answer(sql: str, name: str | None, rest: str) -> None:
    assert answer_format(sql.encode()) == name
    assert without_format(sql.encode()).decode() == rest


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "select 1 into\n outfile 'x'",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "SYSTEM SHUTDOWN",
        "system /* now */ kill",
    ],
)
def test_what_an_embedded_engine_is_never_asked(sql: str) -> None:
    assert refused(sql.encode())


@pytest.mark.parametrize(
    "sql", ["SELECT 1;", "SELECT ';' ; -- done", "SYSTEM FLUSH LOGS", "SELECT `into outfile`", "SELECT 'SYSTEM KILL'"]
)
def test_what_it_may_be_asked(sql: str) -> None:
    assert refused(sql.encode()) is None


def test_which_statements_are_queries() -> None:
    assert is_query(b"-- a\n WITH 1 AS x SELECT x")
    assert is_query(b"select 1")
    assert not is_query(b"SHOW TABLES")
    assert not is_query(b"(")


def test_a_script_is_its_statements() -> None:
    script = (
        "-- first; not yet\nCREATE TABLE a (x String DEFAULT ';');\n\n;; /* ; */\nSELECT $tag$ ; $tag$;\n-- the end\n"
    )
    assert split(script) == [
        "-- first; not yet\nCREATE TABLE a (x String DEFAULT ';')",
        "/* ; */\nSELECT $tag$ ; $tag$",
    ]
    assert split("  -- nothing\n ; ") == []
    assert split("SELECT 1") == ["SELECT 1"]
