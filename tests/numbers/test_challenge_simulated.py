"""A canary that is no better and no worse, looked at daily: how often it is promoted or stopped; and how soon a real one is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.releases.challenge import Challenge, ChallengeKind, weighed_outcomes
from fettle.statistics.anytime import Against, log_evidence_at_looks

NUM_RUNS, NUM_DAYS, A_DAY = 2000, 30, 40
SHAPE = (NUM_RUNS, NUM_DAYS * A_DAY)
LOOKS = range(A_DAY, SHAPE[1] + 1, A_DAY)
BAR = math.log(2 / 0.05)


def canary(share: float, expected_score: float) -> Challenge:
    return Challenge(name="triage", challenger=2, kind=ChallengeKind.CANARY, share=share, expected_score=expected_score)


def decided(
    challenge: Challenge, is_challenger: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """At each look of each run: whether the challenger would be promoted, and whether it would be stopped."""
    weighed, bounds = weighed_outcomes(challenge, is_challenger, scores)
    better = log_evidence_at_looks(weighed, LOOKS, 0.0, Against.AT_MOST, bounds=bounds)
    worse = log_evidence_at_looks(weighed, LOOKS, 0.0, Against.AT_LEAST, bounds=bounds)
    return better >= BAR, worse >= BAR


@pytest.mark.parametrize(("share", "expected"), [(0.1, 0.9), (0.1, 0.5), (0.5, 0.9)])
def test_a_challenger_that_is_the_incumbent_is_decided_on_in_at_most_five_percent_of_the_runs(
    share: float, expected: float
) -> None:
    """Thumbs that are up nine times of ten in the morning and six times of ten in the evening."""
    rng = np.random.default_rng(11)
    is_challenger = rng.random(SHAPE) < share
    is_evening = np.arange(SHAPE[1]) % A_DAY >= A_DAY // 2
    scores = (rng.random(SHAPE) < np.where(is_evening, 0.6, 0.9)).astype(float)
    promoted, stopped = decided(canary(share, expected), is_challenger, scores)
    assert (promoted | stopped).any(axis=-1).mean() <= 0.05


@pytest.mark.parametrize("gain", [-0.3, 0.25])
def test_a_challenger_that_is_another_is_found_out(gain: float) -> None:
    """Of ten answers three fewer are liked, or two or three more, with a fifth of the conversations: half know in two weeks."""
    rng = np.random.default_rng(12)
    some = (300, SHAPE[1])
    is_challenger = rng.random(some) < 0.2
    scores = (rng.random(some) < np.where(is_challenger, 0.7 + gain, 0.7)).astype(float)
    promoted, stopped = decided(canary(0.2, 0.7), is_challenger, scores)
    right, wrong = (promoted, stopped) if gain > 0 else (stopped, promoted)
    assert not wrong.any()
    assert right.any(axis=-1).mean() > 0.95
    assert np.median(right.argmax(axis=-1) + 1) <= 14
