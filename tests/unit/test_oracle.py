"""The oracle, rule by rule, as transcripts: lines with > are what happens, the indented ones what it must answer."""

from __future__ import annotations

import math
import shlex
from typing import Any

import pytest

from loadtest.oracle import Dispatch, Note, Oracle, Result
from loadtest.oracle_sums import intent_of, log_odds, phrase_occurs, tally, vote_key
from schemas.topology import Topology, parse_topology

TOPOLOGY = """
agents:
  alpha: {run: "a:f", effect: read}
  beta: {run: "a:f", effect: read}
  gamma: {run: "a:f", effect: idempotent}
  delta: {run: "a:f", effect: read}
  sage: {run: "a:f", effect: read, accuracy: 0.95}
  cited: {run: "a:f", effect: read, grounded: true}
  ledger: {run: "a:f", effect: write}
  spare: {run: "a:f", effect: read, timeout_ms: 1000}
routes:
  reports:
    agents: [alpha, beta, gamma]
    phrases: [revenue, {phrase: profit, confidence: 0.6}, {phrase: quarter, confidence: 0.5}]
    fallback: {agent: spare, answer: "Ask Ann."}
    low_value_answer: "See the {intent} page."
  bookings:
    agents: [ledger, alpha, beta]
    phrases: [book, {phrase: account, confidence: 0.6}]
    fallback: {answer: "Not booked."}
  citing:
    agents: [cited, alpha]
    fallback: {agent: beta}
  alone:
    agents: [alpha, ledger]
    fallback: {agent: spare}
  five:
    agents: [alpha, beta, gamma, delta, sage]
    deadline_ms: 60000
    fallback: {agent: spare}
  invited:
    agents: [ledger, alpha, beta, gamma]
    panel: [gamma, beta]
    fallback: {answer: "Nobody."}
  heavy:
    agents: [alpha, beta, sage]
    panel: [sage, alpha, beta]
    fallback: {answer: "Nobody."}
default_route: reports
"""


def topology(extra: str = "") -> Topology:
    return parse_topology(TOPOLOGY + extra, "test")


class Stage:
    """Plays a transcript against an oracle; the clock stands at `now_ms` until the script moves it."""

    def __init__(self, extra: str = "") -> None:
        self.oracle = Oracle(topology(extra), partition=1)
        self.now_ms = 1_000_000
        self.slips: dict[tuple[str, str], Dispatch] = {}
        self.results: dict[str, Result] = {}

    def play(self, script: str) -> None:
        told = [line.strip() for line in script.strip().splitlines() if line.strip()]
        heard = []
        for line in told:
            if line.startswith(">"):
                heard += [line, *self.act(shlex.split(line[1:]))]
        assert heard == told

    def act(self, words: list[str]) -> list[str]:
        verb, *rest = words
        plain = [word for word in rest if "=" not in word]
        stated: dict[str, Any] = dict(word.split("=", 1) for word in rest if "=" in word)
        if verb == "wait":
            self.now_ms += int(plain[0])
            return []
        if verb == "breaker":
            partitions = [int(part) for part in plain[2:]]
            state = {"state": plain[1], "epoch": int(stated.get("epoch", 1)), "probe_partitions": partitions}
            self.oracle.set_breaker(plain[0], state)
            return []
        if verb == "paused":
            self.oracle.set_paused(frozenset(plain))
            return []
        if verb == "submit":
            actions = self.oracle.submit(submission(plain[0], **stated), self.now_ms)
        elif verb == "tick":
            actions = self.oracle.tick(self.now_ms)
        else:
            actions = self.oracle.outcome(self.event(verb, plain, stated), self.now_ms)
        for action in actions:
            if isinstance(action, Dispatch):
                self.slips[action.task_id, action.agent_id] = action
            if isinstance(action, Result):
                self.results[action.task_id] = action
        return [str(action) for action in actions]

    def event(self, verb: str, plain: list[str], stated: dict[str, Any]) -> dict[str, Any]:
        """`says T AGENT ANSWER`, `fails T AGENT CLASS`, `refuses T AGENT`, `starts T AGENT`; fields as key=value."""
        task_id, agent_id, *more = plain
        slip = self.slips.get((task_id, agent_id))
        attempt = int(stated.get("attempt", slip.attempt if slip else 1))
        stage = stated.get("stage", slip.stage if slip else "WORK")
        kind = {"says": "COMPLETED", "fails": "FAILED", "refuses": "REFUSED", "starts": "STARTED"}[verb]
        event = {
            "event_id": stated.get("id", f"{task_id}/{agent_id}/{attempt}/{stage}/{kind}"),
            "kind": kind,
            "slip": {"agent_id": agent_id, "attempt": attempt, "stage": stage},
            "task": {"task_id": task_id, "tenant": "default"},
            "citations": stated["cites"].split(",") if "cites" in stated else [],
            "vote_key": stated.get("key"),
            "payload": stated.get("payload"),
            "cost_microusd": int(stated.get("cost", 0)),
            "tokens_in": int(stated.get("tokens", 0)),
            "tokens_out": 1 if "tokens" in stated else 0,
        }
        if kind == "COMPLETED":
            event["answer"] = more[0] if more else None
            event["confidence"] = None if stated.get("conf") == "none" else float(stated.get("conf", 0.9))
        elif kind == "FAILED":
            event["error_class"] = more[0] if more else None
        return event


