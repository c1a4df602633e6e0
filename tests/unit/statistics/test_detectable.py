import pytest

from fettle.statistics.detectable import detectable_difference
from fettle.statistics.power import detectable, num_examples_for


def test_scores_are_those_of_the_power_calculation() -> None:
    result = detectable_difference(300, range(300), is_binary=True)
    assert result.of_scores == detectable(300, range(300), is_binary=True)
    assert result.rows_needed[0].num_for_scores == num_examples_for(0.05, range(300), is_binary=True)


def test_the_rows_needed_suffice() -> None:
    for needed in detectable_difference(100, range(100), is_binary=True).rows_needed:
        enough = detectable_difference(needed.num_for_win_rate, range(100), is_binary=True)
        assert enough.smallest_win_rate == pytest.approx(0.5 + needed.difference, abs=1e-3)


def test_three_points_take_more_than_five_and_clusters_more_than_single_rows() -> None:
    alone = detectable_difference(300, range(300), is_binary=False)
    together = detectable_difference(300, [row // 5 for row in range(300)], is_binary=False)
    five, three = alone.rows_needed
    assert (five.difference, three.difference) == (0.05, 0.03)
    assert three.num_for_scores > 2.5 * five.num_for_scores
    ratio = together.rows_needed[1].num_for_scores / three.num_for_scores
    assert ratio == pytest.approx(together.of_scores.design_effect, rel=0.1)
    assert together.smallest_win_rate > alone.smallest_win_rate


def test_more_ties_make_a_win_rate_easier_to_find() -> None:
    few, many = (detectable_difference(200, range(200), is_binary=True, decided_share=share) for share in (1.0, 0.4))
    assert many.smallest_win_rate < few.smallest_win_rate


def test_nothing_to_test_is_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        detectable_difference(0, [], is_binary=True)
