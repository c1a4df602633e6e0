"""What people's votes say of a judge: whether it agrees with them, and the win rate with its votes corrected by theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fettle.judging.bias import length_preference, share_of_ties
from fettle.judging.faults import faults_of
from fettle.judging.records import JudgedComparison, JudgedPair, Pair
from fettle.statistics.agreement import AgreementWithPeople, agreement_with_people
from fettle.statistics.length_control import length_controlled_win_rate
from fettle.statistics.prediction_powered import PredictionPowered, prediction_powered_win_rate
from fettle.votes.booth import votes_on
from fettle.votes.poll import Poll
from fettle.votes.records import Choice
from fettle.votes.vote_file import read_records

PeopleVotes = Mapping[str, Sequence[float]]
"""By example id what each person prefers: 1 the challenger's answer, 0 the baseline's, 0.5 neither."""


def votes_of_people(poll: Poll, file: Path) -> PeopleVotes:
    """What people said of these answers; empty where nobody voted. Both bad is neither.

    Raises:
        DataError: The file is damaged.
    """
    found: dict[str, list[float]] = defaultdict(list)
    values = {poll.contenders.challenger: 1.0, poll.contenders.baseline: 0.0, None: 0.5}
    for vote in votes_on(poll, read_records(file)):
        if vote.choice is not Choice.SKIP:
            found[vote.example_id].append(values[vote.preferred])
    return found


def mean_votes(people: PeopleVotes) -> dict[str, float]:
    """What people prefer together, by the examples with a vote.

    >>> mean_votes({"a": [1.0, 0.5], "b": []})
    {'a': 0.75}
    """
    return {example_id: sum(votes) / len(votes) for example_id, votes in people.items() if votes}


def agreement(pairs: Sequence[Pair], judged: Sequence[JudgedPair], people: PeopleVotes) -> AgreementWithPeople | None:
    """How far the judge's preference, a tie being one too, agrees with people's; None: they voted on no pair in common."""
    return agreement_with_people(
        [None if one.is_equal else _side(one.preference) for one in judged],
        [_sides(people.get(pair.example_id, ())) for pair in pairs],
        [pair.cluster for pair in pairs],
    )


def corrected_win_rate(
    pairs: Sequence[Pair], judged: Sequence[JudgedPair], people: PeopleVotes
) -> PredictionPowered | None:
    """The win rate over pairs whose answers differ, as people would vote; None: they voted on none of them.

    People's votes must be on a random sample of these pairs.
    """
    votes = mean_votes(people)
    both = [
        (votes.get(pair.example_id), one.preference, pair.cluster)
        for pair, one in zip(pairs, judged, strict=True)
        if one.preference is not None and not one.is_equal
    ]
    if all(vote is None for vote, _, _ in both):
        return None
    return prediction_powered_win_rate(
        [vote for vote, _, _ in both], [preference for _, preference, _ in both], [cluster for _, _, cluster in both]
    )


def beside_people(judged: JudgedComparison, pairs: Sequence[Pair], people: PeopleVotes) -> JudgedComparison:
    """The judgement held against what people say: agreement, the corrected win rate, the preference for length, and faults.

    People may have voted since the judge was asked; nothing else of the judgement changes.

    Args:
        judged: What came of the pairs.
        pairs: What was judged, in the same order.
        people: Their votes on any of them.
    """
    decided = [
        (pair, one.preference) for pair, one in zip(pairs, judged.pairs, strict=True) if one.preference is not None
    ]
    fitted = length_controlled_win_rate(
        [preference for _, preference in decided],
        [(len(pair.challenger), len(pair.baseline)) for pair, _ in decided],
        [pair.cluster for pair, _ in decided],
    )
    length = length_preference(pairs, judged.pairs, mean_votes(people), fitted.longer_wins)
    agreed = agreement(pairs, judged.pairs, people)
    return replace(
        judged,
        length=length,
        agreement=agreed,
        corrected=corrected_win_rate(pairs, judged.pairs, people),
        faults=faults_of(judged.position, length, judged.counts, share_of_ties(judged.pairs), agreed),
    )


def _sides(votes: Sequence[float]) -> list[str | None]:
    """What people prefer; nothing where they are divided evenly, which says nothing of a judge."""
    is_divided = any(vote > 0.5 for vote in votes) and sum(vote - 0.5 for vote in votes) == 0
    return [] if is_divided else [_side(vote) for vote in votes]


def _side(preference: float | None) -> str | None:
    """A preference as a category."""
    if preference is None:
        return None
    return "challenger" if preference > 0.5 else "baseline" if preference < 0.5 else "tie"
