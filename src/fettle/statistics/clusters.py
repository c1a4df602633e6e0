"""Examples that belong together (near-duplicates, one customer) count for less than as many independent ones: how much less.

A cluster is an integer id per example, as in `records.Split.cluster_by_id`; ids need neither be dense nor sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTotals:
    """Values summed by cluster, G clusters in the order of their ids."""

    totals: NDArray[np.float64]  # [G]
    sizes: NDArray[np.float64]  # [G], number of examples

    @property
    def num_clusters(self) -> int:
        """The number of clusters, G."""
        return len(self.sizes)

    @property
    def num_examples(self) -> int:
        """The number of examples, n."""
        return int(self.sizes.sum())


def cluster_totals(values: Sequence[float] | NDArray[np.float64], clusters: Sequence[int]) -> ClusterTotals:
    """The sum of `values` and the number of examples in each cluster.

    Args:
        values: One number per example, [n].
        clusters: The cluster id of each example, [n].

    Raises:
        ValueError: The two differ in length, there are no examples, or a value is not finite.

    >>> cluster_totals([1.0, 0.0, 1.0], [7, 7, 9]).totals.tolist()
    [1.0, 1.0]
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) != len(clusters):
        raise ValueError(f"{len(array)} values but {len(clusters)} cluster ids")
    if len(array) == 0:
        raise ValueError("no values")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite; leave unscored examples out first")
    _, cluster_of_example = np.unique(np.asarray(clusters), return_inverse=True)
    totals = np.bincount(cluster_of_example, weights=array).astype(np.float64)
    return ClusterTotals(totals=totals, sizes=np.bincount(cluster_of_example).astype(np.float64))


def index_groups(clusters: Sequence[int]) -> tuple[NDArray[np.intp], ...]:
    """The positions of the examples of each cluster, clusters in the order of their ids.

    >>> [group.tolist() for group in index_groups([3, 1, 3])]
    [[1], [0, 2]]
    """
    ids = np.asarray(clusters)
    order = np.argsort(ids, kind="stable")
    borders = np.flatnonzero(np.diff(ids[order])) + 1
    return tuple(np.split(order, borders)) if len(ids) else ()


def joined_clusters(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Clusters in which examples belong together that do so by either of two ways of clustering them, or by a chain of both.

    Args:
        one: The cluster id of each example, [n].
        other: Likewise by the other way, [n].

    Raises:
        ValueError: Lengths differ.

    >>> joined_clusters([0, 0, 1, 2, 3], [7, 8, 8, 9, 5])
    (0, 0, 0, 1, 2)
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} cluster ids by one way but {len(other)} by the other")
    if not one:
        return ()
    names_of_one, nodes_of_one = np.unique(np.asarray(one, dtype=np.int64), return_inverse=True)
    names_of_other, nodes_of_other = np.unique(np.asarray(other, dtype=np.int64), return_inverse=True)
    num_nodes = len(names_of_one) + len(names_of_other)
    edges = (nodes_of_one, nodes_of_other + len(names_of_one))
    graph = sparse.coo_array((np.ones(len(one), dtype=np.int8), edges), shape=(num_nodes, num_nodes))
    component_of_node = csgraph.connected_components(graph, directed=False)[1]
    return tuple(int(component) for component in component_of_node[nodes_of_one])