def submission(task_id: str, **stated: Any) -> dict[str, Any]:
    known = {
        "conf": ("confidence", float),
        "tier": ("value_tier", str),
        "deadline": ("deadline_ms", int),
        "budget": ("budget_microusd", int),
        "depth": ("depth", int),
        "at": ("submitted_at", int),
        "intent": ("intent", str),
        "text": ("text", str),
        "tenant": ("tenant", str),
    }
    record: dict[str, Any] = {"task_id": task_id, "text": ""}
    for word, value in stated.items():
        name, kind = known[word]
        record[name] = kind(value)
    return record


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --------------------------------------------------------------------------- R1 duplicates


def test_r1_a_task_in_flight_or_finished_is_a_duplicate(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit t intent=bookings
          note t DUPLICATE DUPLICATE
        > says t alpha 42
          result t COMPLETED ANSWERED "42" by alpha
        > wait 60000
        > submit t intent=reports
          note t DUPLICATE DUPLICATE
        > wait 1
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
    """)


def test_r1_another_tenant_may_use_the_same_id(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit t intent=reports tenant=other
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
    """)


def test_r1_only_so_many_finished_tasks_are_remembered() -> None:
    Stage("limits: {finished_tasks_max: 1}").play("""
        > submit t intent=reports tier=LOW
          result t COMPLETED RULE "See the reports page."
        > submit t intent=reports tier=LOW
          note t DUPLICATE DUPLICATE
        > submit u intent=reports tier=LOW
          result u COMPLETED RULE "See the reports page."
        > submit t intent=reports tier=LOW
          result t COMPLETED RULE "See the reports page."
    """)


# --------------------------------------------------------------------------- R2 checks

LONG_MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ("conf=nan", "INVALID_CONFIDENCE"),
        ("conf=1.01", "INVALID_CONFIDENCE"),
        ("conf=-0.01", "INVALID_CONFIDENCE"),
        ("budget=-1", "INVALID_BUDGET"),
        ("deadline=0", "INVALID_DEADLINE"),
        ("deadline=-5", "INVALID_DEADLINE"),
        (f"deadline={1_000_000 + 86_400_000 + 1}", "INVALID_DEADLINE"),
        (f"deadline={LONG_MAX}", "INVALID_DEADLINE"),
        ("depth=-1", "INVALID_DEPTH"),
        ("depth=33", "INVALID_DEPTH"),
        ("at=-1", "INVALID_SUBMITTED_AT"),
        (f"at={(1_000_000 + 86_400_000) * 1000 + 1}", "INVALID_SUBMITTED_AT"),
        ("intent=nothing", "UNKNOWN_INTENT"),
        ("intent=", "UNKNOWN_INTENT"),
        ("intent=nothing conf=2 budget=-1", "INVALID_CONFIDENCE"),
        ("at=-1 depth=-1 deadline=0 budget=-1", "INVALID_BUDGET"),
        ("at=-1 depth=-1 deadline=0", "INVALID_DEADLINE"),
        ("intent=nothing at=-1", "INVALID_SUBMITTED_AT"),
    ],
)
def test_r2_what_cannot_be_is_refused_once(stage: Stage, stated: str, reason: str) -> None:
    stage.play(f"""
        > submit t {stated}
          note t REFUSED {reason}
          result t REJECTED {reason}
        > submit t intent=reports
          note t DUPLICATE DUPLICATE
    """)


def test_r2_an_empty_id_is_refused_once(stage: Stage) -> None:
    stage.play("""
        > submit '' conf=2
          note  REFUSED INVALID_TASK_ID
          result  REJECTED INVALID_TASK_ID
        > submit ''
          note  DUPLICATE DUPLICATE
    """)


def test_r2_bounds_themselves_are_allowed(stage: Stage) -> None:
    stated = f"conf=1 budget=0 deadline={1_000_000 + 86_400_000} depth=32 at={(1_000_000 + 86_400_000) * 1000}"
    stage.play(f"""
        > submit t intent=reports {stated}
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
    """)


# --------------------------------------------------------------------------- R3 deadline


