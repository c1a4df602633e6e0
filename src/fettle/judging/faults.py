"""What is wrong with a judge, by name, from its figures."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.judging.records import FaultKind, JudgeFault, LengthPreference, PositionBias, ReplyCounts
from fettle.records import Interval
from fettle.statistics.agreement import AgreementWithPeople, JudgeAgreement

MANY_UNREADABLE, MOST_UNREADABLE = 0.05, 0.5
"""Shares of replies above which unreadable ones are worth a word, and above which the rest are no sample of anything."""
NEARLY_ALL_TIES = 0.95
MIN_REPLIES = 20
"""With fewer replies a judge that prefers nothing may have met equal answers."""


def faults_of(
    position: PositionBias | None,
    length: LengthPreference | None,
    counts: ReplyCounts,
    share_of_ties: float | None,
    agreement: AgreementWithPeople | None = None,
) -> tuple[JudgeFault, ...]:
    """All that is wrong, what forbids to use the judge first.

    A judge is disqualified where its order-bound preferences outnumber those for an answer beyond chance, where it prefers nothing,
    where it agrees with people no better than chance, and where most replies cannot be read. Leanings that both orders, or the
    length-controlled win rate, allow for are told.
    """
    found = [
        *_of_replies(counts, share_of_ties),
        *_of_position(position),
        *_of_people(agreement),
        *_of_length(length),
    ]
    return tuple(sorted(found, key=lambda fault: not fault.is_disqualifying))


def _of_replies(counts: ReplyCounts, share_of_ties: float | None) -> Iterator[JudgeFault]:
    num_replies = counts.num_readable + counts.num_unreadable
    share = counts.num_unreadable / num_replies if num_replies else 0.0
    if share > MANY_UNREADABLE:
        yield JudgeFault(
            kind=FaultKind.UNREADABLE,
            is_disqualifying=share > MOST_UNREADABLE,
            evidence=f"{counts.num_unreadable:,} of {num_replies:,} replies",
        )
    if share_of_ties is not None and share_of_ties >= NEARLY_ALL_TIES and counts.num_readable >= MIN_REPLIES:
        yield JudgeFault(
            kind=FaultKind.NEVER_PREFERS,
            is_disqualifying=True,
            evidence=f"{100 * share_of_ties:.0f} % of its verdicts are ties, which does not mean that the answers are alike",
        )


def _of_position(position: PositionBias | None) -> Iterator[JudgeFault]:
    if position is None:
        return
    same, first = position.same_answer, position.first
    follows_order = same is not None and same.high < 0.5
    if first.low > 0.5 or first.high < 0.5:
        yield JudgeFault(
            kind=FaultKind.PREFERS_FIRST if first.low > 0.5 else FaultKind.PREFERS_SECOND,
            is_disqualifying=follows_order,
            evidence=f"it prefers the answer shown first in {_percent(first)} of replies, and without bias it would be 50 %",
        )
    if same is not None and same.low <= 0.5 and not (follows_order and (first.low > 0.5 or first.high < 0.5)):
        yield JudgeFault(
            kind=FaultKind.LIKE_A_COIN,
            is_disqualifying=follows_order,
            evidence=f"with a preference in both orders, it is for the same answer in {_percent(same)} of pairs; by coin: 50 %",
        )


def _of_people(agreement: AgreementWithPeople | None) -> Iterator[JudgeFault]:
    if agreement is None or agreement.decision is JudgeAgreement.BETTER_THAN_CHANCE:
        return
    is_no_better = agreement.decision is JudgeAgreement.NO_BETTER_THAN_CHANCE
    kappa, num_pairs, more = agreement.kappa, agreement.num_examples, agreement.num_more_examples
    wanted = "" if more is None else f"; votes on about {more:,} more would probably tell"
    yield JudgeFault(
        kind=FaultKind.NOT_LIKE_PEOPLE if is_no_better else FaultKind.PEOPLE_CANNOT_TELL,
        is_disqualifying=is_no_better,
        evidence=f"Cohen's kappa is {kappa.estimate:z.2f} ({kappa.low:z.2f} to {kappa.high:z.2f}) on {num_pairs:,} pairs; "
        f"by chance it is 0{wanted}",
    )


def _of_length(length: LengthPreference | None) -> Iterator[JudgeFault]:
    if length is None or length.longer_wins.low <= 0.5 <= length.longer_wins.high:
        return
    is_longer = length.longer_wins.estimate > 0.5
    yield JudgeFault(
        kind=FaultKind.PREFERS_LONGER if is_longer else FaultKind.PREFERS_SHORTER,
        is_disqualifying=False,
        evidence=f"the longer answer wins {_percent(length.longer_wins)} of pairs ({length.basis.value}): read the "
        "length-controlled win rate",
    )


def _percent(interval: Interval) -> str:
    return f"{100 * interval.estimate:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