def size_weighted_mean_size(sizes: NDArray[np.float64]) -> float:
    """The mean size of the cluster that a random example lies in: the design effect when clusters are copies of one example.

    >>> size_weighted_mean_size(np.array([1.0, 3.0]))
    2.5
    """
    return float((sizes**2).sum() / sizes.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceComponents:
    """The variance of one value, split into what its cluster decides and what it decides itself."""

    between: float
    """Variance of the clusters' true means; an estimate, so it can be negative."""
    within: float
    """Variance around the mean of the own cluster, at least 0."""


def variance_components(values: NDArray[np.float64], sums: ClusterTotals) -> VarianceComponents:
    """The one-way analysis-of-variance estimates for clusters of any size; without repeats all variance is between clusters.

    Args:
        values: One number per example, [n].
        sums: Their `cluster_totals`, of at least two clusters.

    Raises:
        ValueError: There is one cluster only, which does not tell how clusters differ.

    Source: Searle, Casella and McCulloch, Variance Components (1992), section 3.6.
    """
    num_examples, num_clusters = sums.num_examples, sums.num_clusters
    if num_clusters == 1:
        raise ValueError("one cluster does not tell how clusters differ")
    squares_of_means = float((sums.totals**2 / sums.sizes).sum())
    squares_between = squares_of_means - float(sums.totals.sum()) ** 2 / num_examples
    squares_within = max(float((values**2).sum()) - squares_of_means, 0.0)
    mean_square_between = squares_between / (num_clusters - 1)
    mean_square_within = squares_within / (num_examples - num_clusters) if num_examples > num_clusters else 0.0
    adjusted_size = (num_examples - size_weighted_mean_size(sums.sizes)) / (num_clusters - 1)
    return VarianceComponents(
        between=(mean_square_between - mean_square_within) / adjusted_size, within=mean_square_within
    )


def pooled_variance_of_mean(values: NDArray[np.float64], sums: ClusterTotals) -> float:
    """The variance of the mean of all values if the variance components are the same in every cluster, at least 0.

    It knows more than the cluster-robust variance where few clusters hold most examples: the robust one has only their own few
    squares to go by, this one learns from all examples how much a value varies, and from all repeats how alike those of one
    cluster are. With equal cluster sizes the two are the same.

    Args:
        values: One number per example, [n].
        sums: Their `cluster_totals`, of at least two clusters.

    Raises:
        ValueError: There is one cluster only.

    >>> scores, clusters = np.array([1.0, 1.0, 0.0, 0.0]), [0, 0, 1, 1]
    >>> pooled_variance_of_mean(scores, cluster_totals(scores, clusters))
    0.25
    """
    components = variance_components(values, sums)
    variance_of_one = components.within + size_weighted_mean_size(sums.sizes) * components.between
    return max(variance_of_one, 0.0) / sums.num_examples


def intra_cluster_correlation(values: Sequence[float], clusters: Sequence[int]) -> float | None:
    """The correlation of two examples of one cluster; None where the data cannot tell (no repeats, one cluster, no variation).

    The one-way analysis-of-variance estimator for clusters of any size; it can be slightly negative.

    Source: Donner, A review of inference procedures for the intraclass correlation coefficient, Int. Stat. Rev. 54 (1986), 67-82.
    """
    sums = cluster_totals(values, clusters)
    if sums.num_clusters in (1, sums.num_examples):
        return None
    components = variance_components(np.asarray(values, dtype=np.float64), sums)
    total = components.between + components.within
    return components.between / total if total >= 1e-15 else None


def design_effect(values: Sequence[float], clusters: Sequence[int]) -> float:
    """How many times larger the variance of the mean is than with independent examples, at least 1.

    Kish's 1 + (m - 1) x correlation, m being the size-weighted mean size. Where the correlation cannot be estimated although
    clusters have several examples, they are taken for copies of one: the cautious end.

    >>> design_effect([1.0, 0.0, 1.0], [0, 1, 2])
    1.0
    >>> design_effect([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1])
    2.0
    """
    correlation = intra_cluster_correlation(values, clusters)
    return assumed_design_effect(clusters, correlation=1.0 if correlation is None else correlation)


def assumed_design_effect(clusters: Sequence[int], *, correlation: float) -> float:
    """The design effect that an intra-cluster correlation in [0, 1] would cause; a negative correlation counts as 0."""
    sizes = cluster_totals(np.zeros(len(clusters)), clusters).sizes
    return 1.0 + (size_weighted_mean_size(sizes) - 1.0) * min(max(correlation, 0.0), 1.0)


def effective_sample_size(values: Sequence[float], clusters: Sequence[int]) -> float:
    """How many independent examples would say as much as these.

    >>> effective_sample_size([1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1])
    2.0
    """
    return len(values) / design_effect(values, clusters)
