"""The JSON form of requests and responses, and what HTTP says beside it, as docs/agents/protocol.md describes them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.contract import EMPTY_CONTEXT, AgentWrongInput, Context, Interaction, Known, Task
from agents.outcome import INT64_MAX, Outcome, UnusableAnswer, from_error
from agents.runners.statuses import failure
from agents.wire import FIELDS, FRAME, encode_request, outcome_of, read_response, unknown_fields
from tests.unit.test_docs import FENCE, page

PAGE = page("docs/agents/protocol.md")
EXAMPLES = [json.loads(body) for language, body in FENCE.findall(PAGE) if language == "json"]

TASK = Task(
    "6f1c2a",
    "When is Lisbon open?",
    "acme",
    "c-17",
    {"city": "Lisbon"},
    "opening_hours",
    "en",
    1767225600000,
    labels={"channel": "chat"},
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    data_class="PERSONAL",
)
FACT = "The customer prefers Portugal."
PROMPT = f"Facts to remember:\n- {FACT}"
CONTEXT = Context(
    known=Known(
        (Interaction("6f1c29", "Is there an office in Portugal?", "Yes, in Lisbon.", "COMPLETED", 1767225570000000),),
        facts=(FACT,),
        text=PROMPT,
        messages=({"role": "system", "content": PROMPT},),
        tokens=62,
        hash="9f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5",
    )
)


def request(task: Task, context: Context = EMPTY_CONTEXT) -> bytes:
    return encode_request(
        "opening_hours", {"short": True}, task, context, request_id="opening_hours-1", timeout_ms=4970
    )


# Requests.


def test_the_page_shows_the_request_as_it_is() -> None:
    assert json.loads(request(TASK, CONTEXT)) == EXAMPLES[0]
    assert [*json.loads(request(TASK, CONTEXT))] == [*EXAMPLES[0]]


def test_a_request_is_one_line_of_ascii_whatever_the_task_holds() -> None:
    line = request(Task("t", "a\nb\r\u2028\u2029\x85 \N{SNOWMAN} \N{PILE OF POO}", payload={"\n": ["\0"]}))
    assert line.isascii()
    assert len(line.decode().splitlines()) == 1
    assert json.loads(line)["task"]["text"] == "a\nb\r\u2028\u2029\x85 \N{SNOWMAN} \N{PILE OF POO}"


def test_a_task_that_states_nothing_has_all_fields_all_the_same() -> None:
    assert json.loads(request(Task("t", "")))["task"].keys() == EXAMPLES[0]["task"].keys()


@pytest.mark.parametrize("payload", [float("nan"), [float("inf")], {"a": {"b": float("-inf")}}])
def test_what_json_cannot_carry_is_the_requests_own_fault(payload: object) -> None:
    with pytest.raises(AgentWrongInput, match="NaN or an infinity"):
        request(Task("t", "x", payload=payload))


# Responses.


def said(**fields: Any) -> Outcome:
    return outcome_of(read_response(json.dumps(fields).encode()))


def test_the_responses_that_the_page_shows_are_what_it_says() -> None:
    _, answer, refused, failed = EXAMPLES
    assert outcome_of(answer) == Outcome(
        "COMPLETED",
        "Our office in Lisbon is open from 9 to 18.",
        "9 to 18",
        '{"opens":"09:00","closes":"18:00"}',
        0.95,
        ("handbook, page 12",),
        ("asked about Lisbon",),
        tokens_in=210,
        tokens_out=18,
        cost_microusd=45,
        tool_calls='[{"id":"1","name":"hours","arguments":"{\\"city\\": \\"Lisbon\\"}","result":"9 to 18"}]',
    )
    assert answer.keys() == (FIELDS.keys() | set(FRAME)) - {"refused", "failed", "error_class"}
    assert outcome_of(refused) == Outcome("REFUSED", error="we have no office there")
    assert outcome_of(failed) == Outcome(
        "FAILED", error="the calendar does not answer", error_class="UNREACHABLE", cost_microusd=12
    )
    for name in FIELDS:
        assert f"`{name}`" in PAGE


def test_null_is_as_good_as_nothing_and_what_is_not_known_is_passed_over() -> None:
    assert said(answer="x", refused=None, confidence=None, citations=None, payload=None) == Outcome("COMPLETED", "x")
    assert said(failed="x").error_class == "INTERNAL"
    later = {"answer": "x", "protocol": 1, "id": "i", "confidense": 1, "mood": {}}
    assert outcome_of(later) == Outcome("COMPLETED", "x")
    assert unknown_fields(later) == ["confidense", "mood"]


def test_a_whole_number_may_be_written_as_any_language_writes_it() -> None:
    outcome = outcome_of(read_response(b'{"answer":"","tokens_in":3.0,"tokens_out":3e2,"cost_microusd":0}'))
    assert (outcome.tokens_in, outcome.tokens_out, outcome.cost_microusd) == (3, 300, 0)
    assert type(outcome.tokens_in) is int


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the response is empty"),
        (b" \n", "the response is empty"),
        (b"hello", "the response is no JSON at character 0"),
        (b'{"answer": "secret', "the response is no JSON at character 11"),
        (b'{"answer": "x"}\n{"answer": "y"}', "the response is no JSON at character 16"),
        (b'{"answer": "x", "confidence": NaN}', "the response is no JSON"),
        (b'{"answer": "x", "tokens_in": 1' + b"0" * 5000 + b"}", "the response is no JSON"),
        (b"[" * 100_000, "the response is no JSON"),
        (b'{"answer": "\xff"}', "the response is not UTF-8 at byte 12"),
        (b"null", "the response is null, not an object"),
        (b"[]", "the response is a list, not an object"),
        (b'"x"', "the response is text, not an object"),
        (b'{"protocol": 2, "answer": "x"}', "the response is of another protocol than 1, which this host speaks"),
        (b'{"protocol": true, "answer": "x"}', "the response is of another protocol than 1, which this host speaks"),
        (b"{}", "the response has none of answer, refused, failed; its fields: none"),
        (
            b'{"id": "1", "anwser": "x"}',
            "the response has none of answer, refused, failed; its fields: id, anwser; did you mean answer?",
        ),
        (b'{"answer": null}', "answer is null; the response must have text in one of answer, refused, failed"),
        (b'{"answer": "x", "failed": "y"}', "the response has answer and failed; it must have one of them"),
        (b'{"answer": 5}', "answer is a number, not text"),
        (b'{"answer": {"text": "x"}}', "answer is an object, not text"),
        (b'{"refused": true}', "refused is true, not text"),
        (b'{"failed": "x", "error_class": 5}', "error_class is a number, not text"),
        (b'{"answer": "x", "error_class": "QUOTA"}', "error_class belongs to failed, not to answer"),
        (b'{"answer": "x", "confidence": "0.9"}', "confidence is text, not a number"),
        (b'{"answer": "x", "confidence": true}', "confidence is true, not a number"),
        (b'{"answer": "x", "citations": "a"}', "citations is text, not a list of text"),
        (b'{"answer": "x", "facts": ["a", 1]}', "facts is a list that holds other things, not a list of text"),
        (b'{"answer": "x", "tokens_in": 1.5}', "tokens_in is a number that is not whole, not a whole number"),
        (b'{"answer": "x", "tokens_in": -1}', "tokens_in is below 0, or has more than 63 bits"),
        (b'{"failed": "x", "cost_microusd": -1}', "cost_microusd is below 0, or has more than 63 bits"),
        (b'{"refused": "x", "tokens_out": 9223372036854775808}', "tokens_out is below 0, or has more than 63 bits"),
        (b'{"answer": "\\ud800"}', "text holds half a surrogate pair, which is no text"),
        (b'{"answer": "x", "payload": {"a": 1e400}}', "payload is nothing that JSON can hold"),
    ],
)
def test_what_is_no_answer_is_told_plainly_and_never_repeated(body: bytes, why: str) -> None:
    with pytest.raises(UnusableAnswer) as raised:
        outcome_of(read_response(body))
    assert str(raised.value) == why
    assert "secret" not in why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*FIELDS, *FRAME, "more"]), JSON, max_size=6))
def test_any_object_is_an_outcome_or_an_unusable_answer(response: dict[str, Any]) -> None:
    try:
        outcome = outcome_of(response)
    except UnusableAnswer:
        return
    assert outcome.kind in {"COMPLETED", "FAILED", "REFUSED"}
    assert sum(response.get(name) is not None for name in ("answer", "refused", "failed")) == 1
    assert all(0 <= count <= INT64_MAX for count in (outcome.tokens_in, outcome.tokens_out, outcome.cost_microusd))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_response_or_an_unusable_answer(body: bytes) -> None:
    try:
        assert isinstance(read_response(body), dict)
    except UnusableAnswer:
        return


# Statuses.


def became(status: int, *, writes: bool, retry_after: bool = False) -> str:
    outcome = from_error(failure(status, retry_after=retry_after), may_have_acted=writes)
    assert outcome.error is not None
    assert str(status) in outcome.error
    return outcome.error_class or outcome.kind


def test_the_pages_table_of_statuses_is_the_code() -> None:
    table = PAGE[PAGE.index("| status | becomes |") : PAGE.index("| what happens | becomes |")]
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| `(\w+)` \|$", table, re.MULTILINE)
    named: set[int] = set()
    for statuses, reads, writes in rows:
        for status in map(int, re.findall(r"\b\d{3}\b", statuses)):
            alone = "with" not in statuses or status != 503
            found = [became(status, writes=acted, retry_after=not alone) for acted in (False, True)]
            assert found == [reads, writes], status
            named.add(status)
    rest = {row[0][:1]: row[1:] for row in rows if "xx" in row[0] and not row[0].startswith("2")}
    for status in set(range(300, 600)) - named:
        assert (became(status, writes=False), became(status, writes=True)) == rest[str(status)[0]], status
    assert named >= {400, 401, 404, 409, 429, 503}
