"""`pointsman context`, `facts`, `instruct`: what they show is what a host that serves shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from tests.support.agents_bench import Bench, make_topology
from tests.support.console import Said, pointsman
from tests.support.contract import breaches, promises

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

MIND = {"run": "tests.support.agents_sample:remembering", "timeout_ms": 20_000}


@pytest.fixture
def bench(broker: str, prefix: str) -> Bench:
    return Bench(broker, make_topology(prefix, {"mind": MIND}))


@pytest.fixture
def say(
    capsys: pytest.CaptureFixture[str], bench: Bench, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    path = tmp_path / "topology.yaml"
    path.write_text(json.dumps(bench.topology.model_dump(mode="json", exclude_defaults=True)), "utf-8")
    monkeypatch.setenv("POINTSMAN_BROKER", broker)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
    return lambda *arguments: pointsman(capsys, *arguments, "-o", "json")


def test_what_is_shown_is_what_the_agents_next_call_gets(bench: Bench, say: Callable[..., Said]) -> None:
    with bench:
        bench.host()
        for number in range(12):
            bench.dispatch("mind", {"task_id": f"t{number}", "conversation_id": "c", "text": f"matter {number}"})
        bench.events("mind", 12)
        assert say("context", "show", "mind", "c", "--tenant", "other").code == ExitCode.NOT_FOUND
        assert say("context", "show", "nobody", "c").code == ExitCode.NOT_FOUND
        instructed = say("instruct", "mind", "State figures in euros.")
        pinned = say("facts", "pin", "mind", "c", "The year begins in April.")
        listed = json.loads(say("facts", "list", "mind", "c").out)
        assert [each["text"] for each in listed if each["pinned_by"]] == ["The year begins in April."]
        assert {each["task_id"] for each in listed if not each["pinned_by"]} == {"t0", "t3", "t6", "t9", "t10"}
        unpinned = say("facts", "unpin", "mind", "c", "matter 3 is settled.")
        assert say("facts", "unpin", "mind", "c", "matter 3 is settled.").code == ExitCode.NOT_FOUND
        shown = say("context", "show", "mind", "c")
        whole = json.loads(shown.out)
        for said, promised in (
            (instructed, promises()["pointsman instruct"]),
            (pinned, promises()["pointsman facts pin"]),
            (unpinned, promises()["pointsman facts unpin"]),
            (shown, promises()["pointsman context show"]),
            (say("facts", "list", "mind", "c"), promises()["pointsman facts list"]),
            (say("context", "instructions"), promises()["pointsman context instructions"]),
        ):
            assert said.code == ExitCode.OK
            found = json.loads(said.out)
            assert breaches(found if isinstance(found, list) else [found], promised) == []
        assert (whole["interactions"], whole["tokens"] <= whole["tokens_soft"]) == (12, True)
        assert "matter 3 is settled." not in whole["text"]
        assert {line["section"] for line in whole["lines"]} == {"instruction", "fact", "summary", "interaction"}
        assert all(line["inbox"] for line in whole["lines"] if line["section"] in {"summary", "interaction"})
        bench.dispatch("mind", {"task_id": "t12", "conversation_id": "c", "text": "matter 12"})
        (last,) = [each for each in bench.events("mind", 13) if each["task"]["task_id"] == "t12"]
        assert json.loads(last["payload"])["hash"] == whole["hash"]
        revoked = say("context", "revoke", "mind", "c", "t11", "t10", "--why", "taken from a forged invoice", "--yes")
        assert breaches(json.loads(revoked.out), promises()["pointsman context revoke"]) == []
        assert say("context", "revoke", "mind", "c", "t99", "--why", "no such task").code == ExitCode.NOT_FOUND
        shown_now = json.loads(say("context", "show", "mind", "c").out)
        assert [n for n in range(9, 13) if f"matter {n}" in shown_now["text"]] == [9, 12]
        counts = ("interactions", "verbatim", "summarised", "revoked")
        assert [[shown[name] for name in counts] for shown in (whole, shown_now)] == [[12, 10, 2, 0], [13, 8, 3, 2]]
        bench.dispatch("mind", {"task_id": "t13", "conversation_id": "c", "text": "anything else?"})
        (last,) = [each for each in bench.events("mind", 14) if each["task"]["task_id"] == "t13"]
        assert json.loads(last["payload"])["hash"] == shown_now["hash"], "a host that serves has heard of it"
        withdrawn = say("context", "withdraw", json.loads(instructed.out)["id"][:8])
        assert breaches([json.loads(withdrawn.out)], promises()["pointsman context withdraw"]) == []
        assert json.loads(say("context", "instructions").out) == []