def test_r3_a_deadline_that_has_passed_expires_at_once(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports deadline=1000000
          note t EXPIRED DEADLINE
          result t EXPIRED DEADLINE
        > submit u intent=reports deadline=1000001
          dispatch u alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
    """)
    assert stage.slips["u", "alpha"].timeout_ms == 1


def test_r3_deadline_is_stated_or_the_routes_or_the_default(stage: Stage) -> None:
    for task_id, stated in (("a", "intent=reports"), ("b", "intent=five"), ("c", "intent=five deadline=1000100")):
        stage.act(["submit", task_id, *stated.split()])
    found = [stage.slips[task_id, "alpha"] for task_id in "abc"]
    assert [slip.deadline_ms for slip in found] == [1_030_000, 1_060_000, 1_000_100]
    assert [slip.timeout_ms for slip in found] == [5000, 5000, 100]


# --------------------------------------------------------------------------- R4 intent


@pytest.mark.parametrize(
    ("text", "intent", "confidence"),
    [
        ("Our REVENUE, please", "reports", 0.9),
        ("revenue and Revenue again", "reports", 0.9),
        ("profit this quarter", "reports", 1 - 0.4 * 0.5),
        ("profit of this account", "reports", 0.6 * 0.6 / 1.2),  # a tie: the first route
        ("book the profit", "bookings", 0.9 * 0.9 / (0.9 + 0.6)),
        ("bookish revenues", "reports", 0.0),  # whole words only: nothing matches, the default route
        ("", "reports", 0.0),
    ],
)
def test_r4_phrases(text: str, intent: str, confidence: float) -> None:
    found, sure = intent_of(topology(), text)
    assert found == intent
    assert sure == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("phrase", "text", "occurs"),
    [
        ("port", "a report", False),
        ("port", "ports", False),
        ("port", "PORT!", True),
        ("port", "report, port", True),
        ("port", "port_a", False),
        ("port", "port9", False),
        ("unit price", "the unit price.", True),
        ("unit price", "the unit  price", False),
        ("café", "cafés", False),
        ("café", "CAFÉ", False),  # only A to Z are compared without case
        ("売上", "今月の売上は", True),
        ("port", "新port机", True),
        ("c++", "c++ or rust", True),
        ("c++", "abc++", False),
    ],
)
def test_r4_whole_words(phrase: str, text: str, occurs: bool) -> None:
    assert phrase_occurs(phrase, text) is occurs


@pytest.mark.parametrize(
    ("stated", "intent", "confidence"),
    [
        ("intent=five", "five", 1.0),
        ("intent=five conf=0.85", "five", 0.85),
        ("text=revenue conf=0.95", "reports", 0.95),
        ("text=revenue", "reports", 0.9),
        ("text=nothing conf=0.95", "reports", 0.95),
    ],
)
def test_r4_stated_goes_before_the_rules(stage: Stage, stated: str, intent: str, confidence: float) -> None:
    stage.act(["submit", "t", *stated.split()])
    slip = stage.slips["t", "alpha"]
    assert slip.intent == intent
    assert slip.confidence == pytest.approx(confidence)


# --------------------------------------------------------------------------- R5 tiers


def test_r5_low_value_is_answered_by_rule_where_the_route_has_one() -> None:
    stage = Stage("defaults: {value_tier: LOW}")
    stage.play("""
        > submit a intent=reports conf=0.1 tier=LOW
          result a COMPLETED RULE "See the reports page."
        > submit b intent=reports
          result b COMPLETED RULE "See the reports page."
        > submit c intent=reports tier=MEDIUM
          dispatch c alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit d intent=alone
          dispatch d alpha #1 seat 0 SINGLE ROUTED chain ledger,spare
    """)
    assert stage.results["a"].confidence is None


def test_r3_and_r5_a_tenants_own_defaults_go_before_those_of_everyone() -> None:
    stage = Stage("tenants: {acme: {value_tier: LOW, deadline_ms: 9000}, corner: {deadline_ms: 8000}}")
    stage.play("""
        > submit a intent=reports tenant=acme
          result a COMPLETED RULE "See the reports page."
        > submit b intent=reports tenant=acme tier=MEDIUM
          dispatch b alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit c intent=reports tenant=corner
          dispatch c alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit d intent=five tenant=acme tier=MEDIUM
          dispatch d alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,delta,sage,spare
        > submit e intent=reports tenant=other
          dispatch e alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
    """)
    deadlines = {task: slip.deadline_ms - stage.now_ms for (task, _), slip in stage.slips.items()}
    assert deadlines == {"b": 9_000, "c": 8_000, "d": 60_000, "e": 30_000}
    assert stage.results["a"].attempts == 0


# --------------------------------------------------------------------------- R6 bands


@pytest.mark.parametrize(
    ("confidence", "band"), [(0.81, "SINGLE"), (0.8, "PANEL"), (0.51, "PANEL"), (0.5, "FALLBACK"), (0.0, "FALLBACK")]
)
def test_r6_bands_are_open_at_their_lower_end(stage: Stage, confidence: float, band: str) -> None:
    stage.act(["submit", "t", "intent=reports", f"conf={confidence}"])
    assert {slip.band for slip in stage.slips.values()} == {band}


def test_r6_single_passes_over_agents_whose_breaker_is_open(stage: Stage) -> None:
    stage.play("""
        > breaker alpha OPEN
        > submit a intent=reports
          dispatch a beta #1 seat 0 SINGLE BREAKER_OPEN chain alpha,gamma,spare
        > breaker beta OPEN
        > breaker gamma HALF_OPEN 0 2
        > submit b intent=reports
          dispatch b alpha #1 seat 0 SINGLE BREAKER_FLOOR chain beta,gamma,spare
        > says b alpha 42
          result b DEGRADED BREAKER_FLOOR "42" by alpha
        > breaker alpha CLOSED
        > submit c intent=reports
          dispatch c alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
    """)


def test_r6_a_probe_is_sent_once_per_epoch_and_only_where_named(stage: Stage) -> None:
    stage.play("""
        > breaker alpha HALF_OPEN 1 3 epoch=7
        > submit a intent=reports
          dispatch a alpha #1 seat 0 SINGLE PROBE chain beta,gamma,spare
        > submit b intent=reports
          dispatch b beta #1 seat 0 SINGLE BREAKER_OPEN chain alpha,gamma,spare
        > breaker alpha HALF_OPEN 0 3 epoch=8
        > submit c intent=reports
          dispatch c beta #1 seat 0 SINGLE BREAKER_OPEN chain alpha,gamma,spare
        > breaker alpha HALF_OPEN 1 epoch=9
        > submit d intent=reports
          dispatch d alpha #1 seat 0 SINGLE PROBE chain beta,gamma,spare
    """)
    assert stage.slips["a", "alpha"].probe_epoch == 7
    assert stage.slips["b", "beta"].probe_epoch == 0
    assert stage.slips["d", "alpha"].probe_epoch == 9


def test_r6_a_write_agent_is_never_probed(stage: Stage) -> None:
    stage.play("""
        > breaker ledger HALF_OPEN 1
        > submit t intent=bookings
          dispatch t alpha #1 seat 0 SINGLE BREAKER_OPEN chain ledger,beta
    """)


def test_r6_nothing_is_sent_to_an_agent_that_a_person_paused_not_even_as_the_last(stage: Stage) -> None:
    stage.play("""
        > paused alpha
        > submit a intent=reports
          dispatch a beta #1 seat 0 SINGLE AGENT_PAUSED chain alpha,gamma,spare
        > breaker beta OPEN
        > breaker gamma OPEN
        > submit b intent=reports
          dispatch b beta #1 seat 0 SINGLE BREAKER_FLOOR chain alpha,gamma,spare
        > paused alpha beta gamma
        > submit c intent=reports
          dispatch c spare #1 seat 0 SINGLE AGENT_PAUSED chain alpha,beta,gamma
        > says c spare maybe
          result c DEGRADED FALLBACK_AGENT "maybe" by spare
        > paused alpha beta gamma spare
        > submit d intent=reports
          result d DEGRADED AGENTS_PAUSED "Ask Ann."
        > submit e intent=alone conf=0.3
          note e ESCALATED LOW_CONFIDENCE
          result e FAILED AGENTS_PAUSED
        > submit f intent=reports tier=HIGH
          result f DEGRADED AGENTS_PAUSED "Ask Ann."
    """)


def test_r9_an_agent_that_was_paused_meanwhile_hands_its_work_on(stage: Stage) -> None:
    stage.play("""
        > submit a intent=reports
          dispatch a alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > paused beta
        > fails a alpha PAUSED
          note a CASCADED PAUSED alpha
          dispatch a gamma #2 seat 0 SINGLE CASCADE chain beta,spare
    """)
    assert [each.verdict for each in stage.oracle.health] == ["neutral"], "its breaker hears nothing"


def test_r6_panels(stage: Stage) -> None:
    stage.play("""
        > submit a intent=five conf=0.6
          dispatch a alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch a beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > submit b intent=bookings tier=HIGH conf=0.1
          dispatch b alpha #1 seat 0 PANEL PANEL panel alpha,beta chain ledger
          dispatch b beta #2 seat 1 PANEL PANEL panel alpha,beta chain ledger
        > breaker alpha OPEN
        > submit c intent=five tier=HIGH
          dispatch c beta #1 seat 0 PANEL PANEL panel beta,gamma,delta chain alpha,sage,spare
          dispatch c gamma #2 seat 1 PANEL PANEL panel beta,gamma,delta chain alpha,sage,spare
          dispatch c delta #3 seat 2 PANEL PANEL panel beta,gamma,delta chain alpha,sage,spare
        > breaker beta HALF_OPEN 1
        > submit d intent=reports conf=0.6
          dispatch d beta #1 seat 0 PANEL PROBE panel beta,gamma chain alpha,spare
          dispatch d gamma #2 seat 1 PANEL PANEL panel beta,gamma chain alpha,spare
        > submit e intent=reports tier=HIGH
          dispatch e gamma #1 seat 0 PANEL PANEL panel gamma,alpha chain beta,spare
          dispatch e alpha #2 seat 1 PANEL BREAKER_FLOOR panel gamma,alpha chain beta,spare
        > submit f intent=invited tier=HIGH
          dispatch f gamma #1 seat 0 PANEL PANEL panel gamma,beta chain ledger,alpha
          dispatch f beta #2 seat 1 PANEL BREAKER_FLOOR panel gamma,beta chain ledger,alpha
    """)


def test_r6_a_panel_of_too_few_asks_one(stage: Stage) -> None:
    stage.play("""
        > submit a intent=alone tier=HIGH
          dispatch a alpha #1 seat 0 SINGLE PANEL_TOO_SMALL chain ledger,spare
        > says a alpha 42
          result a COMPLETED ANSWERED "42" by alpha
        > breaker alpha HALF_OPEN 1 epoch=4
        > submit b intent=alone conf=0.6
          dispatch b alpha #1 seat 0 SINGLE PANEL_TOO_SMALL chain ledger,spare
        > submit c intent=alone conf=0.6
          dispatch c ledger #1 seat 0 SINGLE PANEL_TOO_SMALL chain alpha,spare
    """)
    assert stage.slips["b", "alpha"].probe_epoch == 4


def test_r6_fallback_asks_its_agent_whatever_its_breaker(stage: Stage) -> None:
    stage.play("""
        > breaker spare OPEN
        > submit a intent=reports conf=0.3
          note a ESCALATED LOW_CONFIDENCE
          dispatch a spare #1 seat 0 FALLBACK LOW_CONFIDENCE
        > says a spare maybe
          result a DEGRADED LOW_CONFIDENCE "maybe" by spare
        > submit b intent=reports conf=0.3
          note b ESCALATED LOW_CONFIDENCE
          dispatch b spare #1 seat 0 FALLBACK LOW_CONFIDENCE
        > fails b spare
          result b DEGRADED FALLBACK_ANSWER "Ask Ann."
        > submit c intent=bookings conf=0.3
          note c ESCALATED LOW_CONFIDENCE
          result c DEGRADED LOW_CONFIDENCE "Not booked."
    """)


# --------------------------------------------------------------------------- R7 judging


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("says t alpha 42 conf=nan", "INVALID_CONFIDENCE"),
        ("says t alpha 42 conf=1.5", "INVALID_CONFIDENCE"),
        ("says t alpha conf=1.5", "INVALID_CONFIDENCE"),
        ("says t alpha 42 conf=0.69", "LOW_CONFIDENCE"),
        ("says t alpha", "FAILED"),
        ("refuses t alpha", "REFUSED"),
        ("fails t alpha", "FAILED"),
        ("fails t alpha INTERNAL", "FAILED"),
        ("fails t alpha UNREACHABLE", "FAILED"),
        ("fails t alpha SOMETHING_NEW", "FAILED"),
        ("fails t alpha TIMEOUT", "TIMED_OUT"),
        ("fails t alpha OVERLOADED", "OVERLOADED"),
        ("fails t alpha QUOTA", "OVERLOADED"),
        ("fails t alpha UNKNOWN_OUTCOME", "UNKNOWN_OUTCOME"),
    ],
)
def test_r7_what_is_no_answer_cascades(stage: Stage, what: str, reason: str) -> None:
    stage.play(f"""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > {what}
          note t CASCADED {reason} alpha
          dispatch t beta #2 seat 0 SINGLE CASCADE chain gamma,spare
    """)
    against = {"FAILED", "TIMED_OUT", "UNKNOWN_OUTCOME", "INVALID_CONFIDENCE"}
    assert [health.verdict for health in stage.oracle.health] == ["failure" if reason in against else "neutral"]


@pytest.mark.parametrize("what", ["conf=0.7", "conf=1.0", "conf=none"])
def test_r7_sure_enough_is_good(stage: Stage, what: str) -> None:
    stage.play(f"""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > says t alpha 42 {what}
          result t COMPLETED ANSWERED "42" by alpha
    """)
    assert stage.results["t"].confidence == {"conf=0.7": 0.7, "conf=1.0": 1.0, "conf=none": 0.75}[what]
    assert [health.verdict for health in stage.oracle.health] == ["success"]


def test_r7_a_grounded_agent_must_cite(stage: Stage) -> None:
    stage.play("""
        > submit a intent=citing
          dispatch a cited #1 seat 0 SINGLE ROUTED chain alpha,beta
        > says a cited 42
          note a CASCADED UNGROUNDED cited
          dispatch a alpha #2 seat 0 SINGLE CASCADE chain beta
        > submit b intent=citing
          dispatch b cited #1 seat 0 SINGLE ROUTED chain alpha,beta
        > says b cited 42 cites=page-1
          result b COMPLETED ANSWERED "42" by cited
    """)


def test_r7_started_changes_nothing(stage: Stage) -> None:
    stage.play("""
        > starts unknown alpha
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > starts t alpha
        > starts t beta
        > says t alpha 42
          result t COMPLETED ANSWERED "42" by alpha
        > starts t alpha
    """)


# --------------------------------------------------------------------------- R8 which outcomes count


def test_r8_only_the_open_dispatch_is_answered(stage: Stage) -> None:
    stage.play("""
        > says nobody alpha 42
          note nobody LATE_VOTE COMPLETED alpha
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > says t beta 41
          note t LATE_VOTE COMPLETED beta
        > says t alpha 41 attempt=2
          note t LATE_VOTE COMPLETED alpha
        > says t alpha 41 stage=REGROUND
          note t LATE_VOTE COMPLETED alpha
        > fails t alpha
          note t CASCADED FAILED alpha
          dispatch t beta #2 seat 0 SINGLE CASCADE chain gamma,spare
        > fails t alpha
        > says t alpha 42
          note t LATE_VOTE COMPLETED alpha
        > says t alpha 42
        > says t beta 43
          result t COMPLETED ANSWERED "43" by beta
        > says t beta 43
        > fails t alpha
        > fails t beta
          note t LATE_VOTE FAILED beta
        > fails t beta
    """)
    assert [health.verdict for health in stage.oracle.health] == ["failure", "success"]


# --------------------------------------------------------------------------- R9 writes


@pytest.mark.parametrize("error", ["TIMEOUT", "UNKNOWN_OUTCOME"])
def test_r9_an_uncertain_write_escalates(stage: Stage, error: str) -> None:
    stage.play(f"""
        > submit t intent=bookings
          dispatch t ledger #1 seat 0 SINGLE ROUTED chain alpha,beta
        > fails t ledger {error}
          note t ESCALATED WRITE_UNCERTAIN ledger
          result t ESCALATED WRITE_UNCERTAIN
    """)


def test_r9_a_write_that_says_it_failed_cascades(stage: Stage) -> None:
    stage.play("""
        > submit t intent=bookings
          dispatch t ledger #1 seat 0 SINGLE ROUTED chain alpha,beta
        > fails t ledger INTERNAL
          note t CASCADED FAILED ledger
          dispatch t alpha #2 seat 0 SINGLE CASCADE chain beta
    """)


# --------------------------------------------------------------------------- R10 chains


def test_r10_the_chain_ends_in_the_fallback_agent_then_its_answer(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > breaker gamma OPEN
        > fails t alpha
          note t CASCADED FAILED alpha
          dispatch t beta #2 seat 0 SINGLE CASCADE chain gamma,spare
        > refuses t beta
          note t CASCADED REFUSED beta
          dispatch t spare #3 seat 0 SINGLE CASCADE chain gamma
        > breaker gamma HALF_OPEN 1
        > says t spare 42 conf=0.2
          note t CASCADED LOW_CONFIDENCE spare
          dispatch t gamma #4 seat 0 SINGLE PROBE
        > fails t gamma
          result t DEGRADED FALLBACK_ANSWER "Ask Ann."
    """)
    assert stage.results["t"].attempts == 4


