"""`pointsman explain`: what a code means, why it is met, and what to do.

I/O: stdout.
"""

from __future__ import annotations

import shutil
import textwrap

from console.cli.failures import NotFoundError
from console.cli.output import Format, Output
from console.explained.table import Explanation, table
from schemas.codes import ErrorCode
from schemas.nearest import nearest

COLUMNS = ("code", "title", "kinds")
WIDTH_MAX = 100
LABEL = "{:<5} "


def explain_code(code: str | None, *, form: Format, out: Output) -> None:
    """Prints one explanation, or without a code the list of all. Raises NotFoundError for a code that there is not."""
    if code is None:
        out.records([each.row() for each in table().values()], COLUMNS, form)
        return
    name = code.strip("[]").upper()
    if name not in table():
        near = nearest(name, [each.lower() for each in table()])
        hint = f"; did you mean {near.upper()}?" if near else "; `pointsman explain` lists all."
        raise NotFoundError(f"There is no code {name}{hint}", code=ErrorCode.NO_CODE)
    found = table()[name]
    if form is Format.TABLE:
        for line in page(found, min(WIDTH_MAX, shutil.get_terminal_size().columns) if out.fancy else None):
            out.line(line)
    elif form is Format.JSON:
        out.json(found.row())
    else:
        out.json_line(found.row())


def page(found: Explanation, width: int | None) -> list[str]:
    """The explanation as lines for a person; None: a paragraph is one line, however long."""
    lines = [f"{found.code}: {found.title}", f"({'; '.join(found.kinds)})", "", *_filled(found.means, "", width)]
    for label, text in (("Why", found.why), ("Do", found.do)):
        if text:
            lines += ["", *_filled(text, LABEL.format(label), width)]
    for label, text in (("Wrong", found.wrong), ("Right", found.right)):
        if text:
            lines += ["", f"{label}:", *(f"    {line}" for line in text.splitlines())]
    return lines


def _filled(text: str, label: str, width: int | None) -> list[str]:
    if width is None:
        return [f"{label}{text}"]
    return textwrap.wrap(text, width, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)
