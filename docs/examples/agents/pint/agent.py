"""An agent in an interpreter of its own: it converts units with Pint, which pointsman's environment does not have.

A line of JSON comes in for each task, and one goes back; docs/agents/protocol.md is the form. I/O: stdin, stdout.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pint

UNITS = pint.UnitRegistry(cache_folder=None)
SHORT = {"c": "celsius", "f": "fahrenheit", "k": "kelvin"}  # c is the speed of light to Pint
NUMBER = r"(?P<number>-?\d+(?:[.,]\d+)*)"
ASKED = (
    re.compile(rf"{NUMBER}\s*(?P<source>[a-z]+)\s+(?:to|in|into|as)\s+(?P<target>[a-z]+)"),
    re.compile(rf"how many (?P<target>[a-z]+) (?:are|is|in|make)(?: there)?(?: in)?\s+{NUMBER}\s*(?P<source>[a-z]+)"),
)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """One of answer, refused and failed, and what belongs to it."""
    text = request["task"]["text"].lower()
    found = next((match for match in (pattern.search(text) for pattern in ASKED) if match), None)
    if found is None:
        return {"refused": "this agent converts units alone"}
    number, source, target = found["number"], *(SHORT.get(found[name], found[name]) for name in ("source", "target"))
    try:
        value = UNITS.Quantity(float(number.replace(",", "")), source).to(target).magnitude
    except pint.UndefinedUnitError as error:
        return {"failed": f"Pint does not know the unit {' and '.join(error.unit_names)}"}
    except pint.DimensionalityError:
        return {"failed": f"{source} and {target} measure different things", "error_class": "WRONG_INPUT"}
    shown = f"{value:.6g}"
    return {
        "answer": f"{number} {source} = {shown} {target}",
        "confidence": 0.95,
        # As the other agent that converts units writes it, so that a panel can compare.
        "vote_key": f"{shown} {target if target == 'celsius' else target.removesuffix('s')}",
        "citations": [f"Pint {pint.__version__}"],
    }


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        json.dump({"id": request["id"], **answer(request)}, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