def test_r10_an_answer_of_the_fallback_agent_is_degraded(stage: Stage) -> None:
    stage.play("""
        > submit t intent=alone
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain ledger,spare
        > breaker ledger OPEN
        > fails t alpha
          note t CASCADED FAILED alpha
          dispatch t spare #2 seat 0 SINGLE CASCADE chain ledger
        > says t spare 42
          result t DEGRADED FALLBACK_AGENT "42" by spare
        > submit u intent=alone
          dispatch u alpha #1 seat 0 SINGLE ROUTED chain ledger,spare
        > fails u alpha
          note u CASCADED FAILED alpha
          dispatch u spare #2 seat 0 SINGLE CASCADE chain ledger
        > fails u spare
          result u FAILED CHAIN_EXHAUSTED
    """)


def test_r10_an_agent_passed_over_may_be_asked_later(stage: Stage) -> None:
    stage.play("""
        > breaker alpha OPEN
        > submit t intent=reports
          dispatch t beta #1 seat 0 SINGLE BREAKER_OPEN chain alpha,gamma,spare
        > breaker alpha CLOSED
        > fails t beta
          note t CASCADED FAILED beta
          dispatch t alpha #2 seat 0 SINGLE CASCADE chain gamma,spare
    """)


def test_r10_wrong_input_ends_the_task(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > fails t alpha WRONG_INPUT
          note t REFUSED WRONG_INPUT alpha
          result t REJECTED WRONG_INPUT
    """)


def test_r10_nobody_is_asked_after_the_deadline(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports deadline=1000100
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit u intent=reports deadline=1000100
          dispatch u alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > wait 99
        > fails t alpha
          note t CASCADED FAILED alpha
          dispatch t beta #2 seat 0 SINGLE CASCADE chain gamma,spare
        > wait 1
        > fails t beta
          result t DEGRADED FALLBACK_ANSWER "Ask Ann."
        > says u alpha 42
          result u COMPLETED ANSWERED "42" by alpha
    """)


