"""The figures about a judge: by hand on a few pairs, and over many simulated studies for what intervals and names promise."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.judging.bias import flip_rate, judged_pair, length_preference, position_bias
from fettle.judging.faults import faults_of
from fettle.judging.records import FaultKind, JudgedPair, JudgeReply, LengthBasis, Order, Pair, ReplyCounts
from fettle.judging.reply import Pick

F, S, T = Pick.FIRST, Pick.SECOND, Pick.TIE
COUNTS = ReplyCounts(num_questions=100, num_readable=100, num_unreadable=0, num_failed=0, failures={})


def pair(number: int, *, cluster: int | None = None, longer_by: int = 0, score_difference: float | None = 0.0) -> Pair:
    return Pair(
        example_id=str(number),
        asked="",
        challenger="c" * (50 + longer_by),
        baseline="b" * 50,
        is_equal=False,
        cluster=number if cluster is None else cluster,
        score_difference=score_difference,
    )


def said(one: Pair, *repeats: tuple[Pick | None, Pick | None]) -> JudgedPair:
    """The pair with the picks of each repeat: with the challenger shown first, and with the baseline shown first."""
    replies = [
        JudgeReply(order=order, repeat=number, pick=pick, reason="")
        for number, picks in enumerate(repeats)
        for order, pick in zip(Order, picks, strict=True)
    ]
    return judged_pair(one, replies)


def test_the_two_orders_make_one_preference() -> None:
    preference = {
        picks: said(pair(0), picks).preference for picks in [(F, S), (S, F), (T, T), (F, F), (S, S), (F, T), (None, F)]
    }
    assert preference == {(F, S): 1, (S, F): 0, (T, T): 0.5, (F, F): 0.5, (S, S): 0.5, (F, T): 0.5, (None, F): None}
    # Three repeats: a win, an order that decides, one that cannot be read: (1 + 1/2) / 2.
    assert said(pair(0), (F, S), (F, F), (None, S)).preference == 0.75


def test_position_by_hand() -> None:
    pairs = [pair(number) for number in range(5)]
    # Places, first 1 and second -1: (F, S) 0, (F, F) 1, (S, S) -1, (F, T) 1/2, unreadable: left out. Their mean is 1/8.
    judged = [said(one, picks) for one, picks in zip(pairs, [(F, S), (F, F), (S, S), (F, T), (None, F)], strict=True)]
    found = position_bias(pairs, judged)
    assert found is not None
    assert found.first.estimate == pytest.approx((1 + 1 / 8) / 2)
    assert found.inconsistent.estimate == pytest.approx(3 / 4)
    assert found.same_answer is not None
    assert found.same_answer.estimate == pytest.approx(1 / 3), "of (F, S), (F, F) and (S, S) one is for the same answer"
    assert position_bias(pairs[4:], judged[4:]) is None


def test_flips_by_hand() -> None:
    pairs = [pair(0), pair(1), pair(2)]
    # Challenger first: F, F, S has 2 of 3 pairs of replies that differ; baseline first: S, S, S none: 1/3. The second pair: one of
    # two questions differs: 1/2. The third was asked once. (1/3 + 1/2) / 2 = 5/12.
    judged = [said(pairs[0], (F, S), (F, S), (S, S)), said(pairs[1], (F, T), (T, T)), said(pairs[2], (F, S))]
    found = flip_rate(pairs, judged)
    assert found is not None
    assert found.rate.estimate == pytest.approx(5 / 12)
    assert found.num_questions == 4
    assert flip_rate(pairs[2:], judged[2:]) is None


def test_length_by_hand() -> None:
    # 24 pairs that graders find alike: the longer answer wins 12, ties 6, loses 6: 15/24. Others do not count.
    pairs = [pair(number, longer_by=10 if number % 2 else -10, score_difference=0.02) for number in range(24)]
    longer, shorter = ((F, S), (S, F)), ((S, F), (F, S))  # for the challenger longer, and for the baseline longer
    picks = [
        longer[number % 2 == 0] if number < 12 else (T, T) if number < 18 else shorter[number % 2 == 0]
        for number in range(24)
    ]
    more = [pair(100, longer_by=9, score_difference=0.03), pair(101), pair(102, longer_by=9, score_difference=None)]
    judged = [said(one, both) for one, both in zip([*pairs, *more], [*picks, (F, S), (F, S), (F, S)], strict=True)]
    found = length_preference([*pairs, *more], judged, {}, None)
    assert found is not None
    assert (found.basis, found.num_pairs) == (LengthBasis.GRADERS, 24)
    assert found.longer_wins.estimate == pytest.approx(15 / 24)
    assert length_preference(pairs[:5], judged[:5], {}, None) is None, "five pairs tell nothing"


class SimulatedJudge:
    """Sees the difference in quality, which the pairs of a cluster mostly share, through noise; leans to the first by `bias`."""

    def __init__(self, *, bias: float, noise: float = 1.0) -> None:
        self.bias, self.noise = bias, noise

    def places(self, num_clusters: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """1 for the answer shown first, -1 for the second, 0 for a tie: [2 orders, pairs]."""
        of_cluster = np.repeat(rng.normal(size=num_clusters), size)
        quality = np.sqrt(0.7) * of_cluster + np.sqrt(0.3) * rng.normal(size=num_clusters * size)
        seen = np.stack([quality, -quality]) + self.bias + self.noise * rng.normal(size=(2, num_clusters * size))
        return np.where(np.abs(seen) < 0.3, 0, np.sign(seen)).astype(int)

    def study(self, num_clusters: int, size: int, rng: np.random.Generator) -> tuple[list[Pair], list[JudgedPair]]:
        pairs = [
            pair(number, cluster=number // size, longer_by=int(rng.integers(-40, 41)))
            for number in range(num_clusters * size)
        ]
        picks = {1: F, -1: S, 0: T}
        places = self.places(num_clusters, size, rng)
        return pairs, [said(one, (picks[a], picks[b])) for one, a, b in zip(pairs, *places.tolist(), strict=True)]


@pytest.mark.parametrize(("num_clusters", "size"), [(40, 1), (120, 1), (40, 5)])
@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_the_share_of_first_is_covered_in_93_to_97_percent_of_studies(
    num_clusters: int, size: int, bias: float
) -> None:
    rng = np.random.default_rng(num_clusters * size + int(10 * bias))
    judge = SimulatedJudge(bias=bias)
    truth = (1 + judge.places(400_000, 1, rng).mean()) / 2 if bias else 0.5
    found = [position_bias(*judge.study(num_clusters, size, rng)) for _ in range(500)]
    covered = np.mean([one is not None and one.first.low <= truth <= one.first.high for one in found])
    # 500 studies: a standard error of 1 point, so that 93 to 97 shows as 91 to 99.
    assert 0.91 < covered < 0.99


def test_a_fair_judge_is_seldom_called_biased_and_a_biased_one_always() -> None:
    rng = np.random.default_rng(7)

    def named(judge: SimulatedJudge) -> list[set[FaultKind]]:
        studies = []
        for _ in range(300):
            pairs, judged = judge.study(100, 1, rng)
            position, length = position_bias(pairs, judged), length_preference(pairs, judged, {}, None)
            faults = faults_of(position, length, COUNTS, share_of_ties=0.1)
            studies.append({fault.kind for fault in faults})
            assert not any(fault.is_disqualifying for fault in faults)
        return studies

    of_fair, of_leaning = named(SimulatedJudge(bias=0.0)), named(SimulatedJudge(bias=0.5))
    either = {FaultKind.PREFERS_FIRST, FaultKind.PREFERS_SECOND}
    # At the 5 % level, with a standard error of 1.3 points.
    assert np.mean([bool(kinds & either) for kinds in of_fair]) < 0.09
    assert np.mean([bool(kinds & {FaultKind.PREFERS_LONGER, FaultKind.PREFERS_SHORTER}) for kinds in of_fair]) < 0.09
    assert np.mean([FaultKind.PREFERS_FIRST in kinds for kinds in of_leaning]) > 0.9


def test_a_judge_that_mostly_follows_the_order_is_disqualified() -> None:
    rng = np.random.default_rng(8)
    disqualified = []
    for _ in range(100):
        pairs, judged = SimulatedJudge(bias=4.0).study(60, 1, rng)
        [fault, *_] = faults_of(position_bias(pairs, judged), None, COUNTS, share_of_ties=0.0)
        disqualified.append(fault.is_disqualifying and fault.kind is FaultKind.PREFERS_FIRST)
    assert all(disqualified)
