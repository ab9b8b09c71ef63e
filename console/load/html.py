"""A report as one page that holds all it needs: no network, no other file; charts by uPlot (console/load/vendor).

I/O: reads the page's parts, writes a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.load.text import audit_lines, headline, summary

HERE = Path(__file__).resolve().parent
UPLOT = HERE / "vendor" / "uplot"


def write_html(document: Mapping[str, Any], path: Path) -> None:
    """Raises OSError where it cannot be written."""
    path.write_text(page(document), "utf-8")


def page(document: Mapping[str, Any]) -> str:
    """The whole page. What a report holds is data to it, and never becomes markup."""
    told = {
        **document,
        "headline": headline(document),
        "audit_lines": audit_lines(document),
        "summary": summary(document),
    }
    # Nothing in a script element ends it but this.
    data = json.dumps(told).replace("<", "\\u003c")
    licence = (UPLOT / "LICENSE").read_text("utf-8").strip()
    script = f"/*! uPlot\n{licence}\n*/\n" + (UPLOT / "uPlot.iife.min.js").read_text("utf-8")
    parts = {"STYLE": (UPLOT / "uPlot.min.css").read_text("utf-8"), "SCRIPT": script, "DATA": data}
    text = (HERE / "page.html").read_text("utf-8")
    for name, content in parts.items():
        text = text.replace(f"/*{name}*/", content, 1)
    return text