# --------------------------------------------------------------------------- P panels


def test_p_two_who_agree_are_enough(stage: Stage) -> None:
    stage.play("""
        > submit t intent=five tier=HIGH
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta,gamma chain delta,sage,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta,gamma chain delta,sage,spare
          dispatch t gamma #3 seat 2 PANEL PANEL panel alpha,beta,gamma chain delta,sage,spare
        > says t gamma '  Forty  TWO ' conf=0.8 payload={}
        > says t alpha 'forty two' conf=0.8 payload=[]
          result t COMPLETED CONSENSUS "forty two" by alpha,gamma
        > says t beta 41
          note t LATE_VOTE COMPLETED beta
    """)
    result = stage.results["t"]
    assert [(vote.agent_id, vote.key) for vote in result.votes] == [("alpha", "forty two"), ("gamma", "forty two")]
    assert result.confidence == pytest.approx(0.8)
    assert result.payload == "[]"  # of the lowest seat among the most confident
    assert result.attempts == 3


def test_p_the_most_confident_of_the_winners_speaks(stage: Stage) -> None:
    stage.play("""
        > submit t intent=five conf=0.6
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > says t alpha '42.0' key=42 conf=0.8
        > says t beta 'about 42' key=42 conf=0.9
          result t COMPLETED CONSENSUS "about 42" by alpha,beta
    """)
    assert stage.results["t"].confidence == pytest.approx(0.85)


