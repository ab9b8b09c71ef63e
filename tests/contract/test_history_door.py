"""The door, as clickhouse-connect, curl and any other HTTP client see it."""

from __future__ import annotations

import datetime as dt
import gzip
import http.client
import json
import resource
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode, urlsplit

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from schemas.errors import ConfigurationError
from streams.history import bodies
from streams.history.door import Door
from streams.history.engine import Engine, Handle
from streams.history.queries import History, QueryError
from streams.history.sessions import READY_MAX
from streams.transport.http_server import CONNECTIONS_MAX
from tests.support.waiting import PATIENCE, deadline_in


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(None)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def door(engine: Engine) -> Iterator[Door]:
    door = Door(engine, 0)
    yield door
    door.close()


@pytest.fixture
def client(door: Door) -> Iterator[Any]:
    client = connect(door)
    client.command("CREATE DATABASE IF NOT EXISTS d")
    client.command("CREATE OR REPLACE TABLE d.t (a Int64, b String) ENGINE = MergeTree ORDER BY a")
    yield client
    client.close()


def connect(door: Door, **more: Any) -> Any:
    return clickhouse_connect.get_client(host="127.0.0.1", port=door.port, **more)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def code(self) -> str:
        return str(self.headers.get("X-ClickHouse-Exception-Code"))


def ask(
    door: Door,
    body: Any = None,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    path: str = "/",
    *,
    chunked: bool = False,
    **params: str,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE * 20)
    try:
        url = f"{path}?{urlencode(params)}" if params else path
        connection.request(method, url, body, headers or {}, encode_chunked=chunked)
        return Answer(connection.getresponse())
    finally:
        connection.close()


# clickhouse-connect


def test_connect_command_insert_and_query(client: Any) -> None:
    assert client.command("SELECT 1 + 1") == 2
    assert client.server_version.startswith("26.")
    assert client.ping()
    now = dt.datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=dt.UTC)
    client.command(
        "CREATE OR REPLACE TABLE d.all (n Nullable(Int64), s String, l LowCardinality(String), m Map(String, String),"
        " r Array(String), at DateTime64(6, 'UTC'), v Array(Tuple(x String, y Float64))) ENGINE = Memory"
    )
    rows: list[list[Any]] = [
        [None, "it's\ta\\", "x", {"k": "v"}, ["a", ""], now, [("p", 0.5)]],
        [1, "é\x00", "y", {}, [], now, []],
    ]
    summary = client.insert("d.all", rows, column_names=["n", "s", "l", "m", "r", "at", "v"])
    assert summary.written_rows == 2
    found = client.query("SELECT * FROM d.all ORDER BY isNull(n) DESC").result_rows
    assert [row[:5] for row in found] == [tuple(row[:5]) for row in rows]
    assert found[0][5].replace(tzinfo=dt.UTC) == now
    assert found[0][6] == [{"x": "p", "y": 0.5}]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_compression_both_ways(door: Door, client: Any, compress: Any) -> None:
    other = connect(door, compress=compress)
    rows = [[number, "x" * 50] for number in range(20_000)]
    other.insert("d.t", rows, column_names=["a", "b"])
    assert other.query("SELECT count(), sum(a) FROM d.t").first_row == (20_000, sum(range(20_000)))
    assert len(other.query("SELECT * FROM d.t").result_rows) == 20_000
    other.close()


def test_arrow_in_and_out(client: Any) -> None:
    table = pa.table({"a": pa.array(range(1000), pa.int64()), "b": ["é"] * 1000})
    client.insert_arrow("d.t", table)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    client.raw_insert("d.t", ["a", "b"], sink.getvalue().to_pybytes(), fmt="ArrowStream", settings={"async_insert": 0})
    out = client.query_arrow("SELECT a, b FROM d.t ORDER BY a", use_strings=True)
    assert (out.num_rows, out.schema.names, out["b"][0].as_py()) == (2000, ["a", "b"], "é")


