"""Tells commands that are run beside a data directory where its `dev` answers (`schemas.nearby` reads it).

I/O: one small file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from schemas.nearby import FILE, NAMES


@contextmanager
def told(directory: Path, addresses: Mapping[str, str]) -> Iterator[None]:
    """These settings are found beside `directory`, for as long as this context. Raises OSError.

    Only who holds the directory's lock may enter: what is withdrawn at the end is whatever is told there.
    """
    draft = directory / f".{FILE}"
    draft.write_text(json.dumps({name: addresses[name] for name in NAMES}) + "\n")
    draft.replace(directory / FILE)
    try:
        yield
    finally:
        (directory / FILE).unlink(missing_ok=True)
