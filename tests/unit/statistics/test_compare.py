import dataclasses

import pytest

from fettle.errors import DataError
from fettle.statistics.compare import ScoredArm, compare, unscored_bounds, with_holm


def arm(*scores: float | None, name: str = "tuned", is_binary: bool = True) -> ScoredArm:
    return ScoredArm(name=name, scores=scores, is_binary=is_binary)


def test_pairs_with_an_unscored_side_are_left_out_and_counted() -> None:
    comparison = compare(
        arm(1.0, None, 1.0, 0.0, 1.0), arm(0.0, 1.0, None, 0.0, 1.0, name="prompt"), range(5), is_primary=True, seed=1
    )
    assert (comparison.num_pairs, comparison.num_pairs_unscored) == (3, 2)
    assert (comparison.num_wins, comparison.num_ties, comparison.num_losses) == (1, 2, 0)
    assert comparison.difference.estimate == pytest.approx(1 / 3)
    assert comparison.win_rate.estimate == pytest.approx(2 / 3)
    assert (comparison.challenger, comparison.baseline) == ("tuned", "prompt")


def test_one_graded_arm_makes_a_graded_comparison() -> None:
    comparison = compare(arm(1.0, 0.0), arm(0.5, 0.0, is_binary=False), [0, 1], is_primary=False, seed=1)
    assert "sign-flip" in comparison.p_value_method


def test_nothing_scored_is_the_users_to_mend() -> None:
    with pytest.raises(DataError, match="could be scored"):
        compare(arm(None, 1.0), arm(1.0, None), [0, 1], is_primary=True, seed=1)


def test_arms_about_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="same examples"):
        compare(arm(1.0), arm(1.0, 0.0), [0], is_primary=True, seed=1)


def test_holm_adjusts_the_secondary_comparisons_only() -> None:
    one = compare(arm(*[1.0] * 6), arm(*[0.0] * 6), range(6), is_primary=True, seed=1)
    other, third = (dataclasses.replace(one, is_primary=False, p_value=p_value) for p_value in (0.02, 0.5))
    assert [result.p_value_adjusted for result in with_holm([other, one, third])] == [0.04, 0.03125, 0.5]
    assert with_holm([]) == ()


def test_bounds_take_unscored_answers_at_their_worst() -> None:
    bounds = unscored_bounds(arm(None, 1.0, 1.0), arm(1.0, None, 1.0), range(3))
    assert bounds.against_challenger.estimate == pytest.approx(-1 / 3)
    assert bounds.for_challenger.estimate == pytest.approx(1 / 3)
