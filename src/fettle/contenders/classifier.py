"""The contender for label tasks without any language model: logistic regression over sentence embeddings and n-grams.

A tuned model that loses to it should not be shipped. It learns from the training split alone; the validation split chooses the
features and the regularisation and is not trained on, as for every other contender.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError
from fettle.records import Answer, Example, FinishReason, Usage
from fettle.retrieval.embedder import CachedEmbedder, Embedder, MiniLMEmbedder
from fettle.scoring.label_reader import LabelReader

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import FeatureUnion

_REGULARISATIONS = (1.0, 10.0, 100.0)
"""scikit-learn's C, from strong to hardly any; finer steps differ by less than a few hundred validation examples can show."""
_PROBE_REGULARISATION = 10.0
_EMBEDDING_WEIGHT = 2.0
"""Beside the two TF-IDF blocks, each of unit length like the embedding, so that neither side drowns the other."""
_MAX_NGRAMS = 5_000
"""Of words and of characters each, the most frequent ones."""
_SMOOTHING = 1e-6
"""Probability shared out among all labels, so that one without a training example has a finite log-likelihood."""


class FeatureKind(StrEnum):
    """What the regression looks at, in words."""

    EMBEDDINGS = "sentence embeddings"
    NGRAMS = "TF-IDF of words (1 to 2) and characters (2 to 5)"
    BOTH = "sentence embeddings and TF-IDF of words (1 to 2) and characters (2 to 5)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Turns messages into what the regression looks at."""

    kind: FeatureKind
    ngrams: FeatureUnion | None
    """Fitted on the training messages; None for embeddings alone."""

    def of(self, texts: Sequence[str], embedder: Embedder) -> Any:
        """The features [N, F]: a dense array for embeddings alone, else a sparse one."""
        if self.ngrams is None:
            return embedder.embed(texts)
        ngrams_NF = self.ngrams.transform(texts)
        if self.kind is FeatureKind.NGRAMS:
            return ngrams_NF
        from scipy.sparse import csr_array, hstack

        return hstack([csr_array(_EMBEDDING_WEIGHT * embedder.embed(texts)), ngrams_NF], format="csr")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelClassifier:
    """A fitted classifier; see `fit_classifier`."""

    labels: tuple[str, ...]
    """The label set, as given; a label without a training example is never the answer."""
    description: str
    """How it answers and what was chosen, in words."""
    validation_accuracy: float
    """Share of the validation examples answered right, in [0, 1]; a little optimistic, since the choice was made on it."""
    features: Features
    embedder: Embedder
    """Without a cache, so that the measured seconds are those of new messages."""
    model: LogisticRegression

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        """One answer per example, in their order, with the log-likelihood of every label.

        `usage.seconds` is each answer's share of the wall time, embedding included; there are no tokens.
        """
        if not examples:
            return ()
        start = time.perf_counter()
        features = self.features.of([example.input_text for example in examples], self.embedder)
        log_likelihoods_NL = _log_likelihoods(self.model, features, len(self.labels))
        seconds = (time.perf_counter() - start) / len(examples)
        return tuple(
            Answer(
                example_id=example.id,
                text=self.labels[int(np.argmax(row_L))],
                finish_reason=FinishReason.STOP,
                usage=Usage(prompt_tokens=0, completion_tokens=0, seconds=seconds),
                choice_log_likelihoods=dict(zip(self.labels, row_L.tolist(), strict=True)),
            )
            for example, row_L in zip(examples, log_likelihoods_NL, strict=True)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    features: Features
    regularisation: float
    model: LogisticRegression
    accuracy: float
    mean_log_likelihood: float


def fit_classifier(
    train: Sequence[Example],
    valid: Sequence[Example],
    *,
    labels: Sequence[str],
    seed: int,
    embedder: Embedder | None = None,
) -> LabelClassifier:
    """The logistic regression, fitted on `train`, that answers `valid` best; equal accuracies go to the better log-likelihood.

    The candidates are the three kinds of features, each with C = 1, 10 and 100. Deterministic.

    Args:
        train: What it learns from.
        valid: What the choice is made on; never trained on.
        labels: The label set.
        seed: Handed to scikit-learn, whose solver here draws nothing.
        embedder: What makes vectors; None: the packaged one. The cache of a `CachedEmbedder` serves the fitting, but not the
            answering, which is timed.

    Raises:
        DataError: A training answer is no label, the training split has fewer than two labels, or `valid` is empty.
        ModelError: The packaged embedder cannot be loaded.
    """
    reader = LabelReader(labels)
    train_labels = _label_numbers(train, reader)
    if len(set(train_labels)) < 2:
        raise DataError("the training split has fewer than two labels", remedy="add examples of another label")
    if not valid:
        raise DataError("the validation split is empty", remedy="give more examples, or a validation file")
    cache = embedder if isinstance(embedder, CachedEmbedder) else CachedEmbedder(embedder or MiniLMEmbedder())
    candidates = [
        _judge(features, model, valid, reader, cache)
        for features in _feature_sets([example.input_text for example in train])
        for model in _fit(features.of([example.input_text for example in train], cache), train_labels, seed)
    ]
    best = max(candidates, key=lambda candidate: (candidate.accuracy, candidate.mean_log_likelihood))
    return LabelClassifier(
        labels=reader.labels,
        description=(
            f"No language model: logistic regression over {best.features.kind} of what the user says,"
            f" C = {best.regularisation:g}; the best of {len(candidates)} candidates on the validation split, where it answers"
            f" {best.accuracy:.1%} of {len(valid)} right."
        ),
        validation_accuracy=best.accuracy,
        features=best.features,
        embedder=cache.uncached,
        model=best.model,
    )


def cross_validated_answers(
    learned: Sequence[Example], answered: Sequence[Example], *, labels: Sequence[str], seed: int, embedder: Embedder
) -> tuple[Answer, ...]:
    """Answers to examples by one regression that was fitted on others, with nothing chosen: a fold of a cross-validation.

    Its features are embeddings and n-grams, C is 10. Where the learned examples have one label only, that is the answer.

    Args:
        learned: What it learns from; `answered` are none of them.
        answered: What it answers, in this order.
        labels: The label set.
        seed: Handed to scikit-learn.
        embedder: What makes vectors; give a `CachedEmbedder`, for the texts come again in other folds.

    Raises:
        DataError: An answer that is learned is no label.
    """
    reader = LabelReader(labels)
    numbers = _label_numbers(learned, reader)
    texts = [example.input_text for example in learned]
    features = _feature_sets(texts)[-1]
    if len(set(numbers)) < 2:
        chosen = [numbers[0]] * len(answered)
    else:
        model = _fitted(_PROBE_REGULARISATION, seed, features.of(texts, embedder), numbers)
        chosen = np.asarray(model.predict(features.of([example.input_text for example in answered], embedder))).tolist()
    nothing = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    return tuple(
        Answer(example_id=example.id, text=reader.labels[number], finish_reason=FinishReason.STOP, usage=nothing)
        for example, number in zip(answered, chosen, strict=True)
    )


def _label_numbers(examples: Sequence[Example], reader: LabelReader) -> list[int]:
    number = {label: position for position, label in enumerate(reader.labels)}
    numbers: list[int] = []
    for example in examples:
        if (label := reader.read(example.answer)) is None:
            raise DataError(
                f"the answer {example.answer!r} is not one of the {len(number)} labels",
                where=str(example.source),
                remedy="correct the answer, or give all labels",
            )
        numbers.append(number[label])
    return numbers


def _feature_sets(texts: Sequence[str]) -> list[Features]:
    """The kinds of features that these training messages allow: n-grams need at least one word."""
    embeddings = Features(kind=FeatureKind.EMBEDDINGS, ngrams=None)
    if not any(re.search(r"\w", text) for text in texts):
        return [embeddings]
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    words = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True, max_features=_MAX_NGRAMS)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=_MAX_NGRAMS)
    ngrams = FeatureUnion([("words", words), ("characters", characters)]).fit(texts)
    return [embeddings, *(Features(kind=kind, ngrams=ngrams) for kind in (FeatureKind.NGRAMS, FeatureKind.BOTH))]


