"""Words of people on what agents know: what says nothing is refused before anybody hears of it."""

from __future__ import annotations

import pytest

from console.cli.failures import ExitCode
from tests.support.console import pointsman


@pytest.mark.parametrize("nothing", ["", " ", "\n"])
@pytest.mark.parametrize(
    "words",
    [
        ("instruct", "planner"),
        ("facts", "pin", "planner", "c1"),
        ("context", "revoke", "planner", "c1", "t1", "--why"),
    ],
    ids=["instruct", "pin", "revoke"],
)
def test_what_says_nothing_is_no_word(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], nothing: str) -> None:
    said = pointsman(capsys, *words, nothing)
    assert said.code == ExitCode.USAGE
    assert "it says nothing" in said.err
