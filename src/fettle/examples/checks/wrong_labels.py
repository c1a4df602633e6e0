"""Labels that a model trained on the other rows contradicts.

Letters: N rows, T of them in training, V n-grams, F features, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.examples.checks.labels import usual_spellings
from fettle.examples.duplicates import comparable_text
from fettle.examples.notes import warning
from fettle.records import Example, Finding, Task, TaskKind

_NUM_FOLDS = 5
_MIN_EXAMPLES = 60
_MIN_EXAMPLES_PER_LABEL = 5
_TIMES_AS_PROBABLE = 15
_MAX_NGRAMS = 20_000
"""Of words and of characters each, the most frequent ones."""
_MAX_COMPACT_ROWS = 2_000
"""Of training. With more of them, a basis costs more than it saves."""
_MAX_PRODUCTS_PER_WEIGHT = 4
"""The same for few labels, whose weights cost little to begin with: products of training rows per weight of the regression."""
_TOLERANCE = 1e-3
"""Of the solver: loose, six times as fast as the usual one, and the same rows are flagged."""
_JITTER = 1e-6
"""Added to every row's product with itself, about 2, so that repeated rows leave their products positive definite."""


def check_wrong_labels(examples: Sequence[Example], task: Task) -> Iterator[Finding]:
    """Rows whose label a model trained on the other rows contradicts with confidence.

    The model is logistic regression over TF-IDF of words and character n-grams; each row is judged by a model that did not see
    it, and is reported when another label is fifteen times as probable as its own. Labels with fewer than five examples are not
    judged, nor proposed: with so few, every second report would be wrong. (The per-label thresholds of the confident
    joint were tried: on noisy BANKING77 they lose a quarter of the recall and gain no precision.)
    Source: Northcutt, Jiang, Chuang (2021), "Confident learning", pruning by noise rate with a fixed margin.
    """
    if task.kind is not TaskKind.LABELS or len(examples) < _MIN_EXAMPLES:
        return
    usual = usual_spellings(examples)
    labels = [usual.get(example.answer, example.answer).strip() for example in examples]
    counts = Counter(labels)
    judged = [index for index, label in enumerate(labels) if counts[label] >= _MIN_EXAMPLES_PER_LABEL]
    texts = [comparable_text(examples[index]) for index in judged]
    if len({labels[index] for index in judged}) < 2 or len(set(texts)) < _NUM_FOLDS:
        return
    for position, other, confidence in _contradicted(texts, [labels[index] for index in judged]):
        example = examples[judged[position]]
        text = f"label {example.answer.strip()!r} is probably wrong; similar messages have {other!r} (probability {confidence:.2f})"
        yield warning("probable-wrong-label", text, "read it again and correct the label").at(example.source)


def _contradicted(texts: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[int, str, float]]:
    """(index, better label, its out-of-fold probability) of rows whose label is probably wrong."""
    names, label_N = np.unique(labels, return_inverse=True)
    probability_NL = out_of_fold(texts, label_N)
    own_N = probability_NL[np.arange(len(texts)), label_N]
    best_N = probability_NL.argmax(axis=1)
    best_probability_N = probability_NL.max(axis=1)
    for row in np.flatnonzero(best_probability_N > _TIMES_AS_PROBABLE * own_N):
        yield int(row), str(names[best_N[row]]), float(best_probability_N[row])


def out_of_fold(texts: Sequence[str], label_N: NDArray[np.intp]) -> NDArray[np.float64]:
    """The probability of every label for every text, [N, L], by a model that saw neither it nor a text equal to it.

    A text's row is 0 throughout where the texts that are left hold a single label.

    Args:
        texts: Plain words.
        label_N: The labels as numbers from 0 to L, exclusive.

    Raises:
        ValueError: There are fewer than five different texts.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    group_N = np.unique(texts, return_inverse=True)[1]
    num_labels = int(label_N.max()) + 1
    probability_NL = np.zeros((len(texts), num_labels))
    blocks = _ngram_counts(texts)
    folds = StratifiedGroupKFold(_NUM_FOLDS, shuffle=True, random_state=0)
    for train_T, held_out in folds.split(texts, label_N, group_N):
        if len(set(label_N[train_T])) < 2 or not len(held_out):
            continue
        features_NF = _tf_idf(blocks, train_T)
        num_products, num_weights = len(train_T) ** 2, features_NF.shape[1] * num_labels
        if len(train_T) <= _MAX_COMPACT_ROWS and num_products <= _MAX_PRODUCTS_PER_WEIGHT * num_weights:
            features_NF = _compact(features_NF, train_T)
        model = LogisticRegression(C=10.0, max_iter=100, tol=_TOLERANCE).fit(features_NF[train_T], label_N[train_T])
        probability_NL[np.ix_(held_out, model.classes_)] = model.predict_proba(features_NF[held_out])
    return probability_NL


def _ngram_counts(texts: Sequence[str]) -> tuple[Any, ...]:
    """How often each text holds each n-gram, of words and of characters: two sparse matrices [N, V]."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer

    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    characters = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4))
    return tuple(csr_array(vectorizer.fit_transform(texts), dtype=np.float32) for vectorizer in (words, characters))


def _tf_idf(blocks: Sequence[Any], train_T: NDArray[np.intp]) -> Any:
    """The features of all rows, sparse [N, F]: what `TfidfVectorizer` learns from the training rows, side by side."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfTransformer

    parts = []
    for counts_NV in blocks:
        total_V = np.asarray(counts_NV[train_T].sum(axis=0, dtype=np.float64)).ravel()
        present = np.flatnonzero(total_V)
        counts_NF = counts_NV[:, present[np.sort(np.argsort(-total_V[present])[:_MAX_NGRAMS])]]
        parts.append(TfidfTransformer(sublinear_tf=True).fit(counts_NF[train_T]).transform(counts_NF))
    return hstack(parts, format="csr")


def _compact(features_NF: Any, train_T: NDArray[np.intp]) -> NDArray[np.float32]:
    """The rows in an orthonormal basis of what the training rows span, [N, T]: few columns in place of many.

    Their scalar products with the training rows stay the same, and with them the regression: its penalty is a length, and its
    weights never leave what the training rows span. The solver, whose time goes by the number of weights, takes the same steps,
    but may stop one sooner or later.
    """
    from scipy.linalg import cholesky, solve_triangular

    product_NT = (features_NF @ features_NF[train_T].T).toarray()
    product_TT = product_NT[train_T].astype(np.float64)
    product_TT[np.diag_indices_from(product_TT)] += _JITTER
    lower_TT = cholesky(product_TT, lower=True).astype(np.float32)
    return solve_triangular(lower_TT, product_NT.T, lower=True).T
