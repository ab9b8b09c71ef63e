"""`pointsman eval`: figures on data that others made.

I/O: reads the data, writes the report; stdout, stderr.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from console.cli.failures import ExitCode, NotFoundError
from console.cli.output import Output
from console.evals import data
from console.evals.memory import CAPS, Recall, Tools, broken, document, recall, tools, total
from schemas.codes import ErrorCode

_RECALL = ("domain", "cap", "questions", "answerable", "window", "last 10", "newest that fit", "pinned facts")
_TOOLS = ("cap", "runs", "windows", "orphans", "over cap", "calls left out", "compression", "greatest", "pinned facts")


def eval_memory(folder: Path, report: Path | None, out: Output) -> ExitCode:
    """Prints what windows keep of real dialogues; FAILED where they break a promise.

    Raises NotFoundError where files are missing, ConfigurationError where they cannot be read, OSError.
    """
    lacking = data.missing(folder)
    if lacking:
        raise NotFoundError(
            f"{folder} lacks {', '.join(lacking)}. Nothing is downloaded here: name the folder that holds them with "
            "--data; docs/evals.md says where they are from.",
            code=ErrorCode.NO_EVAL_DATA,
        )
    by_domain = [recall(each) for each in data.conversations(folder)]
    recalls = [row for at in range(len(CAPS)) for row in _with_total([rows[at] for rows in by_domain])]
    runs = data.runs(folder)
    of_runs = [tools(runs, cap) for cap in CAPS]
    if report is not None:
        report.write_text(json.dumps(document(recalls, of_runs), indent=2) + "\n", "utf-8")
    out.table(_RECALL, [_recall_row(row) for row in recalls], "bfcl: answers to later questions")
    out.line()
    out.table(_TOOLS, [_tools_row(each) for each in of_runs], "taubench: calls of tools, after each interaction")
    faults = broken(recalls, of_runs)
    for fault in faults:
        out.note(fault)
    return ExitCode.FAILED if faults else ExitCode.OK


def _with_total(rows: list[Recall]) -> list[Recall]:
    return [*rows, total(rows)]


def _recall_row(row: Recall) -> Sequence[object]:
    kept = row.passages
    counted = (row.questions, kept.everything, kept.window, kept.last_10, kept.newest)
    return (row.domain, row.cap, *counted, f"{row.facts_kept}/{row.facts_pinned}")


def _tools_row(each: Tools) -> Sequence[object]:
    counted = (each.runs, each.windows, each.orphans, each.over_cap, each.calls_left_out)
    return (each.cap, *counted, each.compression, each.greatest, f"{each.facts_kept}/{each.facts_pinned}")