def test_p_an_open_seat_that_weighs_much_is_waited_for(stage: Stage) -> None:
    """log-odds: two of 0.8 make 2.77, sage's 0.95 makes 2.94: a share of 0.485."""
    stage.play("""
        > submit t intent=heavy tier=HIGH
          dispatch t sage #1 seat 0 PANEL PANEL panel sage,alpha,beta
          dispatch t alpha #2 seat 1 PANEL PANEL panel sage,alpha,beta
          dispatch t beta #3 seat 2 PANEL PANEL panel sage,alpha,beta
        > says t alpha 42
        > says t beta 42
        > fails t sage
          result t COMPLETED CONSENSUS "42" by alpha,beta
    """)


def test_p_weight_alone_is_no_quorum(stage: Stage) -> None:
    """sage outweighs two who agree, and is one: no quorum; the re-run is the heaviest voter's."""
    stage.play("""
        > submit t intent=heavy tier=HIGH
          dispatch t sage #1 seat 0 PANEL PANEL panel sage,alpha,beta
          dispatch t alpha #2 seat 1 PANEL PANEL panel sage,alpha,beta
          dispatch t beta #3 seat 2 PANEL PANEL panel sage,alpha,beta
        > says t alpha 42
        > says t beta 42
        > says t sage 17
          note t CONFLICT NO_CONSENSUS
          note t REGROUNDED REGROUND sage
          dispatch t sage #4 seat 0 REGROUND PANEL REGROUND panel sage,alpha,beta
        > says t sage 42 cites=page-3
          result t COMPLETED REGROUNDED "42" by sage,alpha,beta
    """)


