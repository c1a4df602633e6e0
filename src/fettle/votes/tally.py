"""What the votes amount to: a win rate over examples with its interval, and what each person did."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fettle.records import Interval
from fettle.statistics.agreement import krippendorff_alpha
from fettle.statistics.intervals import difference_interval
from fettle.statistics.win_rate import as_win_rate
from fettle.votes.booth import votes_between, votes_on
from fettle.votes.poll import Contenders, Matchup, Poll
from fettle.votes.records import Choice, Undo, Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCounts:
    """Votes by what they say."""

    num_challenger: int
    num_baseline: int
    num_ties: int
    num_both_bad: int
    num_skipped: int

    @property
    def num_votes(self) -> int:
        """Those that count, skips left out."""
        return self.num_challenger + self.num_baseline + self.num_ties + self.num_both_bad


@dataclass(frozen=True, slots=True, kw_only=True)
class RaterTally:
    """What one person did."""

    rater: str
    counts: VoteCounts
    num_left: int
    """Of the votes for one of the answers, those for the first shown: half of them where it does not matter to this person."""
    num_right: int
    seconds_per_vote: float
    """The median, skips included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """All votes on one poll."""

    contenders: Contenders
    win_rate: Interval | None
    """Of the challenger over examples, ties as half; None: nobody has voted."""
    values_by_example: Mapping[str, tuple[int, ...]]
    """Each person's vote, skips left out: 1 for the challenger, -1 for the baseline, 0 for a tie or both bad."""
    preferences: Mapping[str, float]
    """By example: the mean of its votes; 0 where equal answers were met on the way."""
    agreement: Interval | None
    """Krippendorff's alpha: 1: all people say the same, 0: as chance would have it. None: nothing can be said of it."""
    num_shared: int
    """Examples with votes of two people or more."""
    num_judged: int
    """Examples with at least one vote."""
    num_equal: int
    """Examples with equal answers that were met on the way: ties without a vote."""
    counts: VoteCounts
    raters: tuple[RaterTally, ...]
    """Whoever has voted or skipped, the most votes first."""
    seconds_per_vote: float | None
    """The median over all votes, skips included."""
    num_outdated: int
    """Votes on answers that a later run of the study has changed, or on examples that are not asked any more: not counted."""


def tally(poll: Poll, records: tuple[Vote | Undo, ...], *, rater: str | None = None) -> Tally:
    """Count the votes.

    Each example that was judged counts once, with the mean of its votes, however many people voted on it. Everybody is asked in one
    order, so the examples up to the next that nobody has judged are a random sample of the test split; those among them
    with equal answers are ties.

    Args:
        poll: What people were asked.
        records: The lines of the file, the earliest first.
        rater: Count this person's votes alone; None: everybody's.
    """
    between = [vote for vote in votes_between(poll, records) if rater in (None, vote.rater)]
    votes = [vote for vote in votes_on(poll, records) if rater in (None, vote.rater)]
    values = _values_by_example(votes, poll.contenders)
    preferences = _preferences(poll, values, passed={vote.example_id for vote in votes})
    clusters = {matchup.example_id: matchup.cluster for matchup in poll.matchups}
    return Tally(
        contenders=poll.contenders,
        win_rate=_win_rate(preferences, clusters) if values else None,
        values_by_example=values,
        preferences=preferences,
        agreement=krippendorff_alpha(list(values.values()), [clusters[example_id] for example_id in values]),
        num_shared=sum(len(of_example) > 1 for of_example in values.values()),
        num_judged=len(values),
        num_equal=len(preferences) - len(values),
        counts=_counts(votes, poll.contenders),
        raters=_by_rater(votes, poll.contenders),
        seconds_per_vote=statistics.median(vote.seconds for vote in votes) if votes else None,
        num_outdated=len(between) - len(votes),
    )


def _values_by_example(votes: Iterable[Vote], contenders: Contenders) -> dict[str, tuple[int, ...]]:
    of_preferred = {contenders.challenger: 1, contenders.baseline: -1, None: 0}
    values: dict[str, tuple[int, ...]] = {}
    for vote in votes:
        if vote.choice is not Choice.SKIP:
            values[vote.example_id] = (*values.get(vote.example_id, ()), of_preferred[vote.preferred])
    return values


def _preferences(poll: Poll, values: Mapping[str, tuple[int, ...]], *, passed: set[str]) -> dict[str, float]:
    """By example, in the order of the poll: its mean vote, or 0 where equal answers were met on the way."""
    found: dict[str, float] = {}
    for matchup in _way(poll, passed):
        if matchup.is_equal:
            found[matchup.example_id] = 0.0
        elif matchup.example_id in values:
            found[matchup.example_id] = statistics.fmean(values[matchup.example_id])
    return found


def _way(poll: Poll, passed: set[str]) -> Sequence[Matchup]:
    """The examples up to the first that people are asked about after the last one that somebody has passed."""
    places = [place for place, matchup in enumerate(poll.matchups) if matchup.example_id in passed]
    if not places:
        return ()
    later = range(places[-1] + 1, len(poll.matchups))
    end = next((place for place in later if not poll.matchups[place].is_equal), len(poll.matchups))
    return poll.matchups[:end]


def _win_rate(preferences: Mapping[str, float], clusters: Mapping[str, int]) -> Interval:
    values, of_values = list(preferences.values()), [clusters[example_id] for example_id in preferences]
    return as_win_rate(difference_interval(values, of_values))


def _counts(votes: Iterable[Vote], contenders: Contenders) -> VoteCounts:
    votes = tuple(votes)
    preferred = Counter(vote.preferred for vote in votes)
    choices = Counter(vote.choice for vote in votes)
    return VoteCounts(
        num_challenger=preferred[contenders.challenger],
        num_baseline=preferred[contenders.baseline],
        num_ties=choices[Choice.TIE],
        num_both_bad=choices[Choice.BOTH_BAD],
        num_skipped=choices[Choice.SKIP],
    )


def _by_rater(votes: Sequence[Vote], contenders: Contenders) -> tuple[RaterTally, ...]:
    by_rater: dict[str, list[Vote]] = {}
    for vote in votes:
        by_rater.setdefault(vote.rater, []).append(vote)
    tallies = [
        RaterTally(
            rater=rater,
            counts=_counts(own, contenders),
            num_left=sum(vote.choice is Choice.LEFT for vote in own),
            num_right=sum(vote.choice is Choice.RIGHT for vote in own),
            seconds_per_vote=statistics.median(vote.seconds for vote in own),
        )
        for rater, own in by_rater.items()
    ]
    return tuple(sorted(tallies, key=lambda one: (-one.counts.num_votes, one.rater)))
