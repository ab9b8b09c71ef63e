"""A slip's datum is what the codec makes of it, whatever was encoded before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.records import record, table
from schemas.registry import FileRegistry
from streams.core.task import Slip
from streams.processors import slips
from streams.processors.slips import SlipEncoder

CODEC = Codec(FileRegistry.load(), 1_000_000)
STATED: dict[str, st.SearchStrategy[Any]] = {
    "confidence": st.sampled_from([0.0, 0.7, 1.0]),
    "panel": st.sampled_from([(), ("a", "b")]),
    "chain": st.sampled_from([(), ("c",)]),
    **{name: st.sampled_from(symbols) for name, symbols in record("Slip").enums.items()},
}
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.sampled_from(["", "a", "é"]),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
}
SPECS = {spec["name"]: spec["type"] for spec in record("Slip").definition["fields"]}
FIELDS = [STATED[name] if name in STATED else KINDS[SPECS[name]] for name in Slip._fields]


@given(turns=st.lists(st.lists(st.builds(Slip, *FIELDS), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_slip_is_encoded_as_the_codec_does(turns: list[list[Slip]]) -> None:
    encoder = SlipEncoder(CODEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slips, "HEADS_MAX", 3)
        for turn in turns:
            columns = dict(zip(Slip._fields, map(list, zip(*turn, strict=True)), strict=True))
            assert encoder.encode(turn) == CODEC.encode_datums(table("Slip", columns, len(turn)), "Slip")
