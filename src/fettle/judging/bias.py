"""What moves a judge beside the answers: the order they are shown in, their length, chance.

Votes are 1 for the challenger, -1 for the baseline, 0 for a tie; places likewise for the answer shown first and second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from fettle.judging.records import (
    FlipRate,
    JudgedPair,
    JudgeReply,
    LengthBasis,
    LengthPreference,
    Order,
    Pair,
    PositionBias,
)
from fettle.records import Interval
from fettle.statistics.intervals import difference_interval, mean_interval
from fettle.statistics.win_rate import as_win_rate

NO_DIFFERENCE = 0.02
"""Graders that score two answers so alike, in [0, 1], see no difference between them."""
MIN_PAIRS_OF_LIKE_QUALITY = 20
_TIE = 1e-9


def judged_pair(pair: Pair, replies: Sequence[JudgeReply]) -> JudgedPair:
    """What came of a pair: in each repeat the two orders' vote where they agree, else a tie; then the mean over repeats."""
    votes = [_joint_vote(both) for both in complete_repeats(replies)]
    preference = 0.5 if pair.is_equal else (1 + sum(votes) / len(votes)) / 2 if votes else None
    return JudgedPair(example_id=pair.example_id, is_equal=pair.is_equal, preference=preference, replies=tuple(replies))


def complete_repeats(replies: Sequence[JudgeReply]) -> tuple[tuple[JudgeReply, JudgeReply], ...]:
    """The repeats of a pair with a readable reply in both orders, the one with the challenger first before the other."""
    readable = {(reply.repeat, reply.order): reply for reply in replies if reply.pick is not None}
    repeats = sorted({repeat for repeat, _ in readable})
    both = [tuple(readable.get((repeat, order)) for order in Order) for repeat in repeats]
    return tuple((one, other) for one, other in both if one is not None and other is not None)


def _joint_vote(both: tuple[JudgeReply, JudgeReply]) -> int:
    one, other = (reply.vote for reply in both)
    return one if one is not None and one == other else 0


def position_bias(pairs: Sequence[Pair], judged: Sequence[JudgedPair]) -> PositionBias | None:
    """What the order does, over pairs that were asked about; None: no pair has a readable reply in both orders.

    A judge without bias prefers the first answer as often as the second, whatever the answers are, since each pair is shown in both
    orders. Pairs judged consistently tell nothing of bias and lie at 0; the interval is that of the mean over clusters.
    """
    places, inconsistent, clusters = [], [], []
    same, clusters_of_same = [], []
    for pair, one in zip(pairs, judged, strict=True):
        both = complete_repeats(one.replies)
        if not both:
            continue
        clusters.append(pair.cluster)
        places.append(_mean([reply.place or 0 for repeat in both for reply in repeat]))
        inconsistent.append(_mean([a.vote != b.vote for a, b in both]))
        decided = [a.vote == b.vote for a, b in both if a.vote and b.vote]
        if decided:
            same.append(_mean(decided))
            clusters_of_same.append(pair.cluster)
    if not places:
        return None
    return PositionBias(
        first=as_win_rate(difference_interval(places, clusters)),
        inconsistent=mean_interval(inconsistent, clusters),
        same_answer=mean_interval(same, clusters_of_same) if same else None,
    )


def flip_rate(pairs: Sequence[Pair], judged: Sequence[JudgedPair]) -> FlipRate | None:
    """How often two replies to one question differ; None: no question has two readable replies."""
    rates, clusters = [], []
    num_questions = 0
    for pair, one in zip(pairs, judged, strict=True):
        picks = defaultdict(list)
        for reply in one.replies:
            if reply.pick is not None:
                picks[reply.order].append(reply.pick)
        repeated = [found for found in picks.values() if len(found) > 1]
        num_questions += len(repeated)
        if repeated:
            rates.append(_mean([_mean([a != b for a, b in combinations(found, 2)]) for found in repeated]))
            clusters.append(pair.cluster)
    return FlipRate(rate=mean_interval(rates, clusters), num_questions=num_questions) if rates else None


def length_preference(
    pairs: Sequence[Pair], judged: Sequence[JudgedPair], people: Mapping[str, float], fitted: Interval | None
) -> LengthPreference | None:
    """How often the longer answer wins where nothing else seems to tell the two apart.

    Args:
        pairs: What was judged.
        judged: What came of it, in the same order.
        people: People's preference by example, in [0, 1]; may be empty.
        fitted: How often the longer one wins by regression over all pairs, taken where neither people nor graders say of
            20 pairs that they see no difference; None: there is no fit.
    """
    of_people = [abs(people.get(pair.example_id, 1.0) - 0.5) < _TIE for pair in pairs]
    of_graders = [pair.score_difference is not None and abs(pair.score_difference) <= NO_DIFFERENCE for pair in pairs]
    for basis, are_alike in ((LengthBasis.PEOPLE, of_people), (LengthBasis.GRADERS, of_graders)):
        votes, clusters = [], []
        for pair, one, is_alike in zip(pairs, judged, are_alike, strict=True):
            if is_alike and one.preference is not None and not pair.is_equal and pair.length_difference != 0:
                votes.append((2 * one.preference - 1) * (1 if pair.length_difference > 0 else -1))
                clusters.append(pair.cluster)
        if len(votes) >= MIN_PAIRS_OF_LIKE_QUALITY:
            interval = as_win_rate(difference_interval(votes, clusters))
            return LengthPreference(longer_wins=interval, basis=basis, num_pairs=len(votes))
    against = _not_better(pairs, judged, people)
    if against is not None:
        return against
    if fitted is None:
        return None
    num_judged = sum(one.preference is not None for one in judged)
    return LengthPreference(longer_wins=fitted, basis=LengthBasis.MODEL, num_pairs=num_judged)


def _not_better(
    pairs: Sequence[Pair], judged: Sequence[JudgedPair], people: Mapping[str, float]
) -> LengthPreference | None:
    """A preference for the longer answer where people, or else graders, find it no better; None: there is none that is sure.

    A judge without it prefers the longer one of such pairs less often than not, so this shows a preference, and never the lack of
    one. It is what is left where one contender's answers are nearly always longer.
    """
    votes, clusters = [], []
    for pair, one in zip(pairs, judged, strict=True):
        if one.preference is None or pair.is_equal or pair.length_difference == 0:
            continue
        longer = 1 if pair.length_difference > 0 else -1
        merit = people[pair.example_id] - 0.5 if pair.example_id in people else pair.score_difference
        if merit is not None and longer * merit <= NO_DIFFERENCE:
            votes.append((2 * one.preference - 1) * longer)
            clusters.append(pair.cluster)
    if len(votes) < MIN_PAIRS_OF_LIKE_QUALITY:
        return None
    interval = as_win_rate(difference_interval(votes, clusters))
    if interval.low <= 0.5:
        return None
    return LengthPreference(longer_wins=interval, basis=LengthBasis.NOT_BETTER, num_pairs=len(votes))


def share_of_ties(judged: Sequence[JudgedPair]) -> float | None:
    """Share of readable replies that are ties; None: none is readable."""
    counts = Counter(reply.vote for one in judged for reply in one.replies if reply.vote is not None)
    return counts[0] / counts.total() if counts else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
