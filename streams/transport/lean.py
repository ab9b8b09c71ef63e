"""Keeps pandas out of a process that has no use for it.

pyarrow imports it, where it is installed, the first time that it is given a list: a fifth of what a worker's imports
take of a core, and 30 MiB, while everybody waits for the worker to come back. I/O: none.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa

PANDAS = "pandas"


class _Absent(MetaPathFinder):
    """As where it is not installed."""

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == PANDAS:
            raise ModuleNotFoundError(f"{PANDAS} is kept out", name=PANDAS)


def spare_pandas() -> None:
    """From here on pyarrow takes it for absent, in this process: no conversion from or to its types. Others may import
    it. Not for who runs code of others, which may hand Arrow's columns to it.
    """
    if PANDAS in sys.modules:
        return
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        pa.array([0])  # it tries once
    finally:
        sys.meta_path.remove(absent)
