from math import log

import pytest

from streams.core.consensus import Vote, log_odds, tally, vote_key

QUORUM, SHARE = 2, 0.625


def vote(agent: str, key: str, seat: int, *, weight: float = 1.0, confidence: float = 0.8) -> Vote:
    return Vote(agent, key, confidence, weight, seat, answer=f"{agent} says {key}", payload=f'"{agent}"')


def test_two_of_two_agree() -> None:
    verdict = tally([vote("a", "42", 0, confidence=0.7), vote("b", "42", 1, confidence=0.9)], 0.0, QUORUM, SHARE)
    assert verdict.accepted
    assert verdict.share == 1.0
    assert verdict.agents == ("a", "b")
    assert verdict.dissent == ()
    assert verdict.confidence == pytest.approx(0.8)
    assert (verdict.answer, verdict.payload) == ("b says 42", '"b"')


def test_two_of_three_agree() -> None:
    verdict = tally([vote("a", "x", 0), vote("b", "y", 1), vote("c", "y", 2)], 0.0, QUORUM, SHARE)
    assert (verdict.accepted, verdict.agents, verdict.dissent) == (True, ("b", "c"), ("a",))
    assert verdict.share == pytest.approx(2 / 3)


def test_two_that_disagree_are_not_accepted_and_the_lower_seat_leads() -> None:
    verdict = tally([vote("b", "y", 1), vote("a", "x", 0)], 0.0, QUORUM, SHARE)
    assert (verdict.accepted, verdict.agents, verdict.dissent, verdict.share) == (False, ("a",), ("b",), 0.5)


def test_weight_beats_number() -> None:
    verdict = tally([vote("a", "x", 0), vote("b", "x", 1), vote("c", "y", 2, weight=3.0)], 0.0, 1, 0.6)
    assert (verdict.accepted, verdict.agents) == (True, ("c",))


def test_weight_alone_is_no_quorum() -> None:
    assert not tally([vote("a", "x", 0, weight=100.0), vote("b", "y", 1)], 0.0, QUORUM, SHARE).accepted


def test_a_vote_still_out_counts_in_the_share() -> None:
    votes = [vote("a", "x", 0), vote("b", "x", 1)]
    assert tally(votes, 1.0, QUORUM, SHARE).share == pytest.approx(2 / 3)
    assert tally(votes, 1.0, QUORUM, SHARE).accepted
    assert not tally(votes, 1.5, QUORUM, SHARE).accepted


def test_the_share_is_inclusive() -> None:
    votes = [vote("a", "x", 0, weight=2.5), vote("b", "x", 1, weight=2.5)]
    assert tally(votes, 3.0, QUORUM, SHARE).accepted


def test_an_agents_later_vote_replaces_its_earlier_one() -> None:
    votes = [vote("a", "x", 0), vote("b", "y", 1), vote("a", "y", 0)]
    verdict = tally(votes, 0.0, QUORUM, SHARE)
    assert (verdict.accepted, verdict.agents) == (True, ("a", "b"))
    assert len(verdict.votes) == 2


def test_of_equally_sure_votes_the_lowest_seat_answers() -> None:
    assert tally([vote("b", "x", 1), vote("a", "x", 0)], 0.0, QUORUM, SHARE).answer == "a says x"


def test_no_votes_are_no_verdict() -> None:
    verdict = tally([], 2.0, QUORUM, SHARE)
    assert (verdict.accepted, verdict.winner, verdict.share) == (False, (), 0.0)
    assert (verdict.answer, verdict.payload, verdict.confidence, verdict.best) == (None, None, None, None)


def test_votes_without_weight_win_nothing() -> None:
    assert not tally([vote("a", "x", 0, weight=0.0), vote("b", "x", 1, weight=0.0)], 0.0, QUORUM, SHARE).accepted


def test_log_odds() -> None:
    assert log_odds(0.8) == pytest.approx(log(4))
    assert log_odds(0.5) == 0.0
    assert log_odds(0.2) == pytest.approx(-log(4))
    for accuracy in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="accuracy"):
            log_odds(accuracy)


def test_what_is_compared() -> None:
    assert vote_key("EMEA-Q3", "whatever") == "EMEA-Q3"
    assert vote_key("", "whatever") == ""
    assert vote_key(None, "  The\tAnswer \n is 42 ") == "the answer is 42"
    assert vote_key(None, "STRASSE") == vote_key(None, "Straße")