def test_parameters(client: Any) -> None:
    client.insert("d.t", [[1, "it's"], [2, "tab\tnew\nline\\"], [3, "é"]], column_names=["a", "b"])
    sql = "SELECT a FROM d.t WHERE b IN {names:Array(String)} AND a > {least:Int64} ORDER BY a"
    found = client.query(sql, parameters={"names": ["it's", "tab\tnew\nline\\"], "least": 0}).result_rows
    assert found == [(1,), (2,)]
    one = client.query("SELECT a FROM d.t WHERE b = {b:String}", parameters={"b": "tab\tnew\nline\\"}).result_rows
    assert one == [(2,)]
    # So long that the client sends a form.
    long = client.query("SELECT length({long:String})", parameters={"long": "x" * 100_000}).first_row
    assert long == (100_000,)


def test_settings_hold_for_their_query_alone(client: Any) -> None:
    sql = "SELECT getSetting('max_block_size')"
    before = client.command(sql)
    assert client.command(sql, settings={"max_block_size": 777}) == 777
    assert client.command(sql) == before


def test_queries_leave_nothing_in_the_handle_that_the_next_one_takes(door: Door, client: Any) -> None:
    for _ in range(3):
        assert client.query("SELECT {n:Int32}", parameters={"n": 7}).result_rows == [(7,)]
        with pytest.raises(DatabaseError):  # a parameter of another query's
            client.query("SELECT {n:Int32}")
        said = "SELECT toUInt64(getSetting('max_result_rows'))"
        assert client.query(f"{said} SETTINGS max_result_rows = 5").result_rows == [(5,)]
        assert client.query(said, settings={"max_result_rows": 6}).result_rows == [(6,)]
        assert client.query(said).result_rows == [(0,)]
        client.command("CREATE DATABASE elsewhere")
        client.command("CREATE TABLE elsewhere.t (n Int32) ENGINE = Memory")
        assert client.query("SELECT n FROM t", settings={"database": "elsewhere"}).result_rows == []
        client.command("DROP DATABASE elsewhere")


def test_queries_of_the_same_settings_share_a_handle(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Handle] = []
    closed: list[Handle] = []
    do_open, do_close = Engine.open, Handle.close

    def opening(engine: Engine) -> Handle:
        opened.append(do_open(engine))
        return opened[-1]

    def closing(handle: Handle) -> None:
        closed.append(handle)
        do_close(handle)

    monkeypatch.setattr(Engine, "open", opening)
    monkeypatch.setattr(Handle, "close", closing)
    door = Door(engine, 0)
    try:
        for _ in range(3):
            assert ask(door, "SELECT 1").status == 200
        assert (len(opened), len(closed)) == (1, 0)
        assert ask(door, "SELECT nothing").status == 404  # what failed is not taken again
        assert (len(opened), len(closed)) == (1, 1)
        for rows in range(1, 21):
            assert ask(door, f"SELECT {rows}", max_result_rows=str(rows)).status == 200
        assert len(opened) - len(closed) == READY_MAX
    finally:
        door.close()
    assert len(opened) == len(closed)


def test_a_session_keeps_what_was_set_in_it(door: Door, client: Any) -> None:
    sql = "SELECT getSetting('max_block_size')"
    before = client.command(sql)
    client.command("SET max_block_size = 555")
    assert client.command(sql) == 555
    assert client.command(sql, settings={"max_block_size": 777}) == 777
    assert client.command(sql) == 555
    client.command("CREATE TEMPORARY TABLE mine (x Int8)")
    client.command("INSERT INTO mine VALUES (7)")
    assert client.command("SELECT x FROM mine") == 7
    other = connect(door)
    assert other.command(sql) == before
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        other.command("SELECT x FROM mine")
    other.close()


def test_the_database_of_a_client(door: Door, client: Any) -> None:
    other = connect(door, database="d")
    other.insert("t", [[5, "x"]], column_names=["a", "b"])
    assert other.query("SELECT a, currentDatabase() FROM t").result_rows == [(5, "d")]
    other.close()


