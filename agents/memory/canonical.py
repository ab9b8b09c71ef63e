"""A state and a window as bytes that are the same wherever they were made, their hashes, and a state out of its bytes.

What the fold depends on is in them, and nothing else: not where a record stands, which its host does not know. A
state's bytes are what a snapshot holds; FORMAT rises when they change. I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from agents.memory.lines import sizes
from agents.memory.model import Fact, Interaction, Key, Source, State, Summary, SummaryLine, ToolCall, Window
from agents.memory.tokens import estimate

FORMAT = 1

_KEY_FIELD, _DECODER = b',"key":', json.JSONDecoder()

T = TypeVar("T")

_INTERACTION = (
    "task_id", "attempt", "stage", "ordinal", "epoch", "asked", "answer", "status", "error", "asked_at", "at",
    "tokens_in", "tokens_out", "cost_microusd", "agent_version",
)  # fmt: skip
_FACT = ("id", "text", "origin", "ordinal", "at", "by")


class UnknownFormat(ValueError):  # noqa: N818  what it is
    """These bytes are no state of this version: fold anew, from the log."""


def state_bytes(state: State) -> bytes:
    return _bytes(
        {
            "format": FORMAT,
            "key": state.key,
            "count": state.count,
            "epoch": state.epoch,
            "recent": [_interaction(each) for each in state.recent],
            "chunks": [_summary(each) for each in state.chunks],
            "models": [_summary(each) for each in state.models],
            "facts": [_fields(each, _FACT) for each in state.facts],
        }
    )


def state_of(data: bytes) -> State:
    """Raises UnknownFormat."""
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            raise UnknownFormat(f"format {found['format']}, not {FORMAT}")
        key = Key(*found["key"])
        return State(
            key,
            found["count"],
            found["epoch"],
            tuple(_interaction_of(key, each) for each in found["recent"]),
            tuple(map(_summary_of, found["chunks"])),
            tuple(map(_summary_of, found["models"])),
            tuple(Fact(**each) for each in found["facts"]),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise UnknownFormat(f"no state: {error}") from error


def key_of(data: bytes) -> Key | None:
    """Whose state these bytes are, without reading all of it; None where they do not say it as `state_bytes` does.

    Quotes within texts are escaped, and nothing else in a state has a field of this name.
    """
    _, _, rest = data.rpartition(_KEY_FIELD)
    try:
        tenant, agent_id, conversation_id = _DECODER.raw_decode(rest.decode("utf-8", "surrogatepass"))[0]
    except (ValueError, TypeError):
        return None
    return Key(tenant, agent_id, conversation_id)


def window_bytes(window: Window) -> bytes:
    """All that an agent is shown, and why."""
    return _bytes(
        {
            "key": window.key,
            "caps": window.caps,
            "count": window.count,
            "instructions": [_fields(each, ("id", "text", "at", "by", "tenant")) for each in window.instructions],
            "facts": [_fields(each, _FACT) for each in window.facts],
            "summary": None if window.summary is None else _summary(window.summary),
            "interactions": [_interaction(each) for each in window.interactions],
            "lines": window.lines,
            "omitted": window.omitted,
        }
    )


def digest(data: bytes) -> str:
    """32 hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()


def state_hash(state: State) -> str:
    return digest(state_bytes(state))


def window_hash(window: Window) -> str:
    return digest(window_bytes(window))


def summary_hash(summary: Summary) -> str:
    return digest(_bytes(_summary(summary)))


def _bytes(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _fields(value: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _interaction(each: Interaction) -> dict[str, Any]:
    found = _fields(each, _INTERACTION)
    if each.tool_calls:
        found["tool_calls"] = each.tool_calls
    if each.facts:
        found["facts"] = each.facts
    if each.source is not None:
        found["source"] = each.source
    return found


def _interaction_of(key: Key, found: Mapping[str, Any]) -> Interaction:
    fields = dict(found)
    fields["tool_calls"] = tuple(ToolCall(*each) for each in fields.get("tool_calls", ()))
    fields["facts"] = tuple(fields.get("facts", ()))
    fields["source"] = _optional(Source, fields.get("source"))
    each = Interaction(key, **fields)
    return Interaction(key, **fields, sizes=sizes(each, estimate))


def _optional(kind: Callable[..., T], fields: Sequence[Any] | None) -> T | None:
    return None if fields is None else kind(*fields)


def _summary(summary: Summary) -> dict[str, Any]:
    found = {**_fields(summary, ("kind", "version", "first", "last", "members")), "lines": summary.lines}
    return found if summary.kind == "extractive" else found | _fields(summary, ("epoch", "since"))


def _summary_of(found: Mapping[str, Any]) -> Summary:
    return Summary(
        found["kind"],
        found["version"],
        found["first"],
        found["last"],
        tuple((ordinal, id_) for ordinal, id_ in found["members"]),
        tuple(_summary_line(each) for each in found["lines"]),
        found.get("epoch", 0),
        found.get("since", 0),
    )


def _summary_line(found: Sequence[Any]) -> SummaryLine:
    text, origins, ordinal, weight, tokens, source = found
    return SummaryLine(text, tuple(origins), ordinal, weight, tokens, _optional(Source, source))
