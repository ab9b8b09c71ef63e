"""Two reports side by side: ratios, and what makes them hard to compare.

I/O: reads the files of reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.load.report import FORMAT
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

COLUMNS = ("metric", "a", "b", "ratio")
# Runs that differ in these are not of the same thing.
ALIKE = ("scenario", "config_hash", "delivery", "commit", "seed")
MACHINE = ("cpu", "cores", "memory_mib", "kernel", "architecture")
OTHERS_CORES_MAX = 0.1
_VALUES = ("events_per_second", "tasks_per_second", "history_delay_ms", "lag_end")
_PARTS = ("latency_ms", "cpu_us_per_event", "cores", "rss_mib")


def read_report(path: Path) -> dict[str, Any]:
    """Raises ConfigurationError where the file is no report that this version reads, OSError where there is none."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON, so it is no report.", code=ErrorCode.REPORT) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        text = f"{path} is no report of `pointsman load run --json` that this version reads."
        raise ConfigurationError(text, code=ErrorCode.REPORT)
    return document


def compared(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each figure that both have; `ratio` is b to a."""
    left, right = dict(_figures(a)), dict(_figures(b))
    return [
        {"metric": name, "a": left[name], "b": right[name], "ratio": _ratio(left[name], right[name])}
        for name in left
        if name in right
    ]


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Why a ratio may not be what it seems: one line each."""
    found = [f"{name} differs: {a[name]} and {b[name]}" for name in ALIKE if a[name] != b[name]]
    found += [
        f"machine differs in {name}: {a['machine'].get(name)} and {b['machine'].get(name)}"
        for name in MACHINE
        if a["machine"].get(name) != b["machine"].get(name)
    ]
    found += [
        f"version of {name} differs: {a['versions'].get(name)} and {b['versions'].get(name)}"
        for name in sorted({*a["versions"], *b["versions"]})
        if a["versions"].get(name) != b["versions"].get(name)
    ]
    for name, each in (("a", a), ("b", b)):
        if each["void"]:
            found.append(f"{name} is void: {each['void_reason']}")
        elif not each["sound"]:
            found.append(f"{name} is not sound: its audit found something")
        others = each["cores"].get("others") or 0.0
        if others > OTHERS_CORES_MAX:
            found.append(f"in {name} other programs kept {others:g} cores busy")
        if str(each["commit"]).endswith("+"):
            found.append(f"{name} ran with changes that are in no commit")
    return found


def _figures(document: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = [(name, document[name]) for name in _VALUES]
    found += [(f"{part}.{name}", value) for part in _PARTS for name, value in (document[part] or {}).items()]
    found.append(("generator.cpu_us_per_task", document["generator"]["cpu_us_per_task"]))
    found.append(("bytes.per_event", document["bytes"]["per_event"]))
    return [(name, float(value)) for name, value in found if value is not None]


def _ratio(a: float, b: float) -> float | None:
    return round(b / a, 3) if a else None
