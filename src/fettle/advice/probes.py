"""How well the task is done without any language model, and how consistently it was labelled: cheap, and before any run.

All of it is learned from training examples alone, as a study's contenders learn: a training example is answered by what was learned
from the other folds, a validation example by what was learned from all. The test split stays unseen, for whoever looks at it
beforehand has to pay for it. Scores are those of the grader that decides a study, so that they can be held beside its contenders.
Examples of one cluster (near-duplicates, a customer) are never in two folds, nor each other's neighbours.

Letters: T training examples, D dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fettle.contenders.classifier import cross_validated_answers
from fettle.contenders.constant import constant_answer
from fettle.examples.duplicates import find_duplicates
from fettle.records import Answer, Example, FinishReason, Interval, Task, TaskKind, Usage
from fettle.retrieval.embedder import Embedder
from fettle.scoring.grader import Grader, score_answers
from fettle.statistics.intervals import mean_interval

NUM_FOLDS = 5
_DECIMALS = 5
"""Similarities closer than this are equal, as in `retrieval.neighbours`."""
Fold = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions that are learned from, and positions that are answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What may be looked at."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    cluster_by_id: Mapping[str, int]

    @property
    def examples(self) -> tuple[Example, ...]:
        """The training examples, then the validation examples: what folds give positions in."""
        return (*self.train, *self.valid)

    def folds(self, task: Task, seed: int) -> tuple[Fold, ...]:
        """Up to five folds of the training examples that no cluster straddles, labels spread evenly; then the validation examples.

        Where the training examples are one cluster, the validation examples are answered alone.
        """
        num_train, num_all = len(self.train), len(self.train) + len(self.valid)
        everything = tuple(range(num_train)), tuple(range(num_train, num_all))
        return (*_training_folds(self.train, task, self.cluster_by_id, seed), *([everything] if self.valid else []))


def _training_folds(
    train: Sequence[Example], task: Task, cluster_by_id: Mapping[str, int], seed: int
) -> Iterator[Fold]:
    from sklearn.model_selection import StratifiedGroupKFold

    clusters = [cluster_by_id[example.id] for example in train]
    num_folds = min(NUM_FOLDS, len(set(clusters)))
    if num_folds < 2:
        return
    strata = [example.answer.strip() if task.kind is TaskKind.LABELS else "" for example in train]
    numbers = np.unique(strata, return_inverse=True)[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # rare labels are in order
        folds = list(StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed).split(strata, numbers, clusters))
    for learned, answered in folds:
        if len(learned) and len(answered):
            yield tuple(map(int, learned)), tuple(map(int, answered))


def constant_score(known: Known, task: Task, grader: Grader, folds: Sequence[Fold]) -> Interval | None:
    """What the answer that is always the same scores: that of the commonest label, value or reply of the other folds.

    Returns:
        The mean score with its interval; None where nothing could be scored.
    """

    def answers(learned: Sequence[Example], answered: Sequence[Example]) -> Sequence[Answer]:
        return constant_answer(learned, task, grader).answer(answered)

    return _by_folds(known, grader, folds, answers)


def classifier_score(
    known: Known, task: Task, grader: Grader, folds: Sequence[Fold], *, embedder: Embedder, seed: int
) -> Interval | None:
    """What logistic regression over sentence embeddings and TF-IDF scores that was fitted on the other folds; for labels only.

    Nothing is chosen, so nothing makes it look better than it is.

    Returns:
        The mean score with its interval; None where nothing could be scored.
    """

    def answers(learned: Sequence[Example], answered: Sequence[Example]) -> Sequence[Answer]:
        return cross_validated_answers(learned, answered, labels=task.labels, seed=seed, embedder=embedder)

    return _by_folds(known, grader, folds, answers)


def nearest_answer_score(known: Known, grader: Grader, *, embedder: Embedder) -> Interval | None:
    """What the answer of the nearest training message scores, by cosine of sentence embeddings; none of the own cluster is near.

    It says whether messages that are alike are answered alike: what nearest few-shot examples and tuning live on.

    Returns:
        The mean score with its interval; None where no example has a neighbour, or nothing could be scored.
    """
    vectors_TD = embedder.embed([example.input_text for example in known.train])
    clusters_T = np.array([known.cluster_by_id[example.id] for example in known.train])
    asked, answers = [], []
    for example in known.examples:
        similarity_T = np.round(vectors_TD @ embedder.embed([example.input_text])[0], _DECIMALS)
        similarity_T = np.where(clusters_T == known.cluster_by_id[example.id], -np.inf, similarity_T)
        best = int(similarity_T.argmax())
        if np.isfinite(similarity_T[best]):
            asked.append(example)
            answers.append(_answer(example, known.train[best].answer))
    return _mean(asked, answers, grader, known.cluster_by_id)


def consistency(known: Known, grader: Grader, *, fewest: int) -> tuple[Interval, int] | None:
    """What the answer of a near-duplicate scores: no contender can be expected to agree with the wanted answers more often.

    Args:
        known: In which near-duplicates are looked for.
        grader: Scores one's answer as if it were given to the other.
        fewest: Pairs below which nothing is said.

    Returns:
        The mean score with its interval, and the number of pairs; None where there are too few.
    """
    pairs = find_duplicates(known.examples)
    if len(pairs) < fewest:
        return None
    asked = [pair.second for pair in pairs]
    scores = _mean(asked, [_answer(pair.second, pair.first.answer) for pair in pairs], grader, known.cluster_by_id)
    return None if scores is None else (scores, len(pairs))


def _by_folds(
    known: Known,
    grader: Grader,
    folds: Sequence[Fold],
    answers: Callable[[Sequence[Example], Sequence[Example]], Sequence[Answer]],
) -> Interval | None:
    examples, asked, given = known.examples, [], []
    for learned, answered in folds:
        part = [examples[place] for place in answered]
        asked += part
        given += answers([examples[place] for place in learned], part)
    return _mean(asked, given, grader, known.cluster_by_id)


def _mean(
    asked: Sequence[Example], answers: Sequence[Answer], grader: Grader, cluster_by_id: Mapping[str, int]
) -> Interval | None:
    scored = list(_scored(asked, answers, grader))
    if not scored:
        return None
    return mean_interval([value for _, value in scored], [cluster_by_id[example.id] for example, _ in scored])


def _scored(asked: Sequence[Example], answers: Sequence[Answer], grader: Grader) -> Iterator[tuple[Example, float]]:
    for example, score in zip(asked, score_answers(grader, asked, answers) if asked else (), strict=True):
        if score.value is not None:
            yield example, score.value


def _answer(example: Example, text: str) -> Answer:
    nothing = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    return Answer(example_id=example.id, text=text, finish_reason=FinishReason.STOP, usage=nothing)
