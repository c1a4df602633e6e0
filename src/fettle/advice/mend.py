"""What to mend in the data before anything else, each because of something measured."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.advice.measured import Measured
from fettle.advice.opinion import A_FEW, FEW_PER_LABEL
from fettle.advice_records import Measurement, Reason
from fettle.records import TaskKind

MANY_REPEATS = 0.2
SEEN_DIFFERENCE = 0.1
"""Ten points: a test split that finds no less leaves most true gains undecided."""


def before_anything(measured: Measured) -> Iterator[Reason]:
    """What to mend in the data first, the worst first."""
    m = measured
    if m.leaks is not None:
        yield _because(
            "Rows of one file are in another too: a study does not train on them, but whatever else you do with them may.",
            m.leaks,
        )
    if m.not_json is not None:
        yield _because("Some answers are no JSON object: write them as one, or remove them.", m.not_json)
    if m.probable_wrong_labels is not None and m.probable_wrong_labels.number > A_FEW:
        yield _because("Read the doubtful labels again.", m.probable_wrong_labels)
    if m.conflicts is not None and m.conflicts.number > A_FEW:
        yield _because("Decide which answer is right where equal inputs have several.", m.conflicts)
    if m.consistency is not None and m.task is not TaskKind.TEXT and m.consistency.high < 1 - A_FEW:
        yield _because(
            "No contender can agree with the wanted answers more than they agree with each other.", m.consistency
        )
    if m.examples_per_label is not None and m.examples_per_label.number < FEW_PER_LABEL:
        yield _because("Collect more examples of each label, or join rare ones.", m.examples_per_label)
    if m.near_duplicates.number > MANY_REPEATS:
        yield _because("Many examples repeat others, and count for less than as many that differ.", m.near_duplicates)
    if m.personal_data.number > A_FEW:
        yield _because("Replace personal data by placeholders: a tuned model can repeat them.", m.personal_data)
    if m.too_long.number:
        yield _because("Shorten the longest examples, or name a model with a longer context.", m.too_long, m.context)
    if m.detectable.number > SEEN_DIFFERENCE:
        text = "Collect more test examples: a gain that would matter can stay unseen."
        yield _because(text, m.detectable, m.num_test, m.rows_for_five_points)


def _because(text: str, *rests_on: Measurement) -> Reason:
    return Reason(text=text, rests_on=rests_on)
