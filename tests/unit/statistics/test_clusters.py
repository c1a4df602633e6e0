import math

import numpy as np
import pytest

from fettle.statistics.clusters import (
    assumed_design_effect,
    cluster_totals,
    design_effect,
    effective_sample_size,
    index_groups,
    intra_cluster_correlation,
    pooled_variance_of_mean,
)


def test_groups_hold_every_position_once_in_order_of_their_ids() -> None:
    assert [group.tolist() for group in index_groups([5, -2, 5, 0])] == [[1], [3], [0, 2]]
    assert index_groups([]) == ()


def test_totals_go_with_sizes() -> None:
    sums = cluster_totals([0.5, 1.0, 0.25], [9, 4, 9])
    assert (sums.totals.tolist(), sums.sizes.tolist()) == ([1.0, 0.75], [1.0, 2.0])
    assert (sums.num_clusters, sums.num_examples) == (2, 3)


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], [1, 2]), ([math.nan], [1])])
def test_unusable_values_are_refused(values: list[float], clusters: list[int]) -> None:
    with pytest.raises(ValueError, match="value"):
        cluster_totals(values, clusters)


def test_copies_have_correlation_one() -> None:
    values, ids = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1, 2, 2]
    assert intra_cluster_correlation(values, ids) == pytest.approx(1.0)
    assert effective_sample_size(values, ids) == pytest.approx(3.0)


@pytest.mark.parametrize("clusters", [[0, 1, 2, 3], [0, 0, 0, 0]])
def test_correlation_is_unknown_without_repeats_or_with_one_cluster(clusters: list[int]) -> None:
    assert intra_cluster_correlation([0.0, 1.0, 1.0, 0.0], clusters) is None


def test_correlation_is_unknown_without_variation_and_then_taken_for_one() -> None:
    assert intra_cluster_correlation([1.0] * 4, [0, 0, 1, 1]) is None
    assert design_effect([1.0] * 4, [0, 0, 1, 1]) == 2.0


def test_negative_correlation_does_not_make_examples_count_more() -> None:
    assert intra_cluster_correlation([0.0, 1.0, 1.0, 0.0], [0, 0, 1, 1]) == pytest.approx(-1.0)
    assert design_effect([0.0, 1.0, 1.0, 0.0], [0, 0, 1, 1]) == 1.0


def test_assumed_effect_weighs_clusters_by_size() -> None:
    assert assumed_design_effect([0, 1, 1, 1], correlation=0.5) == 1 + 1.5 * 0.5


def test_one_cluster_does_not_tell_how_clusters_differ() -> None:
    values = np.array([1.0, 0.0])
    with pytest.raises(ValueError, match="one cluster"):
        pooled_variance_of_mean(values, cluster_totals(values, [3, 3]))


def test_pooled_variance_is_never_negative() -> None:
    """Each cluster holds a win and a loss: the estimate between clusters is negative."""
    values = np.array([1.0, -1.0] * 5 + [0.5])
    assert pooled_variance_of_mean(values, cluster_totals(values, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])) >= 0.0
