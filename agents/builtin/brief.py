"""The smallest example of code that sums up for an agent: deterministic, and without a model or a network.

A model's takes its place with the same signature: it says the span in fewer words, and each of its facts as it stands.
I/O: none.
"""

from __future__ import annotations

from agents.contract import Span


def brief(span: Span, opening: str = "In short", words: int = 6) -> str:
    """The first words of each question in a line, and each fact in a line of its own."""
    said = "; ".join(" ".join(each.asked.split()[:words]) for each in span.interactions)
    return "\n".join([f"{opening}: {said}", *span.facts])
