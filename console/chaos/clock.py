"""Wall clocks that jump: of processes started under libfaketime, where it is installed.

The monotonic clock goes on as it is: no machine's jumps. I/O: looks for the library, writes a file for each process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LIBRARY = "libfaketimeMT.so.1"
PLACES = ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


@dataclass(frozen=True, slots=True)
class Faketime:
    """The library, and the folder of the files that say by how much a process' clock is off."""

    library: Path
    folder: Path

    @classmethod
    def found(cls, folder: Path) -> Self | None:
        """None where it is not installed; LD_LIBRARY_PATH is looked through, too."""
        named = [Path(each) for each in os.environ.get("LD_LIBRARY_PATH", "").split(":") if each]
        for place in [*named, *(match for pattern in PLACES for match in Path("/").glob(pattern.lstrip("/")))]:
            if (place / LIBRARY).is_file():
                return cls(place / LIBRARY, folder)
        return None

    def environment(self, name: str) -> Mapping[str, str]:
        """For a process whose clock `jump` may set."""
        self.jump(name, 0.0)
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file(name)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "0",
        }

    def jump(self, name: str, by_s: float) -> None:
        """Seconds from the true time; heeded within a second."""
        draft = self._file(name).with_suffix(".draft")
        draft.write_text(f"{by_s:+.0f}\n")
        draft.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.clock"
