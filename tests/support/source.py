"""The program's own source, for tests that hold it against its tables."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from schemas.errors import PointsmanError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "streams", "agents", "loadtest", "console")


@cache
def modules() -> dict[str, str]:
    """The text of every module by its dotted name."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    paths = [path for path in found if ".venv" not in path.parts]  # those of loadtest/peers are others' programs
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return {name: path.read_text("utf-8") for path, name in names.items()}


@cache
def errors() -> dict[str, type[PointsmanError]]:
    """Every error of the program by its class's name."""
    for name, text in modules().items():
        if "Error)" in text:
            importlib.import_module(name)
    found: dict[str, type[PointsmanError]] = {"PointsmanError": PointsmanError}
    left = [PointsmanError]
    while left:
        for each in left.pop().__subclasses__():
            if each.__module__.partition(".")[0] in PACKAGES:
                found[each.__name__] = each
                left.append(each)
    return found


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a plain name, with the place where it stands."""
    for module, text in modules().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield f"{module}:{node.lineno}", node
