import pytest

from fettle.statistics.power import detectable, num_examples_for


def test_four_times_the_examples_show_about_half() -> None:
    result = detectable(400, range(400), is_binary=True)
    assert 1500 < result.num_examples_to_halve < 1650
    assert detectable(result.num_examples_to_halve, range(400), is_binary=True).smallest_difference == pytest.approx(
        result.smallest_difference / 2, abs=1e-4
    )


def test_clusters_cost_examples() -> None:
    alone = detectable(500, range(500), is_binary=False)
    together = detectable(500, [i // 5 for i in range(500)], is_binary=False)
    assert together.design_effect == pytest.approx(1 + 4 * 0.7)
    assert (together.num_examples, together.num_clusters) == (500, 100)
    assert together.smallest_difference > 1.8 * alone.smallest_difference


def test_clusters_at_hand_stand_for_those_to_come() -> None:
    assert detectable(50, [0, 0, 1, 1], is_binary=True).num_clusters == 25


def test_more_disagreement_hides_more() -> None:
    quiet, loud = (detectable(300, range(300), is_binary=True, discordance=share) for share in (0.1, 0.4))
    assert quiet.smallest_difference < loud.smallest_difference
    steady, erratic = (detectable(300, range(300), is_binary=False, score_sd=sd) for sd in (0.1, 0.4))
    assert steady.smallest_difference < erratic.smallest_difference


@pytest.mark.parametrize("num_examples", [1, 2, 3, 12])
def test_tiny_splits_have_an_answer(num_examples: int) -> None:
    result = detectable(num_examples, range(num_examples), is_binary=True)
    assert 0.3 < result.smallest_difference <= 1.0
    assert result.num_examples_to_halve > num_examples


def test_number_of_examples_is_the_smallest_that_suffices() -> None:
    needed = num_examples_for(0.05, range(100), is_binary=False, score_sd=0.3)
    enough, too_few = (
        detectable(number, range(100), is_binary=False, score_sd=0.3).smallest_difference
        for number in (needed, needed - 1)
    )
    assert enough <= 0.05 + 1e-6 < too_few + 1e-5


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples"):
        detectable(0, [], is_binary=True)
    with pytest.raises(ValueError, match="not in"):
        detectable(10, range(10), is_binary=True, discordance=1.5)
    with pytest.raises(ValueError, match="binary"):
        detectable(10, range(10), is_binary=True, score_sd=0.2)
    with pytest.raises(ValueError, match="power"):
        detectable(10, range(10), is_binary=True, power=1.0)
    with pytest.raises(ValueError, match="difference"):
        num_examples_for(0.0, range(10), is_binary=True)