def test_a_query_without_rows_has_its_columns(client: Any) -> None:
    result = client.query("SELECT a, b, map('k', toNullable(1)) AS m FROM d.t WHERE a > {a:Int64}", parameters={"a": 5})
    assert result.column_names == ("a", "b", "m")
    assert [kind.name for kind in result.column_types] == ["Int64", "String", "Map(String, Nullable(UInt8))"]
    assert result.result_rows == []
    assert client.query("SELECT 1 AS x, 'é' AS `ü` LIMIT 0").column_names == ("x", "ü")


def test_an_error_is_clickhouses_own(client: Any) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query("SELECT nope FROM d.t")
    assert (raised.value.code, raised.value.name) == (47, "UNKNOWN_IDENTIFIER")
    assert client.command("SELECT 1") == 1  # the client goes on


def test_queries_answer_while_inserts_run(door: Door, client: Any) -> None:
    stop, failures, seen = threading.Event(), [], [0]

    def read() -> None:
        mine = connect(door, autogenerate_session_id=False)
        try:
            while not stop.is_set():
                count, total = mine.query("SELECT count(), sum(a) FROM d.t").first_row
                assert total == count * 3  # no torn block
                seen[0] += 1
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)
        finally:
            mine.close()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    for _ in range(20):
        client.insert("d.t", [[3, "x"]] * 5_000, column_names=["a", "b"])
    before = seen[0]
    while seen[0] <= before and not failures:
        time.sleep(0.01)
    stop.set()
    for each in readers:
        each.join()
    assert failures == []
    assert client.command("SELECT count() FROM d.t") == 100_000


# Plain HTTP


def test_ping_and_root(door: Door) -> None:
    for path in ("/ping", "/", "/replicas_status"):
        answer = ask(door, method="GET", path=path)
        assert (answer.status, answer.body) == (200, b"Ok.\n")
    assert ask(door, method="GET", path="/nothing").status == 404
    assert ask(door, b"SELECT 1", path="/nothing").status == 404


def test_a_query_in_the_url_in_the_body_or_in_both(door: Door, client: Any) -> None:
    assert ask(door, method="GET", query="SELECT 1").body == b"1\n"
    assert ask(door, b"SELECT 1, 'a'").body == b"1\ta\n"
    assert ask(door, b"1 + 1", query="SELECT").body == b"2\n"
    assert ask(door, b"1,x\n2,y\n", query="INSERT INTO d.t FORMAT CSV").status == 200
    assert ask(door, b"INSERT INTO d.t VALUES (3, 'z'), (4, upper({p:String}));", param_p="w").status == 200
    assert ask(door, b"SELECT * FROM d.t ORDER BY a FORMAT CSV").body == b'1,"x"\n2,"y"\n3,"z"\n4,"W"\n'


def test_formats_and_their_headers(door: Door) -> None:
    answer = ask(door, b"SELECT 1 AS a FORMAT JSON")
    assert json.loads(answer.body)["data"] == [{"a": 1}]
    assert answer.headers["X-ClickHouse-Format"] == "JSON"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert ask(door, b"SELECT 1 AS a", default_format="JSONEachRow").body == b'{"a":1}\n'
    assert ask(door, b"SELECT 1 AS a", {"X-ClickHouse-Format": "CSVWithNames"}).body == b'"a"\n1\n'
    summary = json.loads(ask(door, b"SELECT * FROM numbers(7)").headers["X-ClickHouse-Summary"])
    assert summary["read_rows"] == "7"


def test_url_parameters_and_settings(door: Door) -> None:
    answer = ask(door, b"SELECT {x:Int32} + 1, getSetting('max_threads')", param_x="41", max_threads="1")
    assert answer.body == b"42\t1\n"
    assert ask(door, b"SELECT {x:String}", param_x="a\\tb").body == b"a\\tb\n"
    unknown = ask(door, b"SELECT 1", no_such_setting="1")
    assert (unknown.status, unknown.code) == (404, "115")


