"""Who listens on a port of this machine, so that an error can name the program and not only the number.

Linux tells by /proc; elsewhere, and for processes of other users, less is known and less is said. I/O: /proc, sockets.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
LISTENING = "0A"
# What a client that says 127.0.0.1 or localhost reaches: many machines resolve localhost to ::1 first.
REACHED = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:0.0.0.0"})  # noqa: S104  recognised, not bound
LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens there. What is not known is None or empty; never more of a command line than the program's name."""

    port: int
    address: str = ""
    pid: int | None = None
    program: str = ""
    folder: str = ""
    user: str = ""
    denied: bool = False

    def __str__(self) -> str:
        """To follow the words "port N"."""
        if self.denied:
            return "may not be listened on by this user (ports below 1024 need special rights)"
        at = f" on {self.address}" if self.address else ""
        if self.pid is not None:
            folder = f", working in {self.folder}" if self.folder else ""
            return f"is held by {self.program} (pid {self.pid}{folder}){at}"
        if self.user:
            return f"is held by a process of user {self.user}, which only that user or root can name{at}"
        return f"is held by another program{at} (`lsof -nP -iTCP:{self.port} -sTCP:LISTEN` may name it)"


def holder_of(port: int) -> Holder | None:
    """Who would be reached on loopback, be it ours to listen beside or not; None where the port is free.

    A listener on ::1 alone leaves 127.0.0.1 free, and yet takes the calls of whoever says localhost.
    """
    found = [each for each in _sockets(port) if each.address in REACHED]
    for each in found:
        if each.listens:
            return _named(port, each)
    refused = {refusal(port, family, address) for family, address in LOOPBACKS}
    if errno.EACCES in refused:
        return Holder(port, denied=True)
    if errno.EADDRINUSE not in refused:
        return None
    # An outgoing connection may have the port; one that is closed already (inode 0) is nobody's any more.
    return next((_named(port, each) for each in found if each.inode != "0"), Holder(port))


def refusal(port: int, family: socket.AddressFamily, address: str) -> int:
    """Why this address cannot be listened on: EADDRINUSE or EACCES; 0 where it can, or where there is none such."""
    try:
        with socket.socket(family) as probe:
            # As servers do it: a port in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno if error.errno in (errno.EADDRINUSE, errno.EACCES) else 0
    return 0


class _Socket(NamedTuple):
    """A line of the kernel's table."""

    address: str
    uid: int
    inode: str
    listens: bool


def _sockets(port: int) -> Iterator[_Socket]:
    """Those with this port on our side."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            host, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                yield _Socket(_address(host), int(fields[7]), fields[9], fields[3] == LISTENING)


def _address(text: str) -> str:
    """From the kernel's form: 32-bit words, each in the machine's byte order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))


def _named(port: int, held: _Socket) -> Holder:
    try:
        user = pwd.getpwuid(held.uid).pw_name
    except KeyError:
        user = str(held.uid)
    pid = _pid_of(held.inode)
    if pid is None:
        return Holder(port, held.address, user=user)
    return Holder(port, held.address, pid, _program(pid), _folder(pid), user)


def _pid_of(inode: str) -> int | None:
    """The process that has this socket open, if we may look into it."""
    wanted = f"socket:[{inode}]"
    for process in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it is gone, or another user's
            for descriptor in os.scandir(process / "fd"):
                with suppress(OSError):
                    if str(Path(descriptor.path).readlink()) == wanted:
                        return int(process.name)
    return None


def _program(pid: int) -> str:
    """Its name alone: the arguments of a stranger may hold a secret."""
    with suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        if words[0]:
            return Path(os.fsdecode(words[0])).name
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text().strip()
    return "a program"


def _folder(pid: int) -> str:
    with suppress(OSError):
        return str((PROC / str(pid) / "cwd").readlink())
    return ""
