"""Confidence foreseen from what is asked: logistic regression over the embedding of the input, for "the small model is right".

It can be told before the small model is asked, and for answers that carry no probabilities. It learns from the validation split,
out of fold, so that its own examples do not judge it, and never from the examples that a threshold is calibrated on.

Letters: N examples, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_REGULARISATION = 10.0
"""scikit-learn's C, the middle one of those that the label classifier chooses among."""
_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """A fitted regression."""

    coefficients: tuple[float, ...]  # [D]
    intercept: float

    def of(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds that the small model is right, [N].

        Raises:
            ValueError: The vectors have another number of dimensions.
        """
        if vectors_ND.shape[1] != len(self.coefficients):
            raise ValueError(f"vectors of {vectors_ND.shape[1]} dimensions for {len(self.coefficients)} coefficients")
        return vectors_ND.astype(np.float64) @ np.asarray(self.coefficients) + self.intercept


def fit_foresight(vectors_ND: NDArray[np.float32], scores: NDArray[np.float64]) -> Foresight | None:
    """The regression; a score between 0 and 1 counts as that much of a right answer and the rest of a wrong one.

    None where all scores are 1, or all are 0: there is nothing to tell apart.

    Args:
        vectors_ND: Embeddings of the inputs.
        scores: Of the small model's answers, in [0, 1], [N].
    """
    from sklearn.linear_model import LogisticRegression

    weights = np.concatenate([scores, 1 - scores])
    labels = np.repeat([1, 0], len(scores))
    is_kept = weights > 0
    if len(set(labels[is_kept])) < 2:
        return None
    model = LogisticRegression(C=_REGULARISATION, max_iter=1000)
    model.fit(np.concatenate([vectors_ND, vectors_ND])[is_kept], labels[is_kept], sample_weight=weights[is_kept])
    return Foresight(
        coefficients=tuple(map(float, np.ravel(model.coef_))), intercept=float(np.ravel(model.intercept_)[0])
    )


def foreseen_out_of_fold(
    vectors_ND: NDArray[np.float32], scores: NDArray[np.float64], clusters: Sequence[int]
) -> NDArray[np.float64] | None:
    """Each example's log-odds by a regression that has not seen it, nor its near-duplicates, [N].

    None where there are too few clusters for five parts, or a regression has nothing to learn from.

    Args:
        vectors_ND: As in `fit_foresight`.
        scores: Likewise.
        clusters: The cluster id of each example, [N].
    """
    from sklearn.model_selection import GroupKFold

    if len(set(clusters)) < _NUM_FOLDS:
        return None
    found_N = np.empty(len(scores))
    for learned, held_out in GroupKFold(n_splits=_NUM_FOLDS).split(vectors_ND, groups=clusters):
        fitted = fit_foresight(vectors_ND[learned], scores[learned])
        if fitted is None:
            return None
        found_N[held_out] = fitted.of(vectors_ND[held_out])
    return found_N