def test_a_chunked_body(door: Door, client: Any) -> None:
    parts = [b"INSERT INTO d.t FOR", b"MAT CSV\n1,", b"x\n", b"2,y\n"]
    answer = ask(door, iter(parts), {"Transfer-Encoding": "chunked"}, chunked=True)
    assert answer.status == 200
    assert client.command("SELECT count() FROM d.t") == 2


@pytest.mark.parametrize(
    ("name", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("lz4", lz4.frame.compress)]
)
def test_a_compressed_body_of_many_frames(door: Door, client: Any, name: str, compress: Any) -> None:
    lines = b"".join(b"%d,abc\n" % number for number in range(50_000))
    body = compress(lines[:300_001]) + compress(lines[300_001:]) if name != "deflate" else compress(lines)
    answer = ask(door, body, {"Content-Encoding": name}, query="INSERT INTO d.t FORMAT CSV")
    assert (answer.status, answer.body) == (200, b"")
    assert client.query("SELECT count(), sum(a) FROM d.t").first_row == (50_000, sum(range(50_000)))


def test_a_compressed_answer_only_where_it_is_asked_for(door: Door) -> None:
    plain = ask(door, b"SELECT 1", {"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    squeezed = ask(door, b"SELECT 1", {"Accept-Encoding": "br, gzip;q=0.5"}, enable_http_compression="1")
    assert squeezed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(squeezed.body) == b"1\n"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"SELEC 1", 400, "62"),
        (b"SELECT 1; SELECT 2", 400, "62"),
        (b"", 400, "62"),
        (b"SYSTEM SHUTDOWN", 400, "62"),
        (b"SELECT * FROM nowhere", 404, "60"),
        (b"SELECT sleep(3) SETTINGS max_execution_time = 1", 408, "159"),
        (b"INSERT INTO d.t VALUES (1, 'x'), (2", 400, "62"),
        (b"INSERT INTO d.t FORMAT CSV\nx,y", 400, "27"),
        (b"SELECT throwIf(1)", 500, "395"),
    ],
)
def test_statuses_and_codes(door: Door, client: Any, body: bytes, status: int, code: str) -> None:
    answer = ask(door, body)
    assert (answer.status, answer.code) == (status, code)
    assert answer.body.startswith(b"Code: " + code.encode())


def test_what_follows_values_is_never_run(door: Door, client: Any) -> None:
    ask(door, b"INSERT INTO d.t VALUES (1, 'x'); DROP TABLE d.t")
    assert client.command("EXISTS TABLE d.t") == 1


def test_a_get_changes_nothing(door: Door, client: Any) -> None:
    answer = ask(door, method="GET", query="DROP TABLE d.t")
    assert answer.code == "164"
    assert client.command("EXISTS TABLE d.t") == 1


def test_bad_bodies_are_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gzip", "lz4", "zstd"):
        assert ask(door, b"not compressed", {"Content-Encoding": name}).code == "271"
    assert ask(door, gzip.compress(b"SELECT 1")[:-4], {"Content-Encoding": "gzip"}).code == "271"
    assert ask(door, b"x", {"Content-Encoding": "lzma"}).code == "89"
    assert ask(door, b"SELECT 1", decompress="1").code == "48"
    assert ask(door, b"SELECT 1", session_id="s", session_timeout="never").code == "374"
    monkeypatch.setattr(bodies, "BODY_BYTES_MAX", 10_000_000)
    bomb = gzip.compress(bytes(50_000_000))
    assert ask(door, bomb, {"Content-Encoding": "gzip"}, query="INSERT INTO d.t FORMAT CSV").code == "307"
    assert ask(door, b"SELECT 1").body == b"1\n"


def test_web_pages_are_refused(door: Door) -> None:
    assert ask(door, b"SELECT 1", {"Origin": "https://example.org"}).status == 403
    assert ask(door, None, {"Host": "rebound.example.org"}, "GET", query="SELECT 1").status == 403
    assert ask(door, None, {"Sec-Fetch-Site": "cross-site"}, "GET", query="SELECT 1").status == 403
    assert ask(door, b"SELECT 1", {"Host": f"localhost:{door.port}"}).status == 200


