"""What twice the examples would bring, on simulated curves whose truth is known."""

import numpy as np
import pytest
from simulated_arms import two_errors

from fettle.statistics.learning_curve import LARGEST_EXPONENT, learning_curve
from fettle.tuning_records import CurveOutcome, LearningCurve

SIZES = (250, 500, 1000)
RUN_SD = 0.01


def curves(
    seed: int,
    num_studies: int,
    *,
    error: float,
    exponent: float,
    floor: float,
    cluster_size: int = 1,
    true_run_sd: float = RUN_SD,
) -> list[LearningCurve]:
    """Of 150 clusters of right-or-wrong answers; `error` is that at the largest size, `floor` the part of it that stays.

    Each training has luck of its own; the same question is hard for all three models in six of ten cases.
    """
    generator = np.random.default_rng(seed)
    ids = np.repeat(np.arange(150), cluster_size)
    reducible = (1 - floor) * error * (np.array(SIZES) / SIZES[-1]) ** -exponent
    found = []
    for _ in range(num_studies):
        errors = np.clip(floor * error + reducible + generator.normal(0, true_run_sd, 3), 0, 1)
        hardness, own = generator.random(150), generator.random((3, 150))
        of_cluster = np.where(generator.random((3, 150)) < 0.6, hardness, own)[:, ids]
        copies = (generator.random(len(ids)) < np.sqrt(0.7)) | (cluster_size == 1)
        right = np.where(copies, of_cluster, generator.random((3, len(ids)))) > errors[:, None]
        scores = [(size, row.astype(float).tolist()) for size, row in zip(SIZES, right, strict=True)]
        found.append(learning_curve(scores, ids.tolist(), seed=1, run_sd=RUN_SD))
    return found


@pytest.mark.parametrize(
    ("error", "exponent", "floor"),
    [(0.2, 0.05, 0.0), (0.2, 0.2, 0.0), (0.4, 0.4, 0.0), (0.2, 0.5, 0.5), (0.4, 1.0, 0.6), (0.4, 0.5, 0.85)],
)
def test_the_true_gain_lies_in_the_interval(error: float, exponent: float, floor: float) -> None:
    """The gain is (1 - floor) error (1 - 2^-exponent); limits allow for any floor, so they hold it in more than 95 %."""
    gain = (1 - floor) * error * (1 - 2**-exponent)
    found = [each.gain for each in curves(1, 80, error=error, exponent=exponent, floor=floor)]
    covered = np.mean([each is not None and each.low <= gain <= each.high for each in found])
    assert covered >= 0.95 - two_errors(0.95, 80), covered


def test_the_true_gain_lies_in_the_interval_when_rows_come_in_clusters() -> None:
    gain = 0.5 * 0.3 * (1 - 2**-0.5)
    found = [each.gain for each in curves(2, 80, error=0.3, exponent=0.5, floor=0.5, cluster_size=5)]
    covered = np.mean([each is not None and each.low <= gain <= each.high for each in found])
    assert covered >= 0.95 - two_errors(0.95, 80), covered


def test_more_luck_than_assumed_shows_in_the_scatter_and_widens_the_interval() -> None:
    gain = 0.3 * (1 - 2**-0.3)
    found = [each.gain for each in curves(6, 80, error=0.3, exponent=0.3, floor=0.0, true_run_sd=3 * RUN_SD)]
    covered = np.mean([each is not None and each.low <= gain <= each.high for each in found])
    assert covered >= 0.93 - two_errors(0.93, 80), covered


def test_a_steep_curve_is_seen_and_a_flat_one_is_not_said_to_rise() -> None:
    steep = curves(3, 40, error=0.3, exponent=0.5, floor=0.2)
    assert np.mean([each.outcome is CurveOutcome.MORE_HELPS for each in steep]) > 0.8
    flat = curves(4, 150, error=0.3, exponent=0.0, floor=0.0)
    assert np.mean([each.outcome is CurveOutcome.MORE_HELPS for each in flat]) <= 0.025 + two_errors(0.025, 150)


def test_the_exponent_is_found_where_nothing_hides_it() -> None:
    """Graded scores of 20,000 rows without luck or floor: the lower limit is 0.3 itself; floors would make it larger."""
    generator = np.random.default_rng(5)
    errors = 0.2 * (np.array(SIZES) / 1000) ** -0.3
    hardness = generator.normal(0, 0.02, 20_000)
    scores = [(size, np.clip(1 - error + hardness, 0, 1).tolist()) for size, error in zip(SIZES, errors, strict=True)]
    ids = [row // 50 for row in range(20_000)]
    curve = learning_curve(scores, ids, seed=1, run_sd=0.0)
    assert curve.exponent is not None
    assert curve.gain is not None
    assert curve.exponent.low == pytest.approx(0.3, abs=0.01)
    assert curve.exponent.high <= LARGEST_EXPONENT
    assert curve.gain.low <= 0.2 * (1 - 2**-0.3) * 1.01
    assert curve.gain.high >= 0.2 * (1 - 2**-0.3) * 0.99