def test_p_conflict_asks_a_third_then_the_first_again_then_a_human(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports conf=0.6
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,spare
        > says t alpha one
        > says t beta two
          note t CONFLICT NO_CONSENSUS
          dispatch t gamma #3 seat 2 PANEL TIEBREAK panel alpha,beta chain spare
        > says t gamma three
          note t REGROUNDED REGROUND alpha
          dispatch t alpha #4 seat 0 REGROUND PANEL REGROUND panel alpha,beta chain spare
        > says t alpha four cites=page-1
          note t ESCALATED NO_CONSENSUS
          result t ESCALATED NO_CONSENSUS against beta,gamma
    """)
    result = stage.results["t"]
    assert [vote.key for vote in result.votes] == ["four", "two", "three"]
    assert (result.agents, result.answer, result.confidence) == ((), None, None)


def test_p_a_third_voice_settles_it(stage: Stage) -> None:
    stage.play("""
        > submit t intent=five conf=0.6
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > says t alpha one
        > says t beta two
          note t CONFLICT NO_CONSENSUS
          dispatch t gamma #3 seat 2 PANEL TIEBREAK panel alpha,beta chain delta,sage,spare
        > fails t gamma
          note t CASCADED FAILED gamma
          dispatch t delta #4 seat 2 PANEL CASCADE panel alpha,beta chain sage,spare
        > says t delta two
          result t COMPLETED CONSENSUS "two" by beta,delta against alpha
    """)


@pytest.mark.parametrize("how", ["fails t alpha", "fails t alpha WRONG_INPUT", "says t alpha one"])
def test_p_a_failed_re_run_escalates_and_the_vote_stays(stage: Stage, how: str) -> None:
    stage.play(f"""
        > submit t intent=bookings conf=0.6
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain ledger
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain ledger
        > says t alpha one
        > says t beta two
          note t CONFLICT NO_CONSENSUS
          note t REGROUNDED REGROUND alpha
          dispatch t alpha #3 seat 0 REGROUND PANEL REGROUND panel alpha,beta chain ledger
        > {how}
          note t ESCALATED NO_CONSENSUS
          result t ESCALATED NO_CONSENSUS against beta
    """)
    assert [vote.key for vote in stage.results["t"].votes] == ["one", "two"]


def test_p_a_failed_seat_goes_to_the_next_who_may_vote(stage: Stage) -> None:
    stage.play("""
        > breaker gamma OPEN
        > breaker delta HALF_OPEN 1 epoch=3
        > submit t intent=five conf=0.6
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > fails t beta TIMEOUT
          note t CASCADED TIMED_OUT beta
          dispatch t delta #3 seat 1 PANEL PROBE panel alpha,beta chain gamma,sage,spare
        > fails t delta
          note t CASCADED FAILED delta
          dispatch t sage #4 seat 1 PANEL CASCADE panel alpha,beta chain gamma,spare
        > fails t sage
        > says t alpha 42
          result t DEGRADED NO_QUORUM "42" by alpha
    """)


def test_p_an_explicit_panel_admits_no_one_else(stage: Stage) -> None:
    stage.play("""
        > submit t intent=invited conf=0.6
          dispatch t gamma #1 seat 0 PANEL PANEL panel gamma,beta chain ledger,alpha
          dispatch t beta #2 seat 1 PANEL PANEL panel gamma,beta chain ledger,alpha
        > fails t gamma
        > fails t beta
          result t DEGRADED FALLBACK_ANSWER "Nobody."
    """)


def test_p_one_vote_is_degraded_and_where_the_value_is_high_escalated(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports tier=HIGH
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta,gamma chain spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta,gamma chain spare
          dispatch t gamma #3 seat 2 PANEL PANEL panel alpha,beta,gamma chain spare
        > fails t alpha
        > refuses t beta
        > says t gamma 42
          note t ESCALATED NO_QUORUM
          result t ESCALATED NO_QUORUM
    """)
    assert [vote.agent_id for vote in stage.results["t"].votes] == ["gamma"]


def test_p_wrong_input_closes_a_seat_and_rejects_when_nobody_answers(stage: Stage) -> None:
    stage.play("""
        > submit a intent=five conf=0.6
          dispatch a alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch a beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > fails a alpha WRONG_INPUT
        > fails a beta WRONG_INPUT
          note a REFUSED WRONG_INPUT
          result a REJECTED WRONG_INPUT
        > submit b intent=five conf=0.6
          dispatch b alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch b beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > fails b alpha WRONG_INPUT
        > says b beta 42
          result b DEGRADED NO_QUORUM "42" by beta
    """)


def test_p_nobody_is_asked_after_the_deadline(stage: Stage) -> None:
    stage.play("""
        > submit t intent=five conf=0.6 deadline=1000100
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > says t alpha one
        > wait 100
        > says t beta two
          note t CONFLICT NO_CONSENSUS
          note t ESCALATED NO_CONSENSUS
          result t ESCALATED NO_CONSENSUS against beta
    """)


