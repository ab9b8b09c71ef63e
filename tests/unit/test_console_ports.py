"""Which ports are taken, by whom, and what is chosen instead: sockets held for real, on each address that counts."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from console.local.holders import holder_of
from console.local.ports import Claims, Ports, choose, free_ports
from schemas.errors import ConfigurationError

NONE = Ports()


def listening(address: str, port: int = 0, *, both: bool = False) -> socket.socket:
    """A listener there; with `both` an IPv6 one takes IPv4 calls, too."""
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    if ":" in address:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    made.bind((address, port))
    made.listen()
    return made


def port_of(held: socket.socket) -> int:
    return int(held.getsockname()[1])


@contextmanager
def stranger(folder: Path) -> Iterator[tuple[int, int]]:
    """Another program that listens on a port of loopback: its pid, and the port."""
    script = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{script}; time.sleep(600)"], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("address", "both"), [("127.0.0.1", False), ("0.0.0.0", False), ("::1", False), ("::", False), ("::", True)]
)
def test_whoever_would_be_reached_on_loopback_holds_the_port(address: str, both: bool) -> None:
    with closing(listening(address, both=both)) as held:
        port = port_of(held)
        holder = holder_of(port)
        assert holder is not None
        assert (holder.pid, holder.address, holder.port) == (os.getpid(), address, port)
        assert f"(pid {os.getpid()}, working in {Path.cwd()}) on {address}" in str(holder)
    assert holder_of(port) is None


def test_a_listener_on_an_address_that_is_not_loopback_is_in_nobodys_way() -> None:
    with closing(listening("127.0.0.2")) as held:
        assert holder_of(port_of(held)) is None


def test_an_outgoing_connection_holds_its_port_too() -> None:
    with closing(listening("127.0.0.1")) as held, closing(socket.create_connection(held.getsockname())) as call:
        holder = holder_of(port_of(call))
        assert holder is not None
        assert holder.pid == os.getpid()


def test_an_error_names_the_program_and_not_its_arguments(tmp_path: Path) -> None:
    with stranger(tmp_path) as (pid, port), pytest.raises(ConfigurationError) as refused:
        choose(["broker"], Claims(), named=Ports(broker=port), remembered=NONE, usual=NONE)
    said = str(refused.value)
    assert said.startswith(f"--kafka-port: port {port} is held by {Path(sys.executable).name} (pid {pid}, working in ")
    assert str(tmp_path) in said
    assert "create_server" not in said


def test_every_named_port_that_is_taken_is_told_at_once(tmp_path: Path) -> None:
    with stranger(tmp_path) as (_, one), closing(listening("::1")) as other:
        with pytest.raises(ConfigurationError) as refused:
            choose(
                ["broker", "clickhouse"],
                Claims(),
                named=Ports(broker=one, clickhouse=port_of(other)),
                remembered=NONE,
                usual=NONE,
            )
        lines = str(refused.value).splitlines()
        assert [line.partition(":")[0] for line in lines] == ["--kafka-port", "--clickhouse-port"]
        assert f"(pid {os.getpid()}" in lines[1]


def test_a_named_port_wins_over_the_remembered_and_that_over_the_usual() -> None:
    named, remembered, usual = free_ports(3)
    choice = choose(
        ["broker", "clickhouse", "host_metrics"],
        Claims(),
        named=Ports(broker=named),
        remembered=Ports(broker=remembered, clickhouse=remembered),
        usual=Ports(broker=usual, clickhouse=usual, host_metrics=usual),
    )
    assert choice.ports == Ports(broker=named, clickhouse=remembered, host_metrics=usual)
    assert choice.notes == ()


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_not_named_gives_way_and_says_to_whom(kept: bool, tmp_path: Path) -> None:
    with stranger(tmp_path) as (pid, port):
        taken = Ports(broker=port)
        choice = choose(
            ["broker"], Claims(), named=NONE, remembered=taken if kept else NONE, usual=NONE if kept else taken
        )
        (note,) = choice.notes
        assert re.match(rf"port {port}( of the last start)? is held by .*pid {pid}", note)
        assert ("of the last start" in note) is kept
        assert note.endswith(f"Kafka listens on {choice.ports.broker} instead")
        assert choice.ports.broker not in (0, port)


def test_no_two_services_get_one_port() -> None:
    (port,) = free_ports(1)
    choice = choose(
        ["broker", "clickhouse"], Claims(), named=NONE, remembered=Ports(broker=port, clickhouse=port), usual=NONE
    )
    assert choice.ports.broker == port
    assert choice.ports.clickhouse not in (0, port)
    with pytest.raises(ConfigurationError, match="for another service of this pointsman"):
        choose(
            ["broker", "clickhouse"], Claims(), named=Ports(broker=port, clickhouse=port), remembered=NONE, usual=NONE
        )


def test_no_connection_takes_a_free_port_before_its_service_has_it() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = free_ports(50)
    assert len(set(found)) == 50
    assert not set(found) & set(range(first, last + 1))


@pytest.mark.parametrize("text", ["", "no numbers", "1024 65000"])
def test_where_the_kernel_leaves_no_room_any_free_port_will_do(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text(text)
    monkeypatch.setattr("console.local.ports.CONNECTIONS", tmp_path / "range")
    assert len(set(free_ports(3))) == 3
    monkeypatch.setattr("console.local.ports.CONNECTIONS", tmp_path / "none")
    assert [holder_of(port) for port in free_ports(3)] == [None] * 3


def test_free_ports_are_free_on_both_loopback_addresses() -> None:
    assert [holder_of(port) for port in free_ports(5)] == [None] * 5


def test_ports_are_remembered_and_nonsense_is_not(tmp_path: Path) -> None:
    assert Ports.remembered(tmp_path) == NONE
    Ports(broker=1111, clickhouse=2222).remember(tmp_path)
    assert Ports.remembered(tmp_path) == Ports(broker=1111, clickhouse=2222)
    assert Ports(clickhouse=3).or_else(Ports.remembered(tmp_path)) == Ports(broker=1111, clickhouse=3)
    for text in ("half writ", "[1]", '{"broker": "x", "clickhouse": 70000, "of_a_later_version": 1}'):
        (tmp_path / "ports.json").write_text(text)
        assert Ports.remembered(tmp_path) == NONE


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="claims are made on Linux alone")
def test_what_another_supervisor_has_chosen_and_not_yet_opened_is_taken() -> None:
    (port,) = free_ports(1)
    first, second = Claims(), Claims()
    assert choose(["broker"], first, named=NONE, remembered=NONE, usual=Ports(broker=port)).ports.broker == port
    choice = choose(["broker"], second, named=NONE, remembered=NONE, usual=Ports(broker=port))
    assert choice.ports.broker != port
    assert "taken by another pointsman" in choice.notes[0]
    first.close()
    second.close()
    assert choose(["broker"], second, named=Ports(broker=port), remembered=NONE, usual=NONE).ports.broker == port
    second.close()
