"""What the example agents compute, where they agree, and where they say that they do not know."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.builtin import customers, documents, finance, operations, rules
from agents.builtin.faults import BatchExample, PythonExample
from agents.contract import (
    EMPTY_CONTEXT,
    AgentFailed,
    AgentOverloaded,
    AgentRefused,
    AgentWrongInput,
    Answer,
    Context,
    Interaction,
    Task,
)

FINANCE = (finance.revenue, finance.sql, finance.spreadsheet)
DATA = Path(finance.__file__).parent / "data"


def ask(agent: PythonExample, text: str, context: Context = EMPTY_CONTEXT, **options: Any) -> Answer:
    return asyncio.run(agent(Task("task 1", text), context, **options))


def rows(agent: BatchExample, *texts: str, **options: Any) -> list[dict[str, Any]]:
    given = pa.RecordBatch.from_pydict({"task_id": [f"t{i}" for i in range(len(texts))], "text": list(texts)})
    found: list[dict[str, Any]] = agent(given, **options).to_pylist()
    return found


def summed(column: str, **wanted: str) -> int:
    """Straight from the file."""
    with (DATA / "sales.csv").open(encoding="utf-8") as file:
        return sum(
            int(line[column])
            for line in csv.DictReader(file)
            if all(line[name] == value for name, value in wanted.items())
        )


def test_three_ways_to_the_same_figure_give_one_vote() -> None:
    expected = summed("revenue_usd", year="2025", quarter="Q3", region="EMEA")
    answers = [ask(agent, "find the Q3 revenue for EMEA") for agent in FINANCE]
    assert {answer.vote_key for answer in answers} == {f"revenue EMEA Q3 2025={expected}"}
    assert all(f"{expected:,} USD" in answer.text for answer in answers)
    assert all(answer.confidence is not None and answer.confidence >= 0.7 for answer in answers)
    assert all(answer.citations for answer in answers)


@pytest.mark.parametrize(
    "text",
    [
        "gross margin of Services in 2024",
        "year over year growth in LATAM 2024",
        "profit of AMER and APAC in Q1 and Q2 2023",
        "what did we earn last year?",
    ],
)
def test_finance_agents_agree_on_every_kind_of_figure(text: str) -> None:
    assert len({ask(agent, text).vote_key for agent in FINANCE}) == 1


def test_figures_are_right() -> None:
    revenue = summed("revenue_usd", year="2024", product="Services")
    cost = summed("cost_usd", year="2024", product="Services")
    assert f"{(revenue - cost) / revenue * 100:.1f} %" in ask(finance.revenue, "margin of Services in 2024").text
    growth = summed("revenue_usd", year="2024", region="LATAM") / summed("revenue_usd", year="2023", region="LATAM") - 1
    assert f"{growth * 100:.1f} %" in ask(finance.sql, "growth in LATAM 2024").text
    average = summed("revenue_usd", year="2025", region="AMER") / 4
    assert f"{round(average):,} USD" in ask(finance.spreadsheet, "average revenue a quarter for AMER 2025").text
    orders = summed("orders", year="2024")
    assert f"{orders:,}" in ask(finance.sql, "total orders 2024").text
    by_region = {name: summed("revenue_usd", year="2024", region=name) for name in ("EMEA", "AMER", "APAC", "LATAM")}
    assert max(by_region, key=lambda name: by_region[name]) in ask(finance.sql, "top region by sales in 2024").text


def test_finance_agents_doubt_what_they_do_not_know_and_refuse_what_is_not_theirs() -> None:
    for agent in FINANCE:
        for text in ("revenue for Mars", "revenue in 2019"):
            assert ask(agent, text).confidence == 0.3
        with pytest.raises(AgentWrongInput):
            ask(agent, "figures for Q5")
        with pytest.raises(AgentRefused):
            ask(agent, "who is the account manager of Northwind?")
    assert [ask(agent, "which region had the best sales in 2024?").confidence for agent in FINANCE] == [0.6, 0.95, 0.6]
    assert [ask(agent, "average revenue in 2024").confidence for agent in FINANCE] == [0.6, 0.6, 0.9]
    with pytest.raises(AgentRefused):
        ask(finance.revenue, "orders in 2024")


@pytest.mark.parametrize(
    ("text", "document", "section"),
    [
        ("Which document covers travel expenses?", "travel-policy", "Expenses"),
        ("What does the contract with Northwind say about termination?", "northwind-contract", "Termination"),
        ("the liability clause of the Contoso agreement", "contoso-contract", "Liability"),
        ("how long are invoices kept?", "retention-policy", "Periods"),
        ("search for the fire alarm", "fire-safety", "Alarm"),
    ],
)
def test_documents_are_found_and_cited(text: str, document: str, section: str) -> None:
    answers = [ask(agent, text) for agent in (documents.search, documents.pdf, documents.summary)]
    assert {answer.vote_key for answer in answers} == {document}
    assert answers[0].citations == answers[1].citations == (f"{document}#{section}",)
    assert all(answer.citations for answer in answers)
    passage = next(
        s.text for d in documents.library() if d.name == document for s in d.sections if s.heading == section
    )
    assert passage in answers[1].text
    assert all(sentence.strip() in _text_of(document) for sentence in answers[2].text.split(": ", 1)[1].split(". "))


def _text_of(name: str) -> str:
    return next(
        " ".join(s.text for s in document.sections) for document in documents.library() if document.name == name
    )


def test_documents_that_are_not_there_are_refused_and_weak_finds_are_doubted() -> None:
    with pytest.raises(AgentRefused):
        ask(documents.search, "zebra crossing")
    confidence = ask(documents.search, "hotel cost limit handbook").confidence
    assert confidence is not None
    assert confidence < 0.7
    # Only the title is asked for: no passage answers that.
    assert ask(documents.pdf, "find the parental leave policy").confidence == 0.45


def test_a_card_is_found_by_id_or_name_and_two_of_a_name_are_not_guessed_between() -> None:
    assert ask(customers.crm, "show customer C-1003").vote_key == "C-1003"
    assert "Jonas Weber" in ask(customers.crm, "account manager of Northwind").text
    doubt = ask(customers.crm, "account of Hansen")
    assert doubt.confidence == 0.4
    assert "C-1006" in doubt.text
    assert "C-1007" in doubt.text
    assert ask(customers.crm, "customer Nobody Inc").confidence == 0.2


def test_a_question_without_a_name_is_about_the_customer_of_the_conversation() -> None:
    earlier = Context((Interaction("t", "show customer C-1003", "a card", "COMPLETED", 1),))
    assert ask(customers.crm, "and the account manager?", earlier).vote_key == "C-1003 account_manager=Jonas Weber"
    assert ask(customers.crm, "and the account manager?").confidence == 0.2


def test_a_preference_is_set_under_a_key_that_stays() -> None:
    answers = [ask(customers.profile, "set newsletter to off for C-1001") for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0].payload == {
        "customer": "C-1001",
        "newsletter": "off",
        "key": Task("task 1", "").idempotency_key,
    }
    assert ask(customers.profile, "which language does Wingtip prefer?").vote_key == "C-1010 language=ko"
    with pytest.raises(AgentWrongInput):
        ask(customers.profile, "set language to klingon for C-1001")
    with pytest.raises(AgentRefused):
        ask(customers.crm, "set newsletter to off for C-1001")


def test_customer_agents_agree_on_a_field_though_one_shows_it_redacted() -> None:
    full, redacted = ask(customers.crm, "email of Fabrikam"), ask(customers.privacy, "email of Fabrikam")
    assert full.vote_key == redacted.vote_key
    assert "lucia.moreno" in full.text
    assert "moreno" not in redacted.text
    with pytest.raises(AgentRefused):
        ask(customers.privacy, "right to erasure for C-1004")
    assert "consent" in ask(customers.privacy, "what data do we hold on Lakeside Clinics").text


def test_log_lines_are_counted() -> None:
    lines = (DATA / "services.log").read_text("utf-8").splitlines()
    errors = sum(" ERROR payments " in line for line in lines)
    found = rows(
        operations.logs, "errors in payments", "are there warnings?", "convert 5 km to miles", "restart payments"
    )
    assert found[0]["vote_key"] == f"errors payments={errors}"
    assert found[1]["answer"].startswith(f"{sum(' WARN ' in line for line in lines)} warnings: ")
    assert [row["error_class"] for row in found] == [None, None, "REFUSED", "REFUSED"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("convert 5 km to miles", "5 km = 3.10686 miles"),
        ("convert 100 fahrenheit to celsius", "100 fahrenheit = 37.7778 celsius"),
        ("How many kilometres are 26.2 miles?", "26.2 miles = 42.1648 kilometres"),
        ("convert -40 degrees celsius into f", "-40 celsius = -40 f"),
        ("convert 1,000 g to kg", "1,000 g = 1 kg"),
        ("convert 2 gib to mb", "2 gib = 2147.48 mb"),
    ],
)
def test_units_are_converted(text: str, answer: str) -> None:
    assert rows(operations.units, text)[0]["answer"] == answer


@pytest.mark.parametrize(
    ("text", "error_class"),
    [
        ("convert 5 km to kg", "WRONG_INPUT"),
        ("convert 5 celsius to km", "WRONG_INPUT"),
        ("convert this", "WRONG_INPUT"),
        ("convert 3 furlongs to m", "INTERNAL"),
        (f"convert {'9' * 400} km to m", "WRONG_INPUT"),
        ("convert 1.2.3 km to m", "WRONG_INPUT"),
        ("errors in payments", "REFUSED"),
    ],
)
def test_units_that_cannot_be_converted(text: str, error_class: str) -> None:
    assert rows(operations.units, text)[0]["error_class"] == error_class


def test_a_runbook_leaves_the_same_ticket_for_the_same_task() -> None:
    one, two = ask(operations.runbook, "restart payments"), ask(operations.runbook, "restart payments")
    assert one == two
    assert "CHG-" in one.text
    with pytest.raises(AgentFailed, match="nothing was done"):
        ask(operations.runbook, "restart the espresso machine")
    with pytest.raises(AgentRefused):
        ask(operations.runbook, "convert 5 km to miles")
    with pytest.raises(AgentWrongInput):
        ask(operations.runbook, "restart payments and ledger")


def test_failure_slowness_and_doubt_come_to_order() -> None:
    text = "revenue 2024"

    def outcome(**options: Any) -> str:
        try:
            return str(ask(finance.revenue, text, **options).confidence)
        except AgentRefused:
            return "REFUSED"
        except AgentFailed as error:
            return error.error_class

    assert [outcome(fail_every=3) for _ in range(6)].count("INTERNAL") == 2
    assert outcome(fail_rate=1.0, error_class="OVERLOADED") == "OVERLOADED"
    assert outcome(fail_rate=1.0, error_class="REFUSED") == "REFUSED"
    assert outcome(confidence=0.42) == "0.42"
    assert len({outcome(fail_rate=0.5) for _ in range(5)}) == 1, "a task always fails or never"


def test_the_share_of_tasks_that_fails_is_the_one_ordered() -> None:
    found = rows(operations.units, *["convert 5 km to miles"] * 1000, fail_rate=0.3, error_class="QUOTA")
    failed = [row["error_class"] for row in found if row["error_class"]]
    assert set(failed) == {"QUOTA"}
    assert 250 < len(failed) < 350
    again = rows(operations.units, *["convert 5 km to miles"] * 1000, fail_rate=0.3, error_class="QUOTA")
    assert found == again
    assert rows(operations.units, "convert 5 km to miles", confidence=0.5)[0]["confidence"] == 0.5
    assert issubclass(AgentOverloaded, AgentFailed)


DOCUMENTS = (documents.search, documents.pdf, documents.summary)
CUSTOMERS = (customers.crm, customers.profile, customers.privacy)
# Words that the rules know, next to each other in no sensible order.
SALAD = (
    "revenue margin growth average top worst EMEA APAC Mars Q3 q9 2024 1999 platform orders in for of the document "
    "Northwind contract termination invoices customer C-1001 C-9999 Hansen set newsletter to off language email erase "
    "errors payments convert 5 1.5.2 -3 km miles kg celsius restart roll back ledger how many are"
)


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(SALAD.split()), max_size=8).map(" ".join)))
def test_no_text_makes_an_agent_crash(text: str) -> None:
    for agent in (*FINANCE, *DOCUMENTS, *CUSTOMERS, operations.runbook):
        try:
            answer = ask(agent, text)
        except (AgentFailed, AgentRefused):
            continue
        assert isinstance(answer.text, str)
        assert answer.confidence is not None
        assert 0 <= answer.confidence <= 1
        assert answer.citations
    for batch_agent in (operations.logs, operations.units):
        (row,) = rows(batch_agent, text)
        assert (row["answer"] is None) != (row["error_class"] is None)


@given(
    st.lists(st.from_regex(r"t[0-9]{1,12}|[a-z]{1,4}", fullmatch=True), min_size=1, max_size=5),
    st.fixed_dictionaries(
        {
            "fail": st.sampled_from([0.0, 0.3, 1.0]),
            "disagree": st.sampled_from([0.0, 0.5]),
            "burst": st.integers(1, 20),
            "salt": st.integers(0, 300),
        }
    ),
)
def test_the_rule_says_of_one_task_what_it_says_of_many(ids: list[str], options: dict[str, Any]) -> None:
    text = "What was the revenue of the third quarter, in all regions?"
    for id_ in ids:  # of several, those without a number make the others be told by their checksums
        batch = pa.RecordBatch.from_pydict({"task_id": [id_], "text": [text]})
        (row,) = rules.answer(batch, **options).to_pylist()
        task = Task(id_, text)
        if row.get("error_class") is not None:
            with pytest.raises(AgentFailed) as raised:
                asyncio.run(rules.answer_one(task, EMPTY_CONTEXT, **options))
            assert (raised.value.error_class, str(raised.value)) == (row["error_class"], row["error"])
        else:
            said = asyncio.run(rules.answer_one(task, EMPTY_CONTEXT, **options))
            assert (said.text, said.confidence, list(said.citations)) == tuple(
                row[name] for name in ("answer", "confidence", "citations")
            )
