"""The breaker's diagram in docs/architecture.md is the breaker's table, rendered."""

from __future__ import annotations

from streams.core.breaker import TRANSITIONS, Phase
from tests.unit.test_docs import page


def diagram() -> str:
    """streams.core.breaker.TRANSITIONS as Mermaid: one arrow for each pair of phases, its causes in the order given."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (before, cause), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(str(cause))
    lines = [f"    {before} --> {after}: {', '.join(causes)}" for (before, after), causes in arrows.items()]
    return "\n".join(("```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.CLOSED}", *lines, "```"))


def test_the_page_shows_exactly_the_table() -> None:
    """Where this fails, put the text that it expects into the page."""
    assert diagram() in page("docs/architecture.md")


def test_every_change_of_the_table_is_in_the_diagram() -> None:
    drawn = diagram()
    for before, cause in TRANSITIONS:
        lines = [line for line in drawn.splitlines() if line.strip().startswith(f"{before} -->")]
        assert any(cause in line.replace(",", " ").split() for line in lines)
