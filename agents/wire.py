"""The one JSON form in which agents outside of the host's process are asked and answer: a request, and its response.

docs/agents/protocol.md is its description. Each request is one line of ASCII, so that nothing between here and there
can break it in two or read it in another encoding. I/O: none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from agents.contract import AgentWrongInput, Answer, Context, Task
from agents.memory.model import ToolCall
from agents.outcome import INT64_MAX, Outcome, UnusableAnswer, failed, from_answer, refused
from schemas.nearest import suggest
from schemas.reasons import ErrorClass

PROTOCOL = 1
IDEMPOTENCY_KEY = "Idempotency-Key"
TRACEPARENT = "traceparent"
MEDIA_TYPE = "application/json"

Heard = Callable[[Mapping[str, Any]], None]

NAME_CHARS_MAX = 40  # of a field's name in an error
NAMES_MAX = 6


def encode_request(
    agent_id: str, options: Mapping[str, object], task: Task, context: Context, *, request_id: str, timeout_ms: int
) -> bytes:
    """One request, without an end of line. `timeout_ms` is what the attempt has left.

    Raises AgentWrongInput for a payload that JSON cannot carry, such as NaN, which Python's reader lets pass.
    """
    request = {
        "protocol": PROTOCOL,
        "id": request_id,
        "agent": agent_id,
        "idempotency_key": task.idempotency_key,
        "timeout_ms": timeout_ms,
        "task": {
            "task_id": task.task_id,
            "tenant": task.tenant,
            "conversation_id": task.conversation_id,
            "text": task.text,
            "payload": task.payload,
            "intent": task.intent,
            "language": task.language,
            "deadline_ms": task.deadline_ms,
            "stage": task.stage,
            "labels": dict(task.labels),
            "traceparent": task.traceparent,
            "data_class": task.data_class,
        },
        "context": context_fields(context),
        "options": dict(options),
    }
    try:
        return json.dumps(request, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise AgentWrongInput("the payload holds NaN or an infinity, or is nested too deeply") from error


def context_fields(context: Context) -> dict[str, Any]:
    """What an agent knows of the conversation so far, as JSON."""
    return {
        "interactions": [
            {"task_id": each.task_id, "asked": each.asked, "answered": each.answered, "status": each.status}
            | {"at_us": each.at, "from_agent": each.from_agent, "tool_calls": [*map(_call, each.tool_calls)]}
            for each in context.interactions
        ],
        "summary": context.summary,
        "facts": list(context.facts),
        "instructions": list(context.instructions),
        "text": context.text,
        "messages": list(context.messages),
        "tokens": context.tokens,
        "hash": context.hash,
    }


def _call(call: ToolCall) -> dict[str, str | None]:
    return {"id": call.call_id, "name": call.name, "arguments": call.arguments, "result": call.result}


def read_response(body: bytes) -> dict[str, Any]:
    """The response as an object. Raises UnusableAnswer for what is none, or of another protocol than this."""
    try:
        response = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise UnusableAnswer(f"the response is not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        # What it says is not repeated: it may be anything, a task's text among it.
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise UnusableAnswer(f"the response is no JSON{where}" if body.strip() else "the response is empty") from error
    if not isinstance(response, dict):
        raise UnusableAnswer(f"the response is {_named(response)}, not an object")
    protocol = response.get("protocol", PROTOCOL)
    if protocol != PROTOCOL or isinstance(protocol, bool):
        raise UnusableAnswer(f"the response is of another protocol than {PROTOCOL}, which this host speaks")
    return response


def outcome_of(response: Mapping[str, Any]) -> Outcome:
    """What a response says came of the attempt. Raises UnusableAnswer, which says what is wrong with it.

    A field that is null counts as left out. Fields that are not known are passed over: a later version may add some.
    """
    said = [name for name in ENDS if response.get(name) is not None]
    if len(said) != 1:
        raise UnusableAnswer(_ends_fault(response, said))
    fields = {name: _field(response, name) for name in FIELDS}
    if fields["error_class"] is not None and said[0] != "failed":
        raise UnusableAnswer(f"error_class belongs to failed, not to {said[0]}")
    spent: dict[str, Any] = {name: _spent(name, fields[name]) for name in SPENT}
    if said[0] == "answer":
        return from_answer(_answer(response, fields, spent))
    if said[0] == "refused":
        outcome = refused(fields["refused"])
    else:
        outcome = failed(fields["error_class"] or ErrorClass.INTERNAL, fields["failed"])
    return outcome._replace(**spent)


def unheard(_response: Mapping[str, Any]) -> None:
    """Nobody wants to know what an agent said, beyond its outcome."""


def unknown_fields(response: Mapping[str, Any]) -> list[str]:
    """Fields that `outcome_of` passes over: most likely slips of the pen, for whoever tries an agent out."""
    return [name for name in response if name not in FIELDS and name not in FRAME]


def _answer(response: Mapping[str, Any], fields: Mapping[str, Any], spent: Mapping[str, Any]) -> Answer:
    return Answer(
        fields["answer"],
        fields["confidence"],
        fields["vote_key"],
        response.get("payload"),
        tuple(fields["citations"] or ()),
        tuple(fields["facts"] or ()),
        **spent,
        tool_calls=tuple(
            ToolCall(each["id"], each["name"], each.get("arguments") or "", each.get("result"))
            for each in fields["tool_calls"] or ()
        ),
    )


def _spent(name: str, value: int | None) -> int:
    if value is None:
        return 0
    if not 0 <= value <= INT64_MAX:
        raise UnusableAnswer(f"{name} is below 0, or has more than 63 bits")
    return value


def _ends_fault(response: Mapping[str, Any], said: list[str]) -> str:
    if said:
        return f"the response has {' and '.join(said)}; it must have one of them"
    nulls = [name for name in ENDS if name in response]
    if nulls:
        return f"{nulls[0]} is null; the response must have text in one of {', '.join(ENDS)}"
    strange = unknown_fields(response)
    hints = [suggest(name, ENDS).removeprefix("; ") for name in strange[:NAMES_MAX]]
    hint = next((f"; {hint}" for hint in hints if hint.startswith("did you mean")), "")
    names = ", ".join(name[:NAME_CHARS_MAX] for name in [*response][:NAMES_MAX]) or "none"
    return f"the response has none of {', '.join(ENDS)}; its fields: {names}{hint}"


# Types, with the words for them.


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    # JSON has one kind of number: 3.0 is as whole as 3.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)


def _is_calls(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and _is_call(each) for each in value)


def _is_call(call: Mapping[str, object]) -> bool:
    texts = (call.get("id"), call.get("name"), call.get("arguments") or "", call.get("result") or "")
    return all(isinstance(each, str) for each in texts)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_TYPES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "text": (_is_text, "text"),
    "number": (_is_number, "a number"),
    "count": (_is_count, "a whole number"),
    "texts": (_is_texts, "a list of text"),
    "calls": (_is_calls, "a list of calls, each with id and name"),
    "any": (lambda _: True, "anything"),
}
ENDS = ("answer", "refused", "failed")
SPENT = ("tokens_in", "tokens_out", "cost_microusd")
FIELDS: Mapping[str, str] = {
    **dict.fromkeys(ENDS, "text"),
    "error_class": "text",
    "confidence": "number",
    "vote_key": "text",
    "payload": "any",
    "citations": "texts",
    "facts": "texts",
    "tool_calls": "calls",
    **dict.fromkeys(SPENT, "count"),
}
FRAME = ("protocol", "id")


def _field(response: Mapping[str, Any], name: str) -> Any:
    value = response.get(name)
    fits, wanted = _TYPES[FIELDS[name]]
    if value is None:
        return None
    if not fits(value):
        raise UnusableAnswer(f"{name} is {_named(value)}, not {wanted}")
    return int(value) if FIELDS[name] == "count" else value


def _named(value: object) -> str:
    """What a value is, in JSON's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return "a number"
        case float():
            return "a number that is not whole" if not value.is_integer() else "a number"
        case str():
            return "text"
        case list():
            return "a list that holds other things" if any(not isinstance(each, str) for each in value) else "a list"
        case _:
            return "an object"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
