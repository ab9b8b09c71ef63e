"""Keeps a module out of what would import it where it is installed, and does without it where it is not. I/O: none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any


class _Absent(MetaPathFinder):
    """As where it is not installed."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == self._name:
            raise ModuleNotFoundError(f"{self._name} is kept out", name=self._name)


@contextmanager
def kept_out(name: str) -> Iterator[None]:
    """Within it the module counts as not installed, unless it is imported already."""
    absent = _Absent(name)
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)