# --------------------------------------------------------------------------- R11 time


def test_r11_a_timed_out_attempt_cascades_after_the_grace(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > wait 5299
        > tick
        > wait 1
        > tick
          note t CASCADED TIMED_OUT alpha
          dispatch t beta #2 seat 0 SINGLE CASCADE chain gamma,spare
        > says t alpha 42
          note t LATE_VOTE COMPLETED alpha
        > wait 24699
        > breaker gamma OPEN
        > breaker spare OPEN
        > tick
          result t DEGRADED FALLBACK_ANSWER "Ask Ann."
    """)
    assert [health.verdict for health in stage.oracle.health] == ["failure", "failure"]


def test_r11_a_deadline_expires(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports deadline=1005000
          dispatch t alpha #1 seat 0 SINGLE ROUTED chain beta,gamma,spare
        > submit u intent=five conf=0.6 deadline=1005000
          dispatch u alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
          dispatch u beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,delta,sage,spare
        > submit v intent=bookings deadline=1005000
          dispatch v ledger #1 seat 0 SINGLE ROUTED chain alpha,beta
        > says u alpha 42
        > wait 5000
        > tick
          note t EXPIRED DEADLINE
          result t EXPIRED DEADLINE
          note u EXPIRED DEADLINE
          result u EXPIRED DEADLINE
          note v ESCALATED WRITE_UNCERTAIN ledger
          result v ESCALATED WRITE_UNCERTAIN
        > tick
    """)
    assert [health.verdict for health in stage.oracle.health] == ["success"]
    assert stage.oracle.in_flight == ()


def test_r11_a_write_that_times_out_escalates(stage: Stage) -> None:
    stage.play("""
        > submit t intent=bookings
          dispatch t ledger #1 seat 0 SINGLE ROUTED chain alpha,beta
        > wait 5300
        > tick
          note t ESCALATED WRITE_UNCERTAIN ledger
          result t ESCALATED WRITE_UNCERTAIN
    """)


def test_r11_seats_time_out_one_after_the_other(stage: Stage) -> None:
    stage.play("""
        > submit t intent=reports conf=0.6
          dispatch t alpha #1 seat 0 PANEL PANEL panel alpha,beta chain gamma,spare
          dispatch t beta #2 seat 1 PANEL PANEL panel alpha,beta chain gamma,spare
        > wait 5300
        > tick
          note t CASCADED TIMED_OUT alpha
          dispatch t gamma #3 seat 0 PANEL CASCADE panel alpha,beta chain spare
        > says t gamma 42
          result t DEGRADED NO_QUORUM "42" by gamma
    """)


# --------------------------------------------------------------------------- R12 what a result carries


def test_r12_a_result_sums_up_and_hands_back(stage: Stage) -> None:
    record = {
        "task_id": "t",
        "tenant": "acme",
        "text": "",
        "intent": "reports",
        "conversation_id": "c",
        "labels": {"team": "x"},
        "traceparent": "00-1",
        "submitted_at": 5,
    }
    (dispatch,) = stage.oracle.submit(record, 1000)
    assert isinstance(dispatch, Dispatch)

    def event(kind: str, agent: str, attempt: int, cost: int) -> dict[str, Any]:
        return {
            "event_id": f"{kind}{attempt}{cost}",
            "kind": kind,
            "slip": {"agent_id": agent, "attempt": attempt, "stage": "WORK"},
            "task": {"task_id": "t", "tenant": "acme"},
            "answer": "42",
            "payload": "{}",
            "cost_microusd": cost,
            "tokens_in": 10,
            "tokens_out": 1,
        }

    _note, second = stage.oracle.outcome(event("REFUSED", "alpha", 1, 100), 2000)
    assert isinstance(second, Dispatch)
    assert (second.cost_microusd, second.tokens) == (100, 11)
    for _repeated in range(2):
        stage.oracle.outcome(event("FAILED", "alpha", 1, 7000), 2500)  # late, and spent all the same; once
    (result,) = stage.oracle.outcome(event("COMPLETED", "beta", 2, 20), 3000)
    assert result == Result(
        "acme",
        "t",
        "COMPLETED",
        "ANSWERED",
        intent="reports",
        answer="42",
        payload="{}",
        confidence=0.75,
        agents=("beta",),
        attempts=2,
        cost_microusd=7120,
        tokens=33,
        conversation_id="c",
        labels={"team": "x"},
        traceparent="00-1",
        submitted_at=5,
        decided_at_ms=3000,
        route_version=topology().version,
    )
    (late,) = stage.oracle.outcome(event("FAILED", "beta", 2, 9000), 3500)
    assert isinstance(late, Note)  # the result has been told: what comes now is in no sum


# --------------------------------------------------------------------------- arithmetic


def test_log_odds_and_vote_keys() -> None:
    assert log_odds(0.8) == pytest.approx(math.log(4))
    assert vote_key({"vote_key": " As It Is ", "answer": "x"}) == " As It Is "
    assert vote_key({"vote_key": "", "answer": "x"}) == ""
    assert vote_key({"answer": "\t Straße\n 7 "}) == "strasse 7"


def test_an_empty_panel_has_no_leader() -> None:
    assert tally((), (1.0,), 2, 0.5).leading == ()
