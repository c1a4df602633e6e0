"""The quick way to out-of-fold probabilities against the plain one: a scikit-learn pipeline fitted anew in every fold."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline, make_union

from fettle.examples.bundled import bundled_task
from fettle.examples.checks import wrong_labels
from fettle.examples.checks.wrong_labels import out_of_fold
from fettle.examples.duplicates import comparable_text
from fettle.examples.read import read_examples

TOLERANCE = 1e-5
"""Tight, so that both ways reach the optimum and not merely its neighbourhood, each from its own side."""


def plainly(texts: list[str], label_N: NDArray[np.intp], max_ngrams: int) -> NDArray[np.float64]:
    probability_NL = np.zeros((len(texts), label_N.max() + 1))
    documents = np.array(texts, dtype=object)
    groups = np.unique(texts, return_inverse=True)[1]
    for train, held_out in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(documents, label_N, groups):
        features = make_union(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+", max_features=max_ngrams),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, max_features=max_ngrams),
        )
        model = make_pipeline(features, LogisticRegression(C=10.0, max_iter=100, tol=TOLERANCE))
        model.fit(documents[train], label_N[train])
        probability_NL[np.ix_(held_out, model[-1].classes_)] = model.predict_proba(documents[held_out])
    return probability_NL


def inbox(num_rows: int) -> tuple[list[str], NDArray[np.intp]]:
    """Bundled messages with their queues; every tenth has another's queue, every twentieth comes twice."""
    task = bundled_task("example:routing")
    assert task is not None
    examples = read_examples(task.examples, columns=task.columns).examples[:num_rows]
    labels = [example.answer for example in examples]
    chosen = random.Random(1)
    labels[::10] = [chosen.choice(labels) for _ in labels[::10]]
    texts = [comparable_text(example) for example in examples]
    label_N = np.unique([*labels, *labels[::20]], return_inverse=True)[1]
    return [*texts, *texts[::20]], label_N


@pytest.mark.parametrize(
    ("max_compact_rows", "max_ngrams"),
    [(2_000, 20_000), (0, 20_000), (2_000, 1_500)],
    ids=["compact", "sparse", "compact, rare n-grams left out"],
)
def test_out_of_fold_probabilities_are_those_of_the_plain_way(
    max_compact_rows: int, max_ngrams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrong_labels, "_MAX_COMPACT_ROWS", max_compact_rows)
    monkeypatch.setattr(wrong_labels, "_MAX_NGRAMS", max_ngrams)
    monkeypatch.setattr(wrong_labels, "_TOLERANCE", TOLERANCE)
    texts, label_N = inbox(160)
    found_NL = out_of_fold(texts, label_N)
    assert found_NL == pytest.approx(plainly(texts, label_N, max_ngrams), abs=3e-3)
    assert found_NL.sum(axis=1) == pytest.approx(1, abs=1e-5)
