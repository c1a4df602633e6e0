"""Simulated studies whose truth is known: clusters of examples, and two arms' scores on them.

Within a cluster each example takes the cluster's own draw with probability sqrt(correlation), else a draw of its own, so that the
intra-cluster correlation of everything (scores, differences) is exact whatever their distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Draw = NDArray[np.float64]  # [..., 2]: the scores of (challenger, baseline)


def cluster_ids(num_clusters: int, cluster_size: int) -> list[int]:
    return np.repeat(np.arange(num_clusters), cluster_size).tolist()


def right_or_wrong(
    generator: np.random.Generator, shape: tuple[int, ...], *, accuracies: tuple[float, float], both_by_nature: float
) -> Draw:
    """Two binary scores; with probability `both_by_nature` the same luck decides both."""
    luck = generator.random((*shape, 2))
    shared = generator.random(shape) < both_by_nature
    luck[..., 1] = np.where(shared, luck[..., 0], luck[..., 1])
    return (luck < np.array(accuracies)).astype(np.float64)


def graded(generator: np.random.Generator, shape: tuple[int, ...], *, means: tuple[float, float]) -> Draw:
    """Two beta-distributed scores with a + b = 3, positively correlated through a common uniform for half of the examples."""
    first = generator.beta(3 * means[0], 3 * (1 - means[0]), shape)
    second = generator.beta(3 * means[1], 3 * (1 - means[1]), shape)
    return np.stack([first, second], axis=-1)


def clustered(own: Draw, of_cluster: Draw, *, correlation: float, generator: np.random.Generator) -> Draw:
    """Examples [R, G, m, 2] from own draws [R, G, m, 2] and the draws of their clusters [R, G, 1, 2], as [R, G * m, 2]."""
    copies = generator.random(own.shape[:-1]) < np.sqrt(correlation)
    mixed = np.where(copies[..., None], of_cluster, own)
    return mixed.reshape(own.shape[0], -1, 2)


def two_binary_arms(
    generator: np.random.Generator,
    num_studies: int,
    *,
    num_clusters: int,
    cluster_size: int,
    accuracies: tuple[float, float],
    correlation: float = 0.7,
    both_by_nature: float = 0.5,
) -> Draw:
    """`num_studies` studies of two right-or-wrong arms, [num_studies, num_clusters * cluster_size, 2]."""

    def draw(size: int) -> Draw:
        shape = (num_studies, num_clusters, size)
        return right_or_wrong(generator, shape, accuracies=accuracies, both_by_nature=both_by_nature)

    return clustered(draw(cluster_size), draw(1), correlation=correlation, generator=generator)


def two_graded_arms(
    generator: np.random.Generator,
    num_studies: int,
    *,
    num_clusters: int,
    cluster_size: int,
    means: tuple[float, float],
    correlation: float = 0.7,
) -> Draw:
    """`num_studies` studies of two arms with scores in [0, 1], [num_studies, num_clusters * cluster_size, 2]."""

    def draw(size: int) -> Draw:
        return graded(generator, (num_studies, num_clusters, size), means=means)

    return clustered(draw(cluster_size), draw(1), correlation=correlation, generator=generator)
