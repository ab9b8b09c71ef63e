"""A `dev` whose own program was changed under it says so beside what it cannot take."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from console.local import reload
from console.local.check import Verdict
from console.local.reload import ANOTHER, Reloader
from console.local.watch import Watch
from schemas.codes import ErrorCode
from schemas.errors import PointsmanError


class Refusing(Reloader):
    def _take(self) -> str:
        raise PointsmanError("not so", code=ErrorCode.CANNOT_RELOAD)


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Saves a file and gives what was said; meanwhile the program is what `times` says."""
    path, heard = tmp_path / "t.yaml", list[str]()
    path.write_text("a")
    clock = itertools.count().__next__
    watch = Watch([path], clock=clock)

    def save(*times: float) -> str:
        ages = iter(times)
        monkeypatch.setattr(reload, "newest", lambda: next(ages))
        supervisor: Any = None
        reloader = Refusing(path, supervisor, Verdict((), frozenset()), watch, heard.append)
        path.write_text("b")
        for _ in range(2):
            reloader.poll()
        return "\n".join(heard)

    return save


def test_a_program_that_changed_is_named(said: Any) -> None:
    assert said(1.0, 2.0).endswith(f"not so [E114]\n  {ANOTHER}")


def test_a_program_that_did_not_is_not(said: Any) -> None:
    assert said(1.0, 1.0).endswith("not so [E114]")


def test_the_newest_file_of_the_program_is_found() -> None:
    assert reload.newest() >= Path(reload.__file__).stat().st_mtime
