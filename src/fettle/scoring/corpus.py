"""Figures about a whole split that are no mean of scores: macro F1, and precision and recall by label or by JSON field.

Answers that the engine failed to give are left out here as they are unscored there. The arithmetic is counting; it is done here and
not by scikit-learn because a bootstrap repeats it thousands of times (`tests/numbers` holds the two against each other).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fettle.errors import DataError
from fettle.records import Answer, Example
from fettle.report_records import PartScore
from fettle.scoring.grader import pair_answers, unscorable
from fettle.scoring.json_values import read_leaves
from fettle.scoring.label_reader import LabelReader


class MacroF1:
    """Macro F1 of one contender, over all its answers or over a bootstrap resample of them.

    >>> round(MacroF1(["a", "a", "b"], ["A.", "b", "b"], ["a", "b", "c"]).value(), 3)
    0.667

    Args:
        wanted: The wanted label of each answer.
        answered: What was answered, as written; a text that is no label is a miss for the wanted label and a hit for none.
        labels: The label set. A wanted label outside it counts as one more label, which nothing can find.

    Raises:
        DataError: There is nothing to count.
        ValueError: `wanted` and `answered` differ in length.
    """

    def __init__(self, wanted: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> None:
        if not wanted:
            raise DataError("macro F1 needs at least one scored answer", remedy="check why every answer failed")
        wanted_N, answered_N, self.labels = _label_numbers(wanted, answered, labels)
        self._wanted_N, self._answered_N = wanted_N, answered_N

    def value(self, indices: NDArray[np.intp] | None = None) -> float:
        """Mean F1, in [0, 1], over the labels that were wanted or answered at least once in the resample.

        Args:
            indices: Positions of the answers to count, repeats included; None: each once.

        Source: `sklearn.metrics.f1_score(average="macro", zero_division=nan)`.
        """
        wanted_N, answered_N = self._wanted_N, self._answered_N
        if indices is not None:
            wanted_N, answered_N = wanted_N[indices], answered_N[indices]
        num_wanted, num_answered, num_right = _counts(wanted_N, answered_N, len(self.labels))
        totals = num_wanted + num_answered
        present = totals > 0
        return float(np.mean(2 * num_right[present] / totals[present]))


def label_scores(wanted: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> tuple[PartScore, ...]:
    """Precision, recall and F1 of every label, in the order of `labels`; wanted labels outside the set follow.

    Raises:
        ValueError: `wanted` and `answered` differ in length.
    """
    wanted_N, answered_N, names = _label_numbers(wanted, answered, labels)
    columns = (counts.tolist() for counts in _counts(wanted_N, answered_N, len(names)))
    return tuple(_part_score(*row) for row in zip(names, *columns, strict=True))


def answered_texts(examples: Sequence[Example], answers: Sequence[Answer]) -> tuple[tuple[str, str], ...]:
    """(wanted, answered) texts of the answers that can be judged, in the order of the examples: the input of `MacroF1`.

    Raises:
        IntegrityError: Not exactly one answer per example.
    """
    pairs = pair_answers(examples, answers)
    return tuple((example.answer, answer.text) for example, answer in pairs if unscorable(example, answer) is None)


def field_scores(examples: Sequence[Example], answers: Sequence[Answer]) -> tuple[PartScore, ...]:
    """Precision, recall and F1 of every JSON field that was wanted or answered, sorted by its path.

    An answer that is no JSON misses every wanted field. Examples whose wanted answer is no JSON are left out.

    Raises:
        IntegrityError: Not exactly one answer per example.
    """
    num_wanted: Counter[str] = Counter()
    num_answered: Counter[str] = Counter()
    num_right: Counter[str] = Counter()
    for wanted_text, answered_text in answered_texts(examples, answers):
        if (wanted := read_leaves(wanted_text)) is None:
            continue
        answered = read_leaves(answered_text)
        answered_leaves = answered.counts if answered is not None and answered.kind == wanted.kind else Counter()
        for counter, leaves in (
            (num_wanted, wanted.counts),
            (num_answered, answered_leaves),
            (num_right, wanted.counts & answered_leaves),
        ):
            for (path, _), count in leaves.items():
                counter[path] += count
    return tuple(
        _part_score(path, num_wanted[path], num_answered[path], num_right[path])
        for path in sorted(num_wanted | num_answered)
    )


def _part_score(name: str, num_wanted: int, num_answered: int, num_right: int) -> PartScore:
    total = num_wanted + num_answered
    return PartScore(
        name=name,
        num_wanted=num_wanted,
        num_answered=num_answered,
        num_right=num_right,
        precision=num_right / num_answered if num_answered else None,
        recall=num_right / num_wanted if num_wanted else None,
        f1=2 * num_right / total if total else None,
    )


def _label_numbers(
    wanted: Sequence[str], answered: Sequence[str], labels: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[str, ...]]:
    """Label numbers wanted [N] and answered [N] (one past the last: no label), and the labels."""
    if len(wanted) != len(answered):
        raise ValueError(f"{len(wanted)} wanted labels, but {len(answered)} answers")
    reader = LabelReader(labels).with_unseen(wanted)
    number = {label: position for position, label in enumerate(reader.labels)}
    outside = len(reader.labels)

    def read(text: str) -> int:
        label = reader.read(text)
        return outside if label is None else number[label]

    wanted_N = np.array([read(text) for text in wanted], dtype=np.intp)
    answered_N = np.array([read(text) for text in answered], dtype=np.intp)
    return wanted_N, answered_N, reader.labels


def _counts(
    wanted_N: NDArray[np.intp], answered_N: NDArray[np.intp], num_labels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """How often each label [L] was wanted, answered, and both."""

    def count(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.bincount(numbers, minlength=num_labels + 1)[:num_labels]

    return count(wanted_N), count(answered_N), count(wanted_N[wanted_N == answered_N])
