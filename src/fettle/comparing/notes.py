"""What a reader of a comparison of two studies must know before trusting its figures, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.comparing.records import SharedRows, Side
from fettle.records import Comparison
from fettle.report_records import StudyReport
from fettle.study.figures import counted, level_percent
from fettle.study.verdict import FEW_CLUSTERS

USUAL_LEVEL = 0.95
"""Of a comparison that no other look at the test questions came before."""


def notes_of(
    first: StudyReport,
    second: StudyReport,
    shared: SharedRows,
    *,
    primary: Comparison,
    num_clusters: int,
    num_graded_otherwise: int,
) -> tuple[str, ...]:
    """The notes, those that weigh most first.

    Args:
        first: Study A.
        second: Study B.
        shared: The rows that were compared.
        primary: The primary comparison.
        num_clusters: Groups that belong together, among the rows scored for both sides of it.
        num_graded_otherwise: Pairs of equal answers with unequal scores.
    """
    return (
        *_about_grading(num_graded_otherwise),
        *_about_rows(first, second, shared),
        *_about_groups(shared, primary, num_clusters),
        *_about_looks(first, second, primary),
        *_about_models(first, second, primary),
    )


def _about_grading(num_graded_otherwise: int) -> Iterator[str]:
    if num_graded_otherwise:
        yield (
            f"{counted(num_graded_otherwise, 'pair')} of equal answers to equal questions are scored differently: the two studies "
            "do not grade alike (another version of Fettle, or a grader that learns from the training answers). Part of any "
            "difference is the graders'; run both studies with this Fettle."
        )


def _about_rows(first: StudyReport, second: StudyReport, shared: SharedRows) -> Iterator[str]:
    if shared.num_other_answer:
        yield (
            f"{counted(shared.num_other_answer, 'question')} of both studies are left out because another answer is wanted: the "
            "files were corrected, or contradict each other."
        )
    if len(shared.rows) < max(shared.num_first, shared.num_second):
        yield (
            "Rows that only one of the studies tested are not compared. To compare all, give both the same --test file, or the "
            "same examples, sizes and --seed."
        )
    ours, theirs = first.provenance.split_sha256, second.provenance.split_sha256
    if ours != theirs:
        yield (
            "The studies were split or instructed differently. Each kept the shared rows out of its own training; whether other "
            "test rows of one were training rows of the other cannot be seen from reports, so do not compare their own figures "
            "with each other."
        )
    if first.provenance.model_sha256 != second.provenance.model_sha256:
        yield (
            "The base models differ. What either has learned before its study, perhaps from these very rows, cannot be seen from "
            "reports."
        )


def _about_groups(shared: SharedRows, primary: Comparison, num_clusters: int) -> Iterator[str]:
    if primary.num_pairs_unscored:
        yield (
            f"{counted(primary.num_pairs_unscored, 'pair')} could not be scored and are left out; where they are more than one in "
            "twenty, the outcome also has to hold with all of them at their worst."
        )
    if not shared.has_clusters:
        yield "Older versions of Fettle wrote these reports and did not keep which rows belong together: each counts for itself."
    elif num_clusters < primary.num_pairs:
        yield (
            f"The shared rows form {num_clusters:,} groups that belong together in one study or the other; the intervals allow for "
            "it."
        )
    if num_clusters < FEW_CLUSTERS:
        yield f"{num_clusters} independent groups of rows are few: more would make this much surer."


def _about_looks(first: StudyReport, second: StudyReport, primary: Comparison) -> Iterator[str]:
    told = " and ".join(
        f"{side.value} was look {one.provenance.test_look_number} of {one.provenance.num_test_looks}"
        for side, one in zip(Side, (first, second), strict=True)
    )
    wider = (
        f" The intervals are therefore wider ({level_percent(primary.difference.level)}), and tests stricter."
        if primary.difference.level > USUAL_LEVEL
        else ""
    )
    yield (
        f"Looks at test questions, as each study's machine had counted them when its report was written: {told}.{wider} Choosing "
        "between the studies by this comparison is a choice made on the test split: the score of the one that is chosen will look "
        "a little better than it is. New test rows tell."
    )


def _about_models(first: StudyReport, second: StudyReport, primary: Comparison) -> Iterator[str]:
    tuned = [
        one.is_fine_tuned
        for side, report in zip(Side, (first, second), strict=True)
        for one in report.contenders
        if f"{side.value}:{one.name}" in (primary.challenger, primary.baseline)
    ]
    if any(tuned):
        yield (
            "A tuned model is one training run, and another seed gives another model: the interval is about these two models on "
            "rows like these, not about their settings."
        )
