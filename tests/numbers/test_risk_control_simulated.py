"""The promises hold at the promised rate over 2,000 simulated calibrations, and are not kept by sending everything away.

An example has a confidence u, uniform in [0, 1]. The quality of the routed system at a threshold t is known in closed form, so that
each calibration can be held against the truth and not against another sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fettle.statistics.risk_control import certified_threshold, expected_threshold, mean_p_values

NUM_CALIBRATIONS, LEVEL = 2_000, 0.9
ALLOWED = 1 - LEVEL + 3 * (LEVEL * (1 - LEVEL) / NUM_CALIBRATIONS) ** 0.5  # 0.120: three standard errors above 10 %
GRID = np.concatenate([[np.inf], np.linspace(1, 0, 21)])

Draw = Callable[[np.random.Generator, NDArray[np.float64]], NDArray[np.float64]]


def right_with(chance: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Draw:
    return lambda rng, u: (rng.random(len(u)) < chance(u)).astype(float)


def graded_about(mean: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Draw:
    return lambda rng, u: rng.beta(8 * mean(u), 8 * (1 - mean(u)) + 1e-9)


def rising(u: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.3 + 0.69 * u


def flat(u: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.full_like(u, 0.88)


@dataclass(frozen=True, kw_only=True)
class World:
    """How confidence, small and large scores come about."""

    small: Draw
    large: Draw
    mean_small: Callable[[NDArray[np.float64]], NDArray[np.float64]] = rising
    mean_large: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.ones_like
    num_levels: int | None = None
    """Confidences are rounded down to so many levels; None: they are not."""

    def sample(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float64], ...]:
        u = rng.random(size)
        seen = u if self.num_levels is None else np.floor(u * self.num_levels) / self.num_levels
        return seen, self.small(rng, u), self.large(rng, u)

    def quality(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the routed system, by the midpoint rule over u."""
        u = (np.arange(4_000) + 0.5) / 4_000
        seen = u if self.num_levels is None else np.floor(u * self.num_levels) / self.num_levels
        is_small = seen[None, :] >= thresholds[:, None]
        return np.where(is_small, self.mean_small(u), self.mean_large(u)).mean(axis=1)


ORACLE = World(small=right_with(rising), large=lambda rng, u: np.ones_like(u))
TIES = World(small=right_with(rising), large=lambda rng, u: np.ones_like(u), num_levels=3)
GRADED = World(small=graded_about(rising), large=lambda rng, u: np.ones_like(u))
BETTER = World(small=right_with(rising), large=right_with(flat), mean_large=flat)
BETTER_GRADED = World(small=graded_about(rising), large=graded_about(flat), mean_large=flat)


@pytest.mark.parametrize(
    ("world", "target"),
    [(ORACLE, 0.8), (ORACLE, 0.95), (TIES, 0.9), (GRADED, 0.85)],
    ids=["oracle-0.8", "oracle-0.95", "ties-0.9", "graded-0.85"],
)
def test_against_an_oracle_each_confidence_is_a_candidate_and_the_promise_holds(world: World, target: float) -> None:
    rng = np.random.default_rng(11)
    found = [certified_threshold(*world.sample(rng, 150), target=target, level=LEVEL) for _ in range(NUM_CALIBRATIONS)]
    quality = world.quality(np.array([one.threshold for one in found]))
    is_broken = quality < target - 1e-3  # the midpoint rule is that exact
    assert is_broken.mean() <= ALLOWED
    assert quality.mean() < target + 0.08, "not by sending everything to the oracle"


@pytest.mark.parametrize(
    ("world", "target"),
    [(BETTER, 0.85), (BETTER, 0.87), (BETTER_GRADED, 0.86)],
    ids=["better-0.85", "better-0.87", "graded-0.86"],
)
def test_where_the_small_model_sometimes_knows_better_thresholds_fixed_beforehand_keep_the_promise(
    world: World, target: float
) -> None:
    rng = np.random.default_rng(12)
    thresholds = list(GRID[np.argmax(world.quality(GRID)) :])
    found = [
        certified_threshold(*world.sample(rng, 200), target=target, level=LEVEL, thresholds=thresholds)
        for _ in range(NUM_CALIBRATIONS)
    ]
    is_broken = [
        one.is_promised and quality < target - 1e-3
        for one, quality in zip(found, world.quality(np.array([one.threshold for one in found])), strict=True)
    ]
    assert np.mean(is_broken) <= ALLOWED
    assert np.mean([one.is_promised for one in found]) > 0.2, "and it is often made"


@pytest.mark.parametrize(
    ("world", "target"), [(ORACLE, 0.9), (TIES, 0.8), (GRADED, 0.8)], ids=["oracle", "ties", "graded"]
)
def test_conformal_risk_control_keeps_the_target_on_average_and_misses_it_about_every_other_time(
    world: World, target: float
) -> None:
    rng = np.random.default_rng(13)
    found = [expected_threshold(*world.sample(rng, 60), target=target).threshold for _ in range(NUM_CALIBRATIONS)]
    quality = world.quality(np.array(found))
    assert quality.mean() >= target - 3 * quality.std() / NUM_CALIBRATIONS**0.5
    if world.num_levels is None:
        assert quality.mean() <= target + 0.02, "tight"
        assert 0.2 < (quality < target).mean() < 0.6, "which is what it does not promise"


def test_the_promise_is_one_about_requests_where_the_big_clusters_are_the_hard_ones() -> None:
    # Every fifth cluster has four examples, of which the small model answers 70 % whatever its confidence; of the others 97 %.
    target, large = 0.88, 0.98
    rng, thresholds = np.random.default_rng(15), [math.inf, *stats.norm.isf(np.linspace(0.05, 0.95, 19))]
    is_broken, num_promised = [], 0
    for _ in range(300):
        is_big_G = rng.random(250) < 0.2
        clusters_N = np.repeat(np.arange(250), np.where(is_big_G, 4, 1))
        confidence_N = rng.normal(size=len(clusters_N))
        small_N = (rng.random(len(clusters_N)) < np.where(is_big_G, 0.7, 0.97)[clusters_N]).astype(float)
        large_N = (rng.random(len(clusters_N)) < large).astype(float)
        found = certified_threshold(
            confidence_N,
            small_N,
            large_N,
            target=target,
            level=LEVEL,
            thresholds=thresholds,
            clusters=clusters_N.tolist(),
        )
        share_small = float(stats.norm.sf(found.threshold))
        # Half of the examples stand in big clusters: 0.2 x 4 of 0.2 x 4 + 0.8.
        quality = share_small * (0.7 + 0.97) / 2 + (1 - share_small) * large
        is_broken.append(found.is_promised and quality < target)
        num_promised += found.is_promised and share_small > 0.2
    assert np.mean(is_broken) <= 1 - LEVEL + 3 * (LEVEL * (1 - LEVEL) / 300) ** 0.5
    assert num_promised > 150, "and it leaves something to the small model"


def test_betting_p_values_are_no_smaller_than_they_may_be_where_the_mean_is_the_target() -> None:
    rng = np.random.default_rng(14)
    for draw in (lambda: rng.beta(0.3, 0.1, (NUM_CALIBRATIONS, 120)), lambda: rng.beta(9, 3, (NUM_CALIBRATIONS, 120))):
        p_values = mean_p_values(draw(), 0.75, level=LEVEL)
        assert (p_values <= 1 - LEVEL).mean() <= ALLOWED
