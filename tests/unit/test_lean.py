"""A worker does without pandas, which pyarrow would import for it."""

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


def _said(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()