def test_a_connection_is_kept_and_not_confused_by_errors(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE * 20)
    connection.request("POST", "/", b"SELECT 1")
    assert connection.getresponse().read() == b"1\n"
    held = connection.sock
    connection.request("POST", "/", b"SELECT 2")
    assert connection.getresponse().read() == b"2\n"
    assert connection.sock is held
    connection.request("POST", "/", b"INSERT INTO nowhere FORMAT CSV\n" + b"1,2\n" * 100_000)
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (404, "close")
    response.read()
    connection.request("POST", "/", b"SELECT 3")
    assert connection.getresponse().read() == b"3\n"
    connection.close()


def test_header_and_body_come_as_one_packet(door: Door) -> None:
    with socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE * 20) as each:
        each.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8\r\n\r\nSELECT 1")
        assert each.recv(65_536).endswith(b"\r\n\r\n1\n")


def test_connections_are_bounded(door: Door) -> None:
    held = [socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE * 20) for _ in range(CONNECTIONS_MAX)]
    try:
        for each in held[: CONNECTIONS_MAX - 1]:
            each.sendall(b"GET /ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert any(
            b"503" in each.recv(65_536)
            for each in [socket.create_connection(("127.0.0.1", door.port), timeout=PATIENCE * 20)]
        )
    finally:
        for each in held:
            each.close()
    deadline = deadline_in(10)
    while time.monotonic() < deadline:
        try:
            if ask(door, b"SELECT 1").body == b"1\n":
                return
        except OSError:
            pass
    pytest.fail("no connection was given back")


# The door itself


def test_a_password_is_asked_for(engine: Engine) -> None:
    door = Door(engine, 0, "default", "s3cret")
    try:
        assert ask(door, b"SELECT 1").code == "516"
        assert ask(door, b"SELECT 1", user="default", password="wrong").status == 403
        assert ask(door, b"SELECT 1", user="root", password="s3cret").code == "516"
        assert ask(door, b"SELECT 1", {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"}).body == b"1\n"
        client = connect(door, password="s3cret")
        assert client.command("SELECT 1") == 1
        client.close()
    finally:
        door.close()


def test_a_taken_port_is_said(engine: Engine, door: Door) -> None:
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{door.port}"):
        Door(engine, door.port)


def test_closing_lets_a_statement_finish(engine: Engine) -> None:
    door = Door(engine, 0)
    idle = http.client.HTTPConnection("127.0.0.1", door.port, timeout=PATIENCE * 20)
    idle.request("GET", "/ping")
    idle.getresponse().read()
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(ask(door, b"SELECT sleep(0.5)")))
    asking.start()
    time.sleep(0.2)
    started = time.monotonic()
    door.close(5.0)
    assert time.monotonic() - started < 3
    asking.join()
    assert answers[0].body == b"0\n"
    assert urlsplit(door.url).port == door.port
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", door.port), timeout=1)
    idle.close()


def test_an_answer_larger_than_memory_allows_waits_in_a_file(door: Door, client: Any) -> None:
    """The engine refuses results of more than 512 MiB in memory; a spooled one has no such bound, and fails whole."""
    rows = 3_000_000
    client.command("CREATE DATABASE IF NOT EXISTS pointsman")
    with closing(History(door.url)) as history:
        before = _peak_kib()
        with history.stream(f"SELECT number, repeat('x', 200) AS text FROM numbers({rows})") as reader:
            assert sum(batch.num_rows for batch in reader) == rows
        assert _peak_kib() - before < 400 * 1024
        with history.stream("SELECT 1 AS a WHERE 0") as reader:
            assert [batch.num_rows for batch in reader if batch.num_rows] == []
            assert reader.schema.names == ["a"]
        broken = "SELECT throwIf(number = 2000000) FROM numbers(3000000) SETTINGS max_threads = 1; "
        with pytest.raises(QueryError, match="throwIf"), history.stream(broken):
            pytest.fail("nothing of it may come")


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
