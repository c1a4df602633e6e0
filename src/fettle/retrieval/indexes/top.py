"""The best of many scores, equal ones in the order of their keys: what every search of a folder ends in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.records import Ranked

_DECIMALS = 5
"""Scores closer than this are equal: the last bits depend on where in a matrix a vector stands, and on what was embedded
with it."""


def best_of(scores_N: NDArray[np.float32], keys_N: NDArray[np.int64], k: int) -> list[Ranked]:
    """The `k` highest scores with their keys, the highest first, fewer where there are no more; equal ones by key.

    Scores of minus infinity are left out.

    >>> best_of(np.array([0.5, 0.9, 0.5], np.float32), np.array([7, 3, 2]), 2)
    [Ranked(key=3, score=0.9), Ranked(key=2, score=0.5)]
    """
    if k < len(scores_N):
        bound = np.partition(scores_N, -k)[-k] - 10.0**-_DECIMALS
        near_M = np.flatnonzero(scores_N >= bound)  # all whose rounded score can be among the highest
    else:
        near_M = np.arange(len(scores_N))
    rounded_M = np.round(scores_N[near_M].astype(np.float64), _DECIMALS)
    order = np.lexsort((keys_N[near_M], -rounded_M))[:k]
    return [
        Ranked(int(keys_N[near_M[place]]), float(rounded_M[place])) for place in order if rounded_M[place] > -np.inf
    ]
