"""How far a history is behind, as its store knows. I/O: none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lag:
    """`seconds`: the age of the earliest record that is read and not stored yet; 0 where there is none.

    One thread tells it, any may look.
    """

    seconds: float = 0.0
