"""The evaluation of memory: what counts as an answer that is kept, what as a tool result that stands alone, and the
command; on tiny dialogues, and on the published data where they are there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents.memory.extractive import summarise
from agents.memory.model import Interaction, Key, ToolCall
from agents.memory.sentences import weight
from console.evals.answers import Question, holds, is_kept, passages, stands, words
from console.evals.data import DOMAINS, FILES, Conversation, conversations, missing, runs
from console.evals.memory import Kept, broken, is_whole, recall, tools, total
from tests.support.console import pointsman

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
KEY = Key("eval", "a", "c")
SAID = (
    "I have two cats. Seven crushed corners, and the box was wet!",
    "One more thing: I wake up at 6:30 in the morning.",
)


def asked(answers: tuple[str, ...], source: str) -> Question:
    return Question("q", "?", answers, source)


def conversation(texts: list[str], questions: tuple[Question, ...]) -> Conversation:
    said = tuple(Interaction(KEY, f"t{at}", text, "", ordinal=at, at=at) for at, text in enumerate(texts, 1))
    return Conversation("tiny", said, questions)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Cross-functional, I'd say", " cross functional i'd say "),
        ("It\u2019s $1,250.50 (17% off)", " it's 1250.50 17 off "),
        ("at 3 PM, 11:00 P.M. and 06:30 AM", " at 15:00 23:00 and 06:30 "),
        ("12 AM, 12 pm, 6:30 in the morning", " 00:00 12:00 06:30 "),
        ("138/85 mmHg, 1-20, v1.8.", " 138/85 mmhg 1 20 v 1.8 "),
    ],
)
def test_texts_are_compared_as_words(text: str, form: str) -> None:
    assert words(text) == form


def test_words_stand_side_by_side_or_not_at_all() -> None:
    text = words("corner dents after a journey; the sum is 135")
    assert holds(words("Corner dent"), text)
    assert not holds(words("corner journey"), text)
    assert not holds(words("35"), text), "a number is whole"
    assert not holds(words("corn"), text), "a word is whole"
    assert not holds(words("?!"), text), "nothing is in no text"


def test_an_answer_counts_where_its_source_says_it_and_nowhere_else() -> None:
    question = asked(("7", "seven"), "... Seven crushed corners, and the box ...")
    found = passages(question, SAID)
    assert [each.words for each in found] == [" seven crushed corners "]
    assert is_kept(found, words("Then: seven crushed corners."))
    assert not is_kept(found, words("seven cats"))
    assert stands(question, words("seven cats")), "that is what the lenient measure takes for an answer"


def test_an_answer_beside_its_quoted_sentence_counts_where_none_is_in_it() -> None:
    found = passages(asked(("two",), "seven crushed corners and the box was wet"), SAID)
    assert [(each.words, each.quoted) for each in found] == [(" i have two cats ", False)]


def test_an_answer_that_is_only_to_be_reckoned_cannot_be_told() -> None:
    assert passages(asked(("9",), "Seven crushed corners, and the box was wet"), SAID) == []
    assert passages(asked(("two",), "nobody ever said such a thing"), SAID) == []


def test_recall_holds_the_window_against_the_last_ten_and_the_newest_that_fit() -> None:
    texts = ["My budget is $4,711 for the boat."] + [f"So, anyway, what about it, hm, {at}?" * 9 for at in range(30)]
    (row,) = recall(conversation(texts, (asked(("4711",), "My budget is $4,711 for the boat"),)), (1_000,))
    assert row.passages == row.anywhere == Kept(everything=1, window=1, last_10=0, newest=0)
    assert (row.facts_pinned, row.facts_kept) == (1, 1)
    assert max(row.of_window, row.of_newest) <= 1_000 < row.of_everything
    assert broken([total([row])], []) == []
    lost = replace(row, facts_kept=0)
    assert broken([lost], []) == ["At 1000 tokens tiny keeps 0 of 1 pinned facts."]


def test_a_report_names_the_promises_that_are_not_kept() -> None:
    texts = [f"Number {at}." for at in range(3)]
    (row,) = recall(conversation(texts, (asked(("99",), "Number 99 was never said"),)), (1_000,))
    assert broken([total([row])], []) == ["At 1000 tokens the window keeps 0 answers, the last 10 alone 0."]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ('find({"a": 1}) -> {"id": 7}', True),
        ('find {"a": 1} -> {"id": 7}', True),
        ('find {"a"… -> {"i…', True),
        ('find({"a": 2}) -> {"id": 7}', False),
        ('find({"a": 1}) -> {"i', False),
        ('find({"a": 1})', False),
        ('{"id": 7}', False),
    ],
)
def test_a_line_of_a_tool_is_a_call_with_its_result(text: str, whole: bool) -> None:
    assert is_whole(text, ToolCall("c", "find", '{"a": 1}', '{"id": 7}')) is whole


def test_runs_of_tools_are_looked_at_after_each_interaction() -> None:
    calls = tuple(ToolCall(str(at), "find", f'{{"a": {at}}}', "Found it. There are more! " * 40) for at in range(4))
    run = tuple(
        Interaction(KEY, f"t{at}", "Find it.", "Done.", ordinal=at, tool_calls=calls, facts=(f"fact {at}",), at=at)
        for at in range(1, 14)
    )
    found = tools([run], 1_000)
    assert (found.runs, found.windows, found.orphans, found.over_cap) == (1, 13, 0, 0)
    assert found.facts_kept == found.facts_pinned == sum(range(1, 14))
    assert found.calls_left_out > 0 < found.calls_shown
    assert found.greatest == found.compression > 2


def test_a_summary_never_cuts_a_tools_result_from_its_call() -> None:
    call = ToolCall("1", "transfer", "{}", "Transfer done. A person will call! Within 30 minutes.")
    made = summarise([Interaction(KEY, "t1", "", "", ordinal=1, tool_calls=(call,))])
    assert [is_whole(line.text.removeprefix("tool: "), call) for line in made.lines] == [True]


def test_numbers_in_words_and_names_in_quotes_weigh_what_numbers_and_names_do() -> None:
    plain = weight("there were some of them in the box", 1, 3)
    assert weight("there were seven of them in the box", 1, 3) > plain
    assert weight("there was 'Future Focus' written on it", 1, 3) > plain
    assert weight("maybe there would be some of them", 1, 3) < plain
    assert weight("it's what they're after, isn't it", 1, 3) <= plain, "an apostrophe quotes nothing"


def test_the_command_says_which_data_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = pointsman(capsys, "eval", "memory", "--data", str(tmp_path))
    assert (said.code, said.out) == (4, "")
    assert all(name in said.err for name in FILES)
    assert "[E409]" in said.err


def test_the_command_prints_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tiny(tmp_path)
    report = tmp_path / "report.json"
    said = pointsman(capsys, "eval", "memory", "--data", str(tmp_path), "--json", str(report))
    assert (said.code, said.err) == (0, "")
    figures = json.loads(report.read_text("utf-8"))
    assert [row["passages"] for row in figures["bfcl"] if row["domain"] == "all"] == [
        {"everything": 5, "window": 5, "last_10": 0, "newest": newest} for newest in (0, 0, 5, 5)
    ]
    assert [(each["orphans"], each["calls_shown"], each["facts_kept"]) for each in figures["taubench"]] == [
        (0, 1, 1)
    ] * 4
    assert "orphans" in said.out


def test_the_command_says_which_data_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tiny(tmp_path)
    (tmp_path / FILES[0]).write_text('{"id": "nobody has its answer"}\n')
    said = pointsman(capsys, "eval", "memory", "--data", str(tmp_path))
    assert said.code == 5
    assert FILES[0] in said.err
    assert "[E538]" in said.err


def _tiny(folder: Path) -> None:
    """The least that has the form of the published data."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    said = ["My budget is $4,711 for the boat.", *(f"So, anyway, what about it, hm, {at}?" * 9 for at in range(22))]
    turns = [[{"role": "user", "content": text}] for text in said]
    for domain in DOMAINS:
        (folder / f"bfcl/memory_prereq_conversation/memory_{domain}.json").write_text(json.dumps({"question": turns}))
    questions = [
        {"id": domain, "scenario": domain, "question": [[{"role": "user", "content": "How much?"}]]}
        for domain in DOMAINS
    ]
    answers = [
        {"id": domain, "ground_truth": ["4711"], "source": "budget is $4,711 for the boat"} for domain in DOMAINS
    ]
    (folder / FILES[0]).write_text("\n".join(map(json.dumps, questions)))
    (folder / FILES[1]).write_text("\n".join(map(json.dumps, answers)))
    call = {"id": "c1", "function": {"name": "get_user", "arguments": '{"user_id": "mia"}'}}
    messages = [
        {"role": "system", "content": "policy"},
        {"role": "user", "content": "Who am I?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"name": "Mia"}'},
        {"role": "assistant", "content": "You are Mia."},
        {"role": "user", "content": "###STOP###"},
    ]
    (folder / FILES[-1]).write_text(json.dumps([{"traj": messages}]))


@pytest.mark.skipif(bool(missing(DATA)), reason="the published dialogues are not beside the repository: docs/evals.md")
class TestOnPublishedData:
    def test_windows_keep_more_answers_than_what_fits_of_the_newest(self) -> None:
        found = conversations(DATA)
        assert sum(len(each.questions) for each in found) == 155
        rows = [recall(each, (2_000, 4_000)) for each in found]
        for at in range(2):
            kept = total([row[at] for row in rows]).passages
            assert kept.everything == 150
            assert kept.window > 2 * kept.last_10
            assert kept.window > 1.3 * kept.newest
        assert all(each.facts_kept == each.facts_pinned > 20 for row in rows for each in row)

    def test_no_call_of_a_tool_stands_without_its_result(self) -> None:
        found = runs(DATA)
        assert len(found) == 200
        assert sum(len(each.tool_calls) for run in found for each in run) > 1_100
        at_least = tools(found[::4], 1_000)
        assert broken([], [at_least]) == []
        assert at_least.calls_shown > 100 < at_least.calls_left_out
