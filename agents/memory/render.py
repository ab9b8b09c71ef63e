"""A window as text, and as the messages of a chat model. I/O: none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.memory.model import Line, Section, Window

HEADS: dict[Section, str] = {
    "instruction": "Instructions from people:",
    "fact": "Facts to remember:",
    "summary": "Summary of what was said before:",
    "interaction": "The conversation so far:",
}


def text(window: Window) -> str:
    """One text for a prompt, empty where there is nothing to know.

    A line's own line breaks are indented, so nothing that was said can pass for a heading or for another's line.
    """
    parts = []
    for section, head in HEADS.items():
        lines = [line for line in window.lines if line.section == section]
        if lines:
            parts.append("\n".join([head, *map(_entry, lines)]))
    return "\n".join(parts)


def _entry(line: Line) -> str:
    said = "\n  ".join(line.text.splitlines())
    return f"{line.role}: {said}" if line.section == "interaction" else f"- {said}"


def messages(window: Window) -> list[dict[str, str]]:
    """As chat models take them: what is known as `system`, what was asked as `user`, answers as `assistant`, and calls
    of tools with their results, as text, as `assistant` too: no id of a call can be without its result."""
    known = Window(window.key, window.caps, window.count, (), (), None, (), tuple(_known(window.lines)), window.omitted)
    found = [{"role": "system", "content": text(known)}] if known.lines else []
    for line in window.lines:
        if line.section == "interaction":
            said = f"[tool] {line.text}" if line.role == "tool" else line.text
            found.append({"role": "user" if line.role == "asked" else "assistant", "content": said})
    return found


def _known(lines: Sequence[Line]) -> Iterator[Line]:
    return (line for line in lines if line.section != "interaction")