def _fit(features: Any, label_numbers: Sequence[int], seed: int) -> list[LogisticRegression]:
    """One model per regularisation, strongest first."""
    return [_fitted(c, seed, features, label_numbers) for c in _REGULARISATIONS]


def _fitted(regularisation: float, seed: int, features: Any, label_numbers: Sequence[int]) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")  # many labels are in order
        model = LogisticRegression(C=regularisation, max_iter=1000, random_state=seed)
        return model.fit(features, label_numbers)


def _judge(
    features: Features, model: LogisticRegression, valid: Sequence[Example], reader: LabelReader, embedder: Embedder
) -> _Candidate:
    """A model with how well it answers the validation split; a wanted answer that is no label is answered wrong."""
    log_likelihoods_NL = _log_likelihoods(
        model, features.of([example.input_text for example in valid], embedder), len(reader.labels)
    )
    position: dict[str | None, int] = {label: number for number, label in enumerate(reader.labels)}
    wanted = [position.get(reader.read(example.answer), -1) for example in valid]
    is_right = [label == best for label, best in zip(wanted, log_likelihoods_NL.argmax(axis=1), strict=True)]
    known = [row_L[label] for label, row_L in zip(wanted, log_likelihoods_NL, strict=True) if label >= 0]
    return _Candidate(
        features=features,
        regularisation=float(model.C),
        model=model,
        accuracy=float(np.mean(is_right)),
        mean_log_likelihood=float(np.mean(known)) if known else 0.0,
    )


def _log_likelihoods(model: LogisticRegression, features: Any, num_labels: int) -> NDArray[np.float64]:
    """Natural-log probabilities [N, L]; those of a row sum to 1."""
    probabilities_NL = np.zeros((features.shape[0], num_labels))
    probabilities_NL[:, model.classes_] = model.predict_proba(features)
    return np.log((1 - _SMOOTHING) * probabilities_NL + _SMOOTHING / num_labels)
