"""An insert that finds no room on the disk says so, and is whole once there is room: nothing is lost in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.wrong import REPOSITORY, private_mount

SCRIPT = """
import sys
from pathlib import Path
from streams.history.engine import Engine, EngineError

disk = Path(sys.argv[1])
engine = Engine(disk / "history")
handle = engine.open()
handle.run("CREATE TABLE t (x UInt64) ENGINE = MergeTree ORDER BY x")
handle.insert("INSERT INTO t (x)", "CSV", [b"1\\n"])
filler = disk / "filler"
with filler.open("wb") as file:
    try:
        while True:
            file.write(bytes(65_536))
    except OSError:
        pass
for _ in range(2):
    try:
        handle.insert("INSERT INTO t (x)", "CSV", [b"2\\n"])
    except EngineError as error:
        print("refused", error.name)
print("held", handle.run("SELECT groupArray(x) FROM t").body.decode().strip())
filler.unlink()
handle.insert("INSERT INTO t (x)", "CSV", [b"2\\n"])
print("held", handle.run("SELECT arraySort(groupArray(x)) FROM t").body.decode().strip())
handle.close()
engine.close()
"""


def test_an_insert_without_room_is_refused_and_can_be_repeated(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with private_mount("-t tmpfs -o size=64m none", disk) as launcher:
        said = subprocess.run(
            [*launcher, sys.executable, "-c", SCRIPT, str(disk)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=120,
            check=False,
        )
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [
        *["refused NOT_ENOUGH_SPACE"] * 2,
        "held [1]",
        "held [1,2]",
    ]
