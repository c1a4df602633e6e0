"""Whether what arrives is still like what was known before: evidence that may be looked at after every batch, for ever.

Each arrival is ranked among the known values and all that arrived before it. As long as nothing has changed (all are exchangeable),
its rank is a fair draw, whatever the values mean; a gambler who bets on ranks then wins nothing on average, and the probability of
ever becoming 1/a times as rich is at most a (a conformal test martingale). A change makes ranks unfair. As it may come at any time,
a part of the stake is kept back for each batch yet to come.

Values of several features (columns) are bet on side by side with equal stakes, so the promise is of all of them together, however
they hang together.

Letters: N known values, B arrivals of a batch, F features, K bets.

Source: Vovk, Nouretdinov and Gammerman, "Testing exchangeability on-line" (ICML 2003); the stakes kept back are a mixture over
change points with weights 1 / (t (t + 1)), as in Shiryaev's procedure, which stays a martingale. Our bets are straight lines,
curves and a power of the rank.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_SLOPES = (-0.9, -0.5, -0.25, 0.25, 0.5, 0.9)
_BENDS = (-0.45, 0.45, 0.9)
_POWER = 0.5
NUM_BETS = len(_SLOPES) + len(_BENDS) + 2
"""Bets on each feature."""
_ON_GREATER = np.array([slope > 0 for slope in _SLOPES] + [False] * len(_BENDS) + [False, True])
"""Those that win by greater values alone."""
_LEAST = 1e-12


def log_bets(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each bet makes of a rank in (0, 1], in logarithms: [..., K]. Each is a density, so it wins nothing on average.

    In order: that values have become greater or smaller, that they have become more alike or less so, that some are far greater or
    far smaller than all before.
    """
    centred = 2 * ranks - 1
    straight = [np.log1p(slope * centred) for slope in _SLOPES]
    curved = [np.log1p(bend * (3 * centred**2 - 1)) for bend in _BENDS]
    ends = [math.log(_POWER) + (_POWER - 1) * np.log(one) for one in (ranks, np.maximum(1 - ranks, _LEAST))]
    return np.stack([*straight, *curved, *ends], axis=-1)


@dataclass(slots=True)
class Watch:
    """Known values, and what betting on arrivals has won so far.

    Args:
        names: Of the features.
        known: For each feature, all values so far in order, N each.
        log_stakes: Of each feature's bets, summing up to 1 for each: [F, K].
        log_capital: What those that were placed have become, without what is kept back: [F, K].
        num_batches: That were bet on.
        seed: Of the draws among equal values.
    """

    names: tuple[str, ...]
    known: list[list[float]]
    log_stakes: NDArray[np.float64] = field(repr=False)
    log_capital: NDArray[np.float64] = field(repr=False)
    num_batches: int = 0
    seed: int = 0

    @property
    def log_evidence_by_name(self) -> dict[str, float]:
        """Of each feature alone: the logarithm of what its part of the stake has become."""
        kept_back = -math.log(self.num_batches + 1)
        of_features = np.logaddexp.reduce(self.log_capital, axis=1)
        return {name: float(np.logaddexp(one, kept_back)) for name, one in zip(self.names, of_features, strict=True)}

    @property
    def log_evidence(self) -> float:
        """Of all features together; where nothing changes, the probability that it ever reaches log(1/a) is at most a."""
        of_all = list(self.log_evidence_by_name.values())
        return float(np.logaddexp.reduce(of_all)) - math.log(len(of_all))

    def take(self, arrivals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bet on a batch, and count it among what is known.

        Args:
            arrivals: In the order in which they came, [B, F], finite. No batch changes the evidence if it is empty.

        Returns:
            Where each stands among known values and arrivals before: [B, F], in (0, 1]; equal ones draw lots.

        Raises:
            ValueError: The features are others, or a value is not finite.
        """
        if arrivals.ndim != 2 or arrivals.shape[1] != len(self.names) or not np.isfinite(arrivals).all():
            raise ValueError(f"expected finite values of {len(self.names)} features")
        if not len(arrivals):
            return np.zeros(arrivals.shape)
        draws = np.random.default_rng((self.seed, self.num_batches)).random(arrivals.shape)
        ranks = np.empty(arrivals.shape)
        for column, known in enumerate(self.known):
            for row, value in enumerate(arrivals[:, column].tolist()):
                below, not_above = bisect_left(known, value), bisect_right(known, value)
                ranks[row, column] = (below + (1 - draws[row, column]) * (not_above - below + 1)) / (len(known) + 1)
                insort(known, value)
        batch = self.num_batches + 1
        new_stake = -math.log(batch * (batch + 1))
        self.log_capital = np.logaddexp(self.log_capital, new_stake + self.log_stakes) + log_bets(ranks).sum(axis=0)
        self.num_batches = batch
        return ranks


def begin_watch(
    names: Sequence[str], known: NDArray[np.float64], *, only_greater: Collection[str] = (), seed: int = 0
) -> Watch:
    """A watch that has seen nothing arrive.

    Args:
        names: Of the features, at least one.
        known: Values of each, [N, F], finite.
        only_greater: Features of which only greater values are a change that matters.
        seed: Of the draws among equal values.

    Raises:
        ValueError: There is nothing known, or not of these features, or a value is not finite.

    >>> watch = begin_watch(["length"], np.arange(100.0)[:, None])
    >>> _ = watch.take(np.full((10, 1), 250.0))
    >>> watch.log_evidence > math.log(20)
    True
    """
    if not names or known.ndim != 2 or known.shape[1] != len(names) or not len(known) or not np.isfinite(known).all():
        raise ValueError(f"expected finite values of {len(names)} features")
    is_placed = np.array([_ON_GREATER if name in only_greater else np.ones(NUM_BETS, dtype=bool) for name in names])
    return Watch(
        names=tuple(names),
        log_stakes=np.where(is_placed, -np.log(is_placed.sum(axis=1, keepdims=True)), -np.inf),
        known=[sorted(column.tolist()) for column in known.T],
        log_capital=np.full((len(names), NUM_BETS), -np.inf),
        seed=seed,
    )
