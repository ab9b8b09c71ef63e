from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from streams.core.consensus import Vote, tally

VOTES = st.lists(
    st.builds(
        Vote,
        agent_id=st.sampled_from("abcdefg"),
        key=st.sampled_from("xyz"),
        confidence=st.floats(0.0, 1.0),
        weight=st.floats(0.01, 7.0),
        seat=st.integers(0, 6),
    ),
    max_size=7,
    unique_by=(lambda vote: vote.agent_id, lambda vote: vote.seat),
)
OPEN = st.floats(0.0, 20.0)
QUORUM = st.integers(1, 4)
SHARE = st.floats(0.01, 1.0)


@given(votes=VOTES, data=st.data(), open_weight=OPEN, quorum=QUORUM, share=SHARE)
def test_the_order_of_arrival_decides_nothing(
    votes: list[Vote], data: st.DataObject, open_weight: float, quorum: int, share: float
) -> None:
    shuffled = data.draw(st.permutations(votes))
    assert tally(votes, open_weight, quorum, share) == tally(shuffled, open_weight, quorum, share)


@given(votes=VOTES, open_weight=OPEN, quorum=QUORUM, share=SHARE)
def test_a_repeated_vote_counts_once(votes: list[Vote], open_weight: float, quorum: int, share: float) -> None:
    assert tally(votes + votes, open_weight, quorum, share) == tally(votes, open_weight, quorum, share)


@given(votes=VOTES, open_weight=OPEN, quorum=QUORUM, share=SHARE)
def test_winner_and_dissent_part_the_votes(votes: list[Vote], open_weight: float, quorum: int, share: float) -> None:
    verdict = tally(votes, open_weight, quorum, share)
    assert {*verdict.agents, *verdict.dissent} == {vote.agent_id for vote in votes}
    assert len(verdict.agents) + len(verdict.dissent) == len(votes)
    assert len({vote.key for vote in verdict.winner}) <= 1
    assert 0.0 <= verdict.share <= 1.0


@given(votes=VOTES, quorum=QUORUM, share=SHARE)
def test_no_group_outweighs_the_winner(votes: list[Vote], quorum: int, share: float) -> None:
    weights: dict[str, Fraction] = {}
    for vote in votes:
        weights[vote.key] = weights.get(vote.key, Fraction(0)) + Fraction(vote.weight)
    for vote in tally(votes, 0.0, quorum, share).winner:
        assert float(weights[vote.key]) == float(max(weights.values()))


@given(votes=VOTES, late=VOTES, quorum=QUORUM, share=st.floats(0.51, 1.0))
def test_no_vote_still_out_undoes_an_accepted_verdict(
    votes: list[Vote], late: list[Vote], quorum: int, share: float
) -> None:
    known = {vote.agent_id for vote in votes}
    seats = {vote.seat for vote in votes}
    late = [vote for vote in late if vote.agent_id not in known and vote.seat not in seats]
    early = tally(votes, sum(vote.weight for vote in late), quorum, share)
    if early.accepted:
        assert tally(votes + late, 0.0, quorum, 0.0).winner[0].key == early.winner[0].key
