"""Broken builds of windows: what is left out, cut, or passes for something else.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from agents.memory import lines, window
from agents.memory.model import (
    Interaction,
    Line,
)
from tests.properties import test_memory as memory
from tests.properties.mutant import Mutant
from tests.unit import test_memory_apart as apart

_fitting, _lines_of = window._fitting, lines.interaction_lines


def _all_of_them(items: Iterable[Any], tokens_max: int, line_of: Callable[[Any], Line]) -> list[tuple[Any, Line]]:
    del tokens_max
    return [(item, line_of(item)) for item in items]


def _half(items: Iterable[Any], tokens_max: int, line_of: Callable[[Any], Line]) -> list[tuple[Any, Line]]:
    return _fitting(items, tokens_max // 2, line_of)


def _results_alone(interaction: Interaction, count: Any) -> tuple[Line, ...]:
    return tuple(
        each._replace(text=each.text.partition(" -> ")[2]) if each.role == "tool" else each
        for each in _lines_of(interaction, count)
    )


def _not_indented(line: Line) -> str:
    return f"{line.role}: {line.text}" if line.section == "interaction" else f"- {line.text}"


def _short_words_are_free(text: str) -> int:
    return len(text) // 4


WINDOWS: Mapping[str, Mutant] = {
    "instructions and facts exceed the hard cap": Mutant(
        "agents.memory.window._fitting",
        _all_of_them,
        (memory.test_a_window_keeps_its_caps_and_each_tool_call_its_result,),
    ),
    "a pinned fact is dropped at the soft cap": Mutant(
        "agents.memory.window._fitting", _half, (memory.test_what_people_pinned_is_shown_as_far_as_the_hard_cap_allows,)
    ),
    "a tool's result is kept without its call": Mutant(
        "agents.memory.window.interaction_lines",
        _results_alone,
        (memory.test_what_a_tool_said_stands_behind_what_it_was_asked,),
    ),
    "a text's own line breaks are not indented": Mutant(
        "agents.memory.render._entry",
        _not_indented,
        (
            memory.test_what_is_rendered_cannot_pass_for_a_heading,
            apart.test_nothing_that_is_said_anywhere_in_an_interaction_passes_for_a_heading_or_a_line,
        ),
    ),
    "short words cost nothing": Mutant(
        "tests.properties.test_memory.estimate",
        _short_words_are_free,
        (memory.test_no_text_has_more_tokens_than_bytes_or_none_where_there_are_words,),
    ),
}
