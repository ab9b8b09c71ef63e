"""Which of some files have other content than before, once their writer seems to be done.

Editors write a new file and rename it, save twice, leave a file half written or away for a moment: a change counts when
nothing has moved for a while. Polled, not notified: a few dozen files cost nothing to look at, and every file system
can do it, those of containers and remote machines too. I/O: files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

# So long nothing must move; and a file that moves for ever is looked at all the same.
SETTLE_S = 0.25
SETTLE_MAX_S = 3.0
# So long a file that was there may be away, as between the two steps of a save.
AWAY_S = 1.0

Stamp = tuple[int, int, int] | None
Digest = bytes | None


class Watch:
    """`poll` is called often. A file that is missing has a content of its own: none."""

    def __init__(self, paths: Iterable[Path] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stamps: dict[Path, Stamp] = {}
        self._digests: dict[Path, Digest] = {}
        self._moved_at: float | None = None
        self._moving_since = 0.0
        self.add(paths)

    @property
    def digests(self) -> Mapping[Path, Digest]:
        """Of what was last seen at rest."""
        return self._digests

    def add(self, paths: Iterable[Path]) -> None:
        """Watches these, too, from what they hold now."""
        for path in paths:
            if path not in self._stamps:
                self._stamps[path], self._digests[path] = stamp(path), digest(path)

    def poll(self) -> set[Path]:
        """Those that have come to rest with other content."""
        now = self._clock()
        stamps = {path: stamp(path) for path in self._stamps}
        if stamps != self._stamps:
            if self._moved_at is None:
                self._moving_since = now
            self._stamps, self._moved_at = stamps, now
        if self._moved_at is None or not self._at_rest(now):
            return set()
        self._moved_at = None
        seen = {path: digest(path) for path in self._stamps}
        changed = {path for path, each in seen.items() if each != self._digests[path]}
        self._digests = seen
        return changed

    def _at_rest(self, now: float) -> bool:
        assert self._moved_at is not None
        away = any(each is None and self._digests[path] is not None for path, each in self._stamps.items())
        still = now - self._moved_at >= (AWAY_S if away else SETTLE_S)
        return still or now - self._moving_since >= SETTLE_MAX_S


def stamp(path: Path) -> Stamp:
    """What changes when a file is written or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def digest(path: Path) -> Digest:
    """Of its content; None where it cannot be read."""
    try:
        return blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return None
