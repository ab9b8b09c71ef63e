"""Dialogues that others published, as the memory of one agent: BFCL's memory conversations, tau-bench's runs.

I/O: reads files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from agents.memory.model import Interaction, Key, ToolCall
from console.evals.answers import Question
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

DOMAINS = ("customer", "student", "healthcare", "finance", "notetaker")
QUESTIONS = "bfcl/BFCL_v4_memory.json"
ANSWERS = "bfcl/possible_answer/BFCL_v4_memory.json"
CONVERSATION = "bfcl/memory_prereq_conversation/memory_{}.json"
RUNS = "taubench/gpt-4o-airline.json"
FILES = (QUESTIONS, ANSWERS, *map(CONVERSATION.format, DOMAINS), RUNS)

PINNED_ARGUMENT = "user_id"

T = TypeVar("T")


class Conversation(NamedTuple):
    """Oldest first; `texts` are what the person said in each, `questions` what is asked when all is said."""

    domain: str
    interactions: tuple[Interaction, ...]
    questions: tuple[Question, ...]

    @property
    def texts(self) -> list[str]:
        return [each.asked for each in self.interactions]


def missing(folder: Path) -> list[str]:
    """Files that are not there."""
    return [name for name in FILES if not (folder / name).is_file()]


def conversations(folder: Path) -> list[Conversation]:
    """BFCL's, one for each domain: its sessions in their order are one conversation, each message of the person an
    interaction. The data hold no replies, so answers are empty. Raises ConfigurationError, OSError."""
    answers = {each["id"]: each for each in _read(folder / ANSWERS, _lines)}
    asked = _read(folder / QUESTIONS, lambda text: [_question(each, answers) for each in _lines(text)])
    return [
        Conversation(
            domain,
            _read(folder / CONVERSATION.format(domain), lambda text, of=domain: _said(of, _lines(text))),  # type: ignore[misc]
            tuple(question for of, question in asked if of == domain),
        )
        for domain in DOMAINS
    ]


def runs(folder: Path) -> list[tuple[Interaction, ...]]:
    """Tau-bench's: a message of the person begins an interaction, calls with their results and replies are what the
    agent did. The last message of a person, which nobody answered, is none. Raises ConfigurationError, OSError."""
    return _read(
        folder / RUNS,
        lambda text: [run for at, each in enumerate(json.loads(text)) if (run := tuple(_run(at, each["traj"])))],
    )


def _read(path: Path, parse: Callable[[str], T]) -> T:
    try:
        return parse(path.read_text("utf-8"))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        text = f"{path} is not in the form that this version reads ({type(error).__name__}: {error}); docs/evals.md."
        raise ConfigurationError(text, code=ErrorCode.EVAL_DATA) from error


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _question(found: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]]) -> tuple[str, Question]:
    answer = answers[found["id"]]
    text = found["question"][0][0]["content"]
    return found["scenario"], Question(found["id"], text, tuple(answer["ground_truth"]), answer["source"])


def _said(domain: str, sessions: Sequence[Mapping[str, Any]]) -> tuple[Interaction, ...]:
    key = Key("eval", "bfcl", domain)
    texts = ["\n".join(said["content"] for said in turn) for each in sessions for turn in each["question"]]
    return tuple(Interaction(key, f"t{at}", text, "", ordinal=at, at=at) for at, text in enumerate(texts, 1))


def _run(number: int, messages: Sequence[Mapping[str, Any]]) -> Iterator[Interaction]:
    key = Key("eval", "taubench", str(number))
    results = {each["tool_call_id"]: each["content"] for each in messages if each["role"] == "tool"}
    ordinal = 0
    begins = [at for at, each in enumerate(messages) if each["role"] == "user"]
    for begin, end in zip(begins, [*begins[1:], len(messages)], strict=True):
        did = [each for each in messages[begin + 1 : end] if each["role"] == "assistant"]
        if not did:
            continue
        ordinal += 1
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"], results.get(call["id"]))
            for each in did
            for call in each.get("tool_calls") or ()
        )
        said = "\n".join(each["content"] for each in did if each["content"])
        yield Interaction(
            key,
            f"t{ordinal}",
            messages[begin]["content"],
            said or None,
            ordinal=ordinal,
            tool_calls=calls,
            facts=tuple(dict.fromkeys(fact for call in calls for fact in _facts(call))),
            at=ordinal,
        )


def _facts(call: ToolCall) -> Iterator[str]:
    """Who the person is, as the agent's own calls say."""
    arguments = json.loads(call.arguments)
    if PINNED_ARGUMENT in arguments:
        yield f"{PINNED_ARGUMENT} is {arguments[PINNED_ARGUMENT]}"
