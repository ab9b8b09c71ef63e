"""A report for a person, as text.

I/O: stdout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from console.cli.output import Output

Document = Mapping[str, Any]


def print_report(document: Document, out: Output) -> None:
    """The headline, what the run cost, the audit, and the verdict on every threshold."""
    if document["void"]:
        out.line(f"VOID: {document['void_reason']}. Its figures are no measurement.")
    out.table(("measured", "value"), list(headline(document).items()), f"{document['scenario']}: {document['about']}")
    out.line()
    _print_processes(document, out)
    if document["ramp"] is not None:
        out.line()
        names = ("rate", "sustained", "events_per_second", "waiting_end", "p50_ms", "p99_ms")
        out.table(names, [[step[name] for name in names] for step in document["ramp"]], "Steps, in tasks a second")
    out.line()
    out.table(("audit", "count"), list(audit_lines(document).items()), "What was asked against what was answered")
    for finding in document["audit"]["findings"]:
        out.line(f"FOUND: {finding}")
    out.line()
    rows = [
        ("ok" if each["ok"] else "BREACHED", each["metric"], each["threshold"], shown(each["value"]))
        for each in document["thresholds"]
    ]
    out.table(("verdict", "metric", "threshold", "value"), rows, "Thresholds")
    out.line()
    out.line(summary(document))


def headline(document: Document) -> dict[str, object]:
    """What one asks first, by its name."""
    found: dict[str, object] = {
        "events a second": shown(document["events_per_second"]),
        "tasks a second": shown(document["tasks_per_second"]),
    }
    latency = document["latency_ms"] or {}
    for name in ("p50", "p95", "p99", "p999"):
        if latency.get(name) is not None:
            found[f"latency {name}, ms"] = shown(latency[name])
    found["lag at the end, records"] = document["lag_end"]
    found["lag grows, records a second"] = shown(document["lag"]["total"]["growth_per_s"])
    found["history whole after, ms"] = shown(document["history_delay_ms"])
    found["bytes an event"] = document["bytes"]["per_event"]
    found["generator, CPU-us a task"] = document["generator"]["cpu_us_per_task"]
    found["machine"] = f"{document['machine']['cores']} x {document['machine']['cpu']}"
    found["cores that others took"] = document["cores"].get("others")
    found["commit, configuration"] = f"{document['commit']}, {document['config_hash']}"
    return found


def audit_lines(document: Document) -> dict[str, object]:
    """The counts of the audit, by name."""
    names = ("accepted", "results", "lost", "duplicated", "out_of_order", "wrong_decisions", "unasked", "asked_twice")
    found = {name: document[name] for name in (*names, "history_missing", "history_duplicated", "unrecorded")}
    found["dead"] = document["audit"]["dead"]
    found["share of tasks whose decisions were judged"] = document["audit"]["tasks_judged_share"]
    return found


def _print_processes(document: Document, out: Output) -> None:
    per_event, cores, memory = document["cpu_us_per_event"] or {}, document["cores"], document["rss_mib"]
    names = [name for name in ("total", "broker", "worker", "host", "store") if name in per_event]
    rows = [(name, per_event[name], shown(cores.get(name)), shown(memory.get(name))) for name in names]
    rows += [
        (f"({name})", "", shown(cores[name]), shown(memory.get(name)))
        for name in ("generator", "audit")
        if name in cores
    ]
    out.table(("process", "cpu_us_per_event", "cores", "rss_mib"), rows, "Cost, warm-up not included")


def summary(document: Document) -> str:
    """One line, for whoever reads no more."""
    breached = sum(not each["ok"] for each in document["thresholds"])
    said = [
        f"{shown(document['events_per_second'])} events/s",
        *([f"p99 {shown(document['latency_ms']['p99'])} ms"] if document["latency_ms"] else []),
        f"{document['lost']} lost",
        f"{document['duplicated']} duplicated",
        f"{document['wrong_decisions']} wrong",
        "history complete" if _is_complete(document) else "history INCOMPLETE",
        f"{breached} thresholds breached" if breached else "all thresholds hold",
    ]
    return f"load {document['scenario']}: {'VOID; ' if document['void'] else ''}{', '.join(said)}"


def _is_complete(document: Document) -> bool:
    faults = ("missing", "surplus", "repeated")
    return not any(kept[fault] for kept in document["audit"]["history"].values() for fault in faults)


def shown(value: object) -> object:
    """A number with thousands apart; what is not known as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"  # noqa: PLR2004
    return value
