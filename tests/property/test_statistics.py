from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.statistics.clusters import design_effect, index_groups
from fettle.statistics.compare import ScoredArm, compare
from fettle.statistics.intervals import difference_interval, mean_interval, paired_difference
from fettle.statistics.multiplicity import holm
from fettle.statistics.win_rate import win_rate

score = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
Rows = Sequence[tuple[float, float, int]]
rows = st.lists(st.tuples(score, score, st.integers(0, 6)), min_size=1, max_size=40)


def columns(values: Rows) -> tuple[list[float], list[float], list[int]]:
    return [row[0] for row in values], [row[1] for row in values], [row[2] for row in values]


@given(rows)
def test_win_rates_of_two_arms_add_up_to_one_and_mirror(values: Rows) -> None:
    ours, theirs, ids = columns(values)
    one, other = win_rate(ours, theirs, ids), win_rate(theirs, ours, ids)
    assert one.interval.estimate + other.interval.estimate == pytest.approx(1)
    assert one.interval.low + other.interval.high == pytest.approx(1)
    assert one.interval.high + other.interval.low == pytest.approx(1)
    assert (one.num_wins, one.num_ties, one.num_losses) == (other.num_losses, other.num_ties, other.num_wins)


@given(rows)
def test_differences_mirror(values: Rows) -> None:
    ours, theirs, ids = columns(values)
    one, other = paired_difference(ours, theirs, ids), paired_difference(theirs, ours, ids)
    assert (one.estimate, one.low, one.high) == pytest.approx((-other.estimate, -other.high, -other.low))


@given(rows)
def test_intervals_hold_their_estimate_and_are_never_points(values: Rows) -> None:
    ours, theirs, ids = columns(values)
    mean, difference = mean_interval(ours, ids), paired_difference(ours, theirs, ids)
    assert 0 <= mean.low <= mean.estimate <= mean.high <= 1
    assert -1 <= difference.low <= difference.estimate <= difference.high <= 1
    assert mean.high > mean.low
    assert difference.high > difference.low


@given(rows, st.randoms(use_true_random=False))
def test_order_of_examples_and_names_of_clusters_do_not_matter(values: Rows, random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    ours, theirs, ids = columns(values)
    ours_2, theirs_2, ids_2 = columns(shuffled)
    renamed = [1000 - 7 * cluster for cluster in ids_2]
    one, other = paired_difference(ours, theirs, ids), paired_difference(ours_2, theirs_2, renamed)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))
    one, other = mean_interval(ours, ids), mean_interval(ours_2, renamed)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


@given(rows)
def test_groups_partition_the_examples(values: Rows) -> None:
    ids = columns(values)[2]
    positions = [int(index) for group in index_groups(ids) for index in group]
    assert sorted(positions) == list(range(len(ids)))
    assert all(len({ids[index] for index in group}) == 1 for group in index_groups(ids))


@given(rows)
def test_design_effect_is_between_one_and_the_size_of_the_largest_cluster(values: Rows) -> None:
    ours, _, ids = columns(values)
    assert 1 <= design_effect(ours, ids) <= max(ids.count(cluster) for cluster in ids) + 1e-9


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    ranks = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in ranks] == sorted(adjusted)


@settings(max_examples=50)
@given(rows.filter(lambda values: len(values) <= 14), st.booleans())
def test_comparisons_swap(values: Rows, is_binary: bool) -> None:
    ours, theirs, ids = columns([(round(a), round(b), c) for a, b, c in values] if is_binary else values)
    one, other = (
        ScoredArm(name=name, scores=tuple(scores), is_binary=is_binary) for name, scores in (("a", ours), ("b", theirs))
    )
    there, back = (compare(*arms, ids, is_primary=True, seed=1) for arms in ((one, other), (other, one)))
    assert there.p_value == pytest.approx(back.p_value)
    assert 0 < there.p_value <= 1
    assert there.num_wins + there.num_ties + there.num_losses == there.num_pairs == len(values)


@given(st.lists(score, min_size=2, max_size=30))
def test_a_better_challenger_never_lowers_the_estimate(values: list[float]) -> None:
    baseline = [0.5] * len(values)
    better = [min(1.0, value + 0.25) for value in values]
    before, after = (paired_difference(arm, baseline, range(len(values))) for arm in (values, better))
    assert after.estimate >= before.estimate - 1e-12


@given(st.floats(-1, 1), st.integers(2, 60))
def test_one_difference_for_all_is_not_certainty(value: float, num_examples: int) -> None:
    interval = difference_interval([value] * num_examples, range(num_examples))
    assert interval.high > interval.low
