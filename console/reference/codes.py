"""The page of all codes: what `pointsman explain` says of each. I/O: none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from console.explained.table import Explanation, table
from console.reference.markdown import made_by, paragraph
from console.reference.markdown import table as rows
from schemas.codes import ErrorCode, FaultCode


def page() -> str:
    """docs/codes.md."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield made_by("console/explained/*.toml")
    yield "# Codes"
    yield ""
    yield from paragraph(
        "All that pointsman reports has a short code: faults of a topology (T...), errors that end a command (E...: "
        "the first digit is the exit code), and the reasons, kinds and states in events and results, which are words. "
        "A code never changes its meaning. On the command line `pointsman explain CODE` says the same as this page."
    )
    faults = [table()[code] for code in FaultCode]
    errors = [table()[code] for code in ErrorCode]
    others = [each for each in table().values() if each not in (*faults, *errors)]
    yield from _chapter("Faults of a topology", faults)
    yield from _chapter("Errors", errors)
    yield from _chapter("Events, results and dead letters", others, with_kinds=True)


def _chapter(title: str, found: Iterable[Explanation], *, with_kinds: bool = False) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    listed = list(found)
    yield from rows(("code", "says"), ((f"[{each.code}](#{each.code.lower()})", each.title) for each in listed))
    for each in listed:
        yield f"### {each.code}"
        yield ""
        met = f" ({'; '.join(each.kinds)})" if with_kinds else ""
        yield from paragraph(f"**{each.title[0].upper()}{each.title[1:]}**{met}. {each.means}")
        if each.why:
            yield from paragraph(f"*Why:* {each.why}")
        if each.do:
            yield from paragraph(f"*Do:* {each.do}")
        if each.wrong:
            yield "```yaml"
            yield "# wrong"
            yield from each.wrong.splitlines()
            yield "# right"
            yield from each.right.splitlines()
            yield "```"
            yield ""
