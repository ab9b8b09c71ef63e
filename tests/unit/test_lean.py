"""What is not needed is not imported: pandas by a worker, and the parts of all commands by whoever asks for one."""

from __future__ import annotations

import subprocess
import sys

SPARED = """
import sys
from streams.transport.lean import spare_pandas
spare_pandas()
import pyarrow as pa
import streams.app
assert pa.array([1, None]).to_pylist() == [1, None]
print("pandas" in sys.modules)
import pandas
print(pandas.Series([1]).sum())
"""


def test_pyarrow_does_not_import_it_and_others_may() -> None:
    plain = "import sys, pyarrow as pa; pa.array([1]); print('pandas' in sys.modules)"
    assert _said(plain) == ["True"], "it would; else there is nothing to spare"
    assert _said(SPARED) == ["False", "1"]


NO_HTTP = """
import sys
from streams.transport.lean import spare_aiohttp
spare_aiohttp()
import streams.app
from streams.transport.faust_driver import DriverOptions, make_app
options = {"config": {}, "anchor": "a", "mirrors": (), "channel_of": str, "hooks": None}
make_app("x", DriverOptions(**options, rows_max=1, bytes_max=1, poll_s=1, turn_share=1)).finalize()
print("aiohttp" in sys.modules)
import aiohttp
print(aiohttp.ClientSession.__module__)
"""


def test_faust_does_not_import_an_http_client_and_others_may() -> None:
    plain = "import sys, faust.types.web; print('aiohttp' in sys.modules)"
    assert _said(plain) == ["True"], "it would; else there is nothing to spare"
    assert _said(NO_HTTP) == ["False", "aiohttp.client"]


def test_who_serves_draws_nothing() -> None:
    assert _said("import sys, structlog; print('rich' in sys.modules)") == ["True"], "else there is nothing to spare"
    serving = "import sys, console.cli.main, console.cli.serve, streams.app; print('rich' in sys.modules)"
    assert _said(serving) == ["False"]


def test_the_command_line_imports_a_command_when_it_runs() -> None:
    heavy = "{'numpy', 'pyarrow', 'confluent_kafka', 'faust', 'pydantic', 'clickhouse_connect', 'rapidfuzz', 'aiohttp'}"
    assert _said(f"import sys, console.cli.main; print('typer' in sys.modules, *{heavy} & sys.modules.keys())") == [
        "True"
    ]


LOADED = """
import gc, sys
looked = []
gc.callbacks.append(lambda phase, told: looked.append(told["generation"]))
sys.argv = ["pointsman", "topology", "check"]
from console.cli import entry
before = len(looked)
entry.main()
print(gc.isenabled(), len(looked) - before < OFTEN)
"""
OFTEN = 10  # Python's own thresholds come to some 70 phases of collections for this command
SERVES = """
import gc
from console.cli.serve import COLLECT_AT, _spare_the_collector
gc.disable()
looked = []
gc.callbacks.append(lambda phase, told: looked.append(phase))
_spare_the_collector()
print(gc.isenabled() and not looked, gc.get_threshold() == COLLECT_AT)
"""


def test_the_collector_rests_while_modules_are_loaded_and_no_longer() -> None:
    assert _said(LOADED.replace("OFTEN", str(OFTEN)))[-2:] == ["True", "True"]
    assert _said(SERVES) == ["True", "True"]


def _said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()
