"""Simulated studies whose truth is known: clusters of examples, and two arms' scores on them.

Within a cluster each example takes the cluster's own draw with probability sqrt(correlation), else a draw of its own, so that the
intra-cluster correlation of everything (scores, differences) is exact whatever their distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Draw = NDArray[np.float64]  # [..., 2]: the scores of (challenger, baseline)


def two_errors(share: float, num_studies: int) -> float:
    """Two standard errors of a share observed over so many simulated studies."""
    return 2 * math.sqrt(share * (1 - share) / num_studies)


def cluster_ids(num_clusters: int, cluster_size: int) -> list[int]:
    return np.repeat(np.arange(num_clusters), cluster_size).tolist()


UNEQUAL_SIZES = {
    "100 single, 30 pairs": (1,) * 100 + (2,) * 30,
    "300 single, 3 of 30": (1,) * 300 + (30,) * 3,
    "150 single, 5 of 10": (1,) * 150 + (10,) * 5,
    "60 single, 5 of 10": (1,) * 60 + (10,) * 5,
    "60 single, Zipf to 40": (1,) * 60 + (40, 20, 13, 10, 8, 6, 5, 5, 4, 4),
    "60, geometric, mean 3.3": tuple(np.random.default_rng(3).geometric(0.3, 60).tolist()),
    "25, Pareto, 2 to 60": tuple(
        np.ceil(np.random.default_rng(5).pareto(1.0, 25) + 0.5).clip(2, 60).astype(int).tolist()
    ),
}
"""Sizes of clusters as near-duplicates make them: mostly single examples and a few big clusters."""

DOMINATED_SIZES = {
    "100 single, 1 of 30": (1,) * 100 + (30,),
    "20 single, 2 of 20": (1,) * 20 + (20,) * 2,
}
"""One or two clusters hold a quarter or more of the examples."""


def ids_of_sizes(sizes: Sequence[int]) -> list[int]:
    return np.repeat(np.arange(len(sizes)), sizes).tolist()


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


def unequal_binary_arms(
    generator: np.random.Generator,
    num_studies: int,
    sizes: Sequence[int],
    *,
    accuracies: tuple[float, float],
    copying: float,
    both_by_nature: float = 0.5,
) -> Draw:
    """As `two_binary_arms` with clusters of any sizes; an example takes the draw of its cluster with probability `copying`."""
    ids = ids_of_sizes(sizes)
    own, of_cluster = (
        right_or_wrong(generator, (num_studies, 1, count), accuracies=accuracies, both_by_nature=both_by_nature)
        for count in (len(ids), len(sizes))
    )
    return clustered(own, of_cluster[:, :, ids], correlation=copying**2, generator=generator)


def unequal_graded_arms(
    generator: np.random.Generator,
    num_studies: int,
    sizes: Sequence[int],
    *,
    means: tuple[float, float],
    copying: float,
) -> Draw:
    """As `two_graded_arms` with clusters of any sizes; an example takes the draw of its cluster with probability `copying`."""
    ids = ids_of_sizes(sizes)
    own, of_cluster = (graded(generator, (num_studies, 1, count), means=means) for count in (len(ids), len(sizes)))
    return clustered(own, of_cluster[:, :, ids], correlation=copying**2, generator=generator)
