from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fettle.advice.probes import Known, classifier_score, consistency, constant_score, nearest_answer_score
from fettle.examples.duplicates import cluster_by_id
from fettle.examples.task import recognise_task
from fettle.records import Example, Location, Message, Task, TaskKind
from fettle.scoring.graders.label import ExactLabel
from fettle.scoring.graders.text import ExactText
from fettle.scoring.label_reader import LabelReader

WORDS = ("parcel", "invoice", "address")
LABELS = ("lost", "billing", "moved")


class Counts:
    """Counts of the three words: a real, tiny embedder."""

    name = "counts"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def example(number: int, text: str, answer: str) -> Example:
    messages = (Message(role="user", content=text), Message(role="assistant", content=answer))
    return Example(id=f"e{number}", messages=messages, source=Location(file="e.jsonl", line=number + 1))


def labelled(count: int, first: int = 0) -> tuple[Example, ...]:
    """Messages that their word tells the label of; numbers of many digits keep them apart."""
    return tuple(
        example(n, f"{WORDS[n % 3]} {n * 7919 % 10007} {n * 104729 % 99991} {n * 31 % 997}", LABELS[n % 3])
        for n in range(first, first + count)
    )


def known(train: Sequence[Example], valid: Sequence[Example] = (), clusters: dict[str, int] | None = None) -> Known:
    everything = (*train, *valid)
    return Known(
        train=tuple(train),
        valid=tuple(valid),
        cluster_by_id=clusters or {one.id: place for place, one in enumerate(everything)},
    )


TASK = Task(kind=TaskKind.LABELS, reason="", labels=LABELS)
GRADER = ExactLabel(reader=LabelReader(LABELS))


def test_folds_answer_each_example_once_and_part_no_cluster() -> None:
    train, valid = labelled(30), labelled(9, first=30)
    clusters = {one.id: place // 2 for place, one in enumerate((*train, *valid))}
    found = known(train, valid, clusters)
    folds = found.folds(TASK, seed=3)
    assert sorted(place for _, answered in folds for place in answered) == list(range(39))
    *of_training, of_validation = folds
    assert of_validation == (tuple(range(30)), tuple(range(30, 39)))
    for learned, answered in of_training:
        assert max(learned) < 30  # what answers was learned from training examples alone
        assert {clusters[train[place].id] for place in learned}.isdisjoint(
            clusters[train[place].id] for place in answered
        )
    assert folds == found.folds(TASK, seed=3)


def test_one_cluster_of_training_examples_leaves_the_validation_examples() -> None:
    train, valid = labelled(6), labelled(3, first=6)
    clusters = dict.fromkeys([one.id for one in train], 0) | {one.id: 1 for one in valid}
    assert known(train, valid, clusters).folds(TASK, seed=0) == ((tuple(range(6)), (6, 7, 8)),)


def test_the_constant_answer_is_that_of_the_other_folds() -> None:
    examples = [example(n, f"m{n}", "lost" if n < 14 else "billing") for n in range(20)]
    found = known(examples)
    score = constant_score(found, TASK, GRADER, found.folds(TASK, seed=0))
    assert score is not None
    assert score.estimate == 14 / 20  # in every fold "lost" is the commonest label of the others
    assert score.low < 0.7 < score.high


def test_the_nearest_answer_is_that_of_another_cluster() -> None:
    train = [example(0, "parcel", "lost"), example(1, "parcel parcel", "moved"), example(2, "invoice", "billing")]
    valid = [example(3, "invoice invoice", "billing")]
    apart = nearest_answer_score(known(train, valid), GRADER, embedder=Counts())
    assert apart is not None
    assert apart.estimate == 1 / 4  # only the last one finds its label: 0 and 1 find each other, 2 finds one of them
    together = {"e0": 0, "e1": 0, "e2": 0, "e3": 1}
    alone = nearest_answer_score(known(train, valid, together), GRADER, embedder=Counts())
    assert alone is not None
    assert alone.estimate == 1.0  # of the three nobody has a neighbour, and nothing is said of them
    assert nearest_answer_score(known(train, (), together), GRADER, embedder=Counts()) is None


def test_a_classifier_learns_what_the_words_tell_and_nothing_where_they_tell_nothing() -> None:
    found = known(labelled(60), labelled(12, first=60))
    folds = found.folds(TASK, seed=0)
    score = classifier_score(found, TASK, GRADER, folds, embedder=Counts(), seed=0)
    assert score is not None
    assert score.estimate == 1.0
    rng = np.random.default_rng(0)
    mixed = [example(n, one.user_text, LABELS[rng.integers(3)]) for n, one in enumerate(labelled(90))]
    shuffled = known(mixed)
    score = classifier_score(shuffled, TASK, GRADER, shuffled.folds(TASK, seed=0), embedder=Counts(), seed=0)
    assert score is not None
    assert score.low < 1 / 3 < score.high


def test_consistency_is_how_near_duplicates_answer_each_other() -> None:
    texts = [f"where is my parcel number {n * 7919} that i sent to the old street on monday {n}" for n in range(12)]
    first = [example(n, text, "lost") for n, text in enumerate(texts)]
    again = [example(100 + n, text, "lost" if n < 9 else "moved") for n, text in enumerate(texts)]
    examples = (*first, *again)
    found = Known(train=examples, valid=(), cluster_by_id=cluster_by_id(examples))
    told = consistency(found, GRADER, fewest=10)
    assert told is not None
    score, num_pairs = told
    assert num_pairs >= 12
    assert 0.6 < score.estimate < 0.9
    assert consistency(known(labelled(30)), GRADER, fewest=10) is None


@pytest.mark.parametrize("answer", ["", "{}"])
def test_texts_are_probed_by_their_own_grader(answer: str) -> None:
    examples = [example(n, f"m{n}", f"thanks {n % 2}{answer}") for n in range(10)]
    found = known(examples)
    task = recognise_task(examples, TaskKind.TEXT)
    score = constant_score(found, task, ExactText(), found.folds(task, seed=0))
    assert score is not None
    assert score.estimate <= 0.5
