"""`python -m console.reference`, or `make reference`: writes the pages and files that are made out of the program.

With --check nothing is written; what differs is named, and the exit code is 1. I/O: those files, stdout.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from console.reference.pages import FILES

ROOT = Path(__file__).resolve().parents[2]
CHECK = "--check"


def main(arguments: Sequence[str]) -> int:
    """Writes what has changed and names it, or only names it."""
    stale = [name for name, made in FILES.items() if _text(ROOT / name) != made()]
    for name in stale:
        if CHECK in arguments:
            print(f"{name} is not what the program says: run make reference")
        else:
            (ROOT / name).write_text(FILES[name](), "utf-8")
            print(f"wrote {name}")
    return 1 if stale and CHECK in arguments else 0


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
