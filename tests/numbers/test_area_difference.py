"""The interval of the difference of two areas: its standard error is that of resampling, and it covers the truth."""

from __future__ import annotations

import numpy as np
import pytest

from fettle.routing.choice import Pairs, area_difference, curve_area


def drawn(rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray, Pairs]:
    """Two measures, the second one noisier, both rounded so that there are ties."""
    chance = rng.random(num)
    scores = (rng.random(num) < chance).astype(float), (rng.random(num) < 0.9).astype(float)
    one = np.round(chance + 0.1 * rng.standard_normal(num), 1)
    other = np.round(chance + 0.4 * rng.standard_normal(num), 1)
    return one, other, Pairs(small=scores[0], large=scores[1], clusters=tuple(range(num)))


def test_the_estimate_is_the_difference_of_the_areas() -> None:
    one, other, pairs = drawn(np.random.default_rng(1), 60)
    found = area_difference(one, other, pairs)
    areas = [curve_area(confidence, pairs.small, pairs.large) for confidence in (one, other)]
    assert found.estimate == pytest.approx(areas[0] - areas[1], abs=1e-12)
    assert found.low < found.estimate < found.high


def test_it_covers_the_true_difference_and_is_not_wider_than_it_has_to_be() -> None:
    rng = np.random.default_rng(2)
    one, other, pairs = drawn(rng, 200_000)
    truth = area_difference(one, other, pairs).estimate
    intervals = [area_difference(*drawn(rng, 150)) for _ in range(1_000)]
    covered = np.mean([each.low <= truth <= each.high for each in intervals])
    assert 0.93 <= covered <= 0.985
    spread = np.std([each.estimate for each in intervals])
    assert np.mean([each.high - each.low for each in intervals]) == pytest.approx(2 * 1.96 * spread, rel=0.2)
