"""Keeps out of a process what it has no use for, while everybody waits for it to come back.

pyarrow imports pandas, where it is installed, the first time that it is given a list: a fifth of what the imports of a
worker take of a core, and 30 MiB. Faust imports aiohttp for the name of a class: a tenth. I/O: none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import pyarrow as pa

from streams.transport.absent import kept_out

PANDAS = "pandas"
AIOHTTP, AIOHTTP_CLIENT = "aiohttp", "aiohttp.client"


def spare_pandas() -> None:
    """From here on pyarrow takes it for absent, in this process: no conversion from or to its types. Others may import
    it. Not for who runs code of others, which may hand Arrow's columns to it.
    """
    with kept_out(PANDAS):
        pa.array([0])  # it tries once


class NoHttpClient:
    """What Faust is told to make HTTP clients of, and never does: no processor of ours asks for one."""


def spare_aiohttp() -> None:
    """Imports those of Faust's types that name aiohttp's client, with a stand-in in its place. Others may import it."""
    if AIOHTTP in sys.modules:
        return
    stand_ins = {AIOHTTP: ModuleType(AIOHTTP), AIOHTTP_CLIENT: ModuleType(AIOHTTP_CLIENT)}
    stand_ins[AIOHTTP_CLIENT].__dict__["ClientSession"] = NoHttpClient
    sys.modules.update(stand_ins)
    try:
        import_module("faust.types.web")
    finally:
        for name in stand_ins:
            del sys.modules[name]
