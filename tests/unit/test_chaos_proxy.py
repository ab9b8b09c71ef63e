"""The links that chaos cuts: what each trouble does to bytes, on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from console.chaos.proxy import SOUND, Link, Links, Mode, Trouble

LOOPBACK = "127.0.0.1"
PATIENCE_S = 30.0


class Echo(threading.Thread):
    """Answers each piece of bytes with itself; remembers what it got."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.got = b""
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.got += data
                    connection.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    server.start()
    yield server
    server.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    with Links() as links:
        yield links.open("test", echo.port)


def dial(link: Link) -> socket.socket:
    made = socket.create_connection((LOOPBACK, link.port), PATIENCE_S)
    made.settimeout(PATIENCE_S)
    return made


def asked(connection: socket.socket, said: bytes) -> bytes:
    connection.sendall(said)
    return received(connection, len(said))


def received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := connection.recv(size - len(found))):
        found += data
    return found


def test_what_is_sent_arrives_unchanged_however_much_it_is(link: Link) -> None:
    sent = bytes(range(256)) * 20_000
    with closing(dial(link)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        assert received(connection, len(sent)) == sent
        sender.join(PATIENCE_S)
    assert link.carried_bytes == 2 * len(sent)


def test_a_delay_makes_each_way_later_and_nothing_overtakes(link: Link) -> None:
    with closing(dial(link)) as connection:
        assert asked(connection, b"at once") == b"at once"
        link.set(Trouble(delay_ms=150, jitter_ms=100))
        began = time.monotonic()
        sent = b"".join(b"%04d" % number for number in range(200))
        for at in range(0, len(sent), 40):
            connection.sendall(sent[at : at + 40])
            time.sleep(0.001)
        assert received(connection, len(sent)) == sent
        assert time.monotonic() - began >= 0.3
        link.set(SOUND)
        assert asked(connection, b"at once again") == b"at once again"


def test_a_cut_resets_what_is_connected_and_refuses_what_comes_until_it_heals(link: Link) -> None:
    with closing(dial(link)) as connection:
        assert asked(connection, b"before") == b"before"
        link.set(Trouble(Mode.CUT))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial(link)
    port = link.port
    link.set(SOUND)
    assert link.port == port
    with closing(dial(link)) as connection:
        assert asked(connection, b"after") == b"after"


def test_a_silent_link_takes_connections_answers_nothing_and_loses_nothing(link: Link, echo: Echo) -> None:
    with closing(dial(link)) as connection:
        assert asked(connection, b"before;") == b"before;"
        link.set(Trouble(Mode.SILENT))
        connection.sendall(b"while;")
        with closing(dial(link)) as other:
            other.sendall(b"new;")
            other.settimeout(0.3)
            with pytest.raises(TimeoutError):
                other.recv(1)
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            assert echo.got == b"before;"
            link.set(SOUND)
            for each, said in ((connection, b"while;"), (other, b"new;")):
                each.settimeout(PATIENCE_S)
                assert received(each, len(said)) == said


def test_without_answers_the_request_is_done_and_its_answer_lost(link: Link, echo: Echo) -> None:
    link.set(Trouble(Mode.NO_ANSWERS))
    with closing(dial(link)) as connection:
        connection.sendall(b"insert")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert echo.got == b"insert"


def test_errors_are_answers_that_the_target_never_gave(link: Link, echo: Echo) -> None:
    link.set(Trouble(Mode.ERRORS))
    with closing(dial(link)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert received(connection, 12) == b"HTTP/1.1 500"
    assert echo.got == b""


def test_an_end_passes_after_what_was_said_before_it(link: Link) -> None:
    link.set(Trouble(delay_ms=50))
    with closing(dial(link)) as connection:
        connection.sendall(b"the last words")
        assert received(connection, 14) == b"the last words"
        connection.shutdown(socket.SHUT_RDWR)
    until = time.monotonic() + PATIENCE_S
    while link.connections and time.monotonic() < until:
        time.sleep(0.01)
    assert not link.connections


def test_a_target_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = int(taken.getsockname()[1])
    # It may be gone before it is known to be there.
    with Links() as links, pytest.raises(ConnectionResetError), closing(dial(links.open("nobody", port))) as connection:
        connection.recv(1)
