"""Is a contender of one finished study better than one of another? Reports in, a record out; nothing is read or written.

What is compared is chosen before any score is looked at (`arms`), and only on rows that both studies tested (`shared_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fettle.comparing.arms import titled
from fettle.comparing.differences import base_model_of, study_differences
from fettle.comparing.notes import notes_of
from fettle.comparing.records import (
    Arm,
    ArmPair,
    ChangedRow,
    ComparedArms,
    ComparedStudies,
    Outcome,
    SharedRows,
    Side,
    StudyFacts,
)
from fettle.comparing.shared_rows import shared_rows
from fettle.errors import DataError
from fettle.records import Comparison, Decision, TaskKind
from fettle.report_records import StudyReport
from fettle.statistics.compare import ScoredArm, compare, num_scored_clusters, unscored_bounds, with_holm
from fettle.statistics.intervals import TIE
from fettle.statistics.multiplicity import level_at_look
from fettle.study import figures
from fettle.study.verdict import VerdictContext, decision_between, num_more_examples

_OUTCOMES = {
    Decision.SHIP: Outcome.BETTER,
    Decision.STAY: Outcome.NOT_BETTER,
    Decision.CANNOT_TELL: Outcome.CANNOT_TELL,
}


def compare_studies(
    first: StudyReport, second: StudyReport, pairs: Sequence[ArmPair], *, worthwhile: float = 0.01
) -> ComparedStudies:
    """Compare contenders of two studies on the rows that both have.

    The rule is that of a study's verdict (`study.verdict.decision_between`): better is a whole interval above 0, a test that agrees
    and a difference of at least `worthwhile`; not better is a whole interval below `worthwhile`.

    Args:
        first: Study A.
        second: Study B.
        pairs: What is compared (`arms.arm_pairs`), the primary pair first.
        worthwhile: Smallest difference in mean score, in [0, 1], that would matter.

    Raises:
        DataError: The studies are about different kinds of answers, score by different graders, have no row in common, or no shared
            row was scored for both sides of the primary pair.
    """
    _require_comparable(first, second)
    shared = shared_rows(first.rows, second.rows, is_json=first.task.kind is TaskKind.JSON)
    _require_shared(shared)
    level = _level(first, second)
    compared = _comparisons(pairs, shared, seed=first.provenance.seed, level=level)
    primary = compared[0].comparison
    context = _context(pairs[0], shared, first, second, worthwhile=worthwhile, level=level)
    outcome = _OUTCOMES[decision_between(primary, context)]
    num_more = num_more_examples(primary, context) if outcome is Outcome.CANNOT_TELL else None
    changed = _changed(pairs[0], shared)
    return ComparedStudies(
        outcome=outcome,
        headline=_headline(outcome, primary, context, num_more),
        studies=(_facts(Side.FIRST, first), _facts(Side.SECOND, second)),
        primary_metric=first.primary_metric,
        worthwhile=worthwhile,
        num_shared=len(shared.rows),
        num_other_answer=shared.num_other_answer,
        num_clusters=len({row.cluster for row in shared.rows}),
        comparisons=compared,
        num_more_test_examples=num_more,
        fixed=tuple(row for row in changed if row.gain > 0),
        broken=tuple(row for row in changed if row.gain < 0),
        differences=study_differences(first, second),
        notes=notes_of(
            first,
            second,
            shared,
            primary=primary,
            num_clusters=context.num_clusters,
            num_graded_otherwise=sum(_num_graded_otherwise(pair, shared) for pair in pairs),
        ),
    )


def _require_comparable(first: StudyReport, second: StudyReport) -> None:
    if first.task.kind is not second.task.kind:
        raise DataError(
            f"the answers of one study are {first.task.kind.value}, those of the other {second.task.kind.value}, which have no "
            "score in common",
            where=f"{first.name}, {second.name}",
            remedy="run one of them again with --task as in the other",
        )
    if first.primary_metric != second.primary_metric:
        raise DataError(
            f"one study scores by {first.primary_metric}, the other by {second.primary_metric}: no difference means anything",
            where=f"{first.name}, {second.name}",
            remedy="run one of them again with --grader as in the other",
        )
    deciding = [next((one.sha256 for one in study.graders if one.decides), None) for study in (first, second)]
    if None not in deciding and deciding[0] != deciding[1]:
        raise DataError(
            f"the grader {first.primary_metric!r} of one study is another one than that of the other: no difference means anything",
            where=f"{first.name}, {second.name}",
            remedy="run one of them again with the --grader file of the other",
        )


def _require_shared(shared: SharedRows) -> None:
    if shared.rows:
        return
    if shared.num_other_answer:
        problem = f"all {shared.num_other_answer:,} questions that both studies test have another wanted answer in each"
    else:
        problem = f"none of {shared.num_first:,} test questions of A is among the {shared.num_second:,} of B"
    raise DataError(
        problem, where="A, B", remedy="give both studies the same test file with --test, and run them again"
    )


def _level(first: StudyReport, second: StudyReport) -> float:
    """The confidence level of the comparison.

    When a test split is looked at for the n-th time, there are n - 1 earlier studies that the new one can be compared with, and
    each such comparison is one more result read off the same rows (`statistics.multiplicity`).
    """
    number = max(one.provenance.test_look_number for one in (first, second))
    return level_at_look(max(1, number - 1))


def _comparisons(pairs: Sequence[ArmPair], shared: SharedRows, *, seed: int, level: float) -> tuple[ComparedArms, ...]:
    """The primary one first; secondary ones of which no row was scored are left out, and the others Holm-adjusted."""
    clusters = [row.cluster for row in shared.rows]
    found: list[ComparedArms] = []
    for place, pair in enumerate(pairs):
        challenger, baseline = _scored(pair.challenger, shared), _scored(pair.baseline, shared)
        try:
            comparison = compare(challenger, baseline, clusters, is_primary=place == 0, seed=seed, level=level)
        except DataError:
            if place == 0:
                raise
            continue
        found.append(
            ComparedArms(
                comparison=comparison,
                challenger_mean=_mean_of_pairs(challenger, baseline),
                baseline_mean=_mean_of_pairs(baseline, challenger),
            )
        )
    adjusted = with_holm([one.comparison for one in found])
    return tuple(replace(one, comparison=comparison) for one, comparison in zip(found, adjusted, strict=True))


def _scored(arm: Arm, shared: SharedRows) -> ScoredArm:
    scores = tuple(row.of(arm.side).scores.get(arm.contender) for row in shared.rows)
    is_binary = all(score in (0, 1) for score in scores if score is not None)
    return ScoredArm(name=str(arm), scores=scores, is_binary=is_binary)


def _mean_of_pairs(arm: ScoredArm, other: ScoredArm) -> float:
    scored = [
        score
        for score, beside in zip(arm.scores, other.scores, strict=True)
        if score is not None and beside is not None
    ]
    return sum(scored) / len(scored)


def _context(
    pair: ArmPair,
    shared: SharedRows,
    first: StudyReport,
    second: StudyReport,
    *,
    worthwhile: float,
    level: float,
) -> VerdictContext:
    challenger, baseline = _scored(pair.challenger, shared), _scored(pair.baseline, shared)
    clusters = [row.cluster for row in shared.rows]
    return VerdictContext(
        challenger_title=titled(pair.challenger, first, second),
        baseline_title=titled(pair.baseline, first, second),
        baseline_is_classifier=False,
        num_clusters=num_scored_clusters(challenger, baseline, clusters),
        unscored=unscored_bounds(challenger, baseline, clusters, level=level),
        worthwhile=worthwhile,
    )


def _headline(outcome: Outcome, primary: Comparison, context: VerdictContext, num_more: int | None) -> str:
    difference = primary.difference
    interval = f"{figures.level_percent(difference.level)} interval {figures.points_range(difference)}"
    challenger, baseline = context.challenger_title, context.baseline_title
    if outcome is Outcome.BETTER:
        return f"{challenger} is better than {baseline}: {figures.points(difference.estimate)} ({interval})."
    if outcome is Outcome.NOT_BETTER and difference.high < 0:
        return f"{challenger} is worse than {baseline}: {figures.points(difference.estimate)} ({interval})."
    if outcome is Outcome.NOT_BETTER:
        bar = figures.points(context.worthwhile)
        return (
            f"{challenger} is not better than {baseline} by {bar}: {figures.points(difference.estimate)} ({interval})."
        )
    more = "" if num_more is None else f"; it would take about {num_more:,} more test rows of both"
    return (
        f"Cannot tell yet: {challenger} minus {baseline} is {figures.points(difference.estimate)} ({interval}){more}."
    )


def _changed(pair: ArmPair, shared: SharedRows) -> tuple[ChangedRow, ...]:
    """Rows whose score changed, those that changed most first."""
    rows = []
    for row in shared.rows:
        ours, theirs = row.of(pair.challenger.side), row.of(pair.baseline.side)
        score, before = ours.scores.get(pair.challenger.contender), theirs.scores.get(pair.baseline.contender)
        if score is not None and before is not None and abs(score - before) > TIE:
            changed = ChangedRow(
                question=ours.input_text,
                wanted=ours.wanted,
                baseline_answer=theirs.answers[pair.baseline.contender],
                challenger_answer=ours.answers[pair.challenger.contender],
                baseline_score=before,
                challenger_score=score,
                source=ours.source,
            )
            rows.append(changed)
    return tuple(sorted(rows, key=lambda changed: -abs(changed.gain)))


def _num_graded_otherwise(pair: ArmPair, shared: SharedRows) -> int:
    """Rows to which both say the same, and are scored differently."""
    return sum(row.baseline_answer == row.challenger_answer for row in _changed(pair, shared))


def _facts(side: Side, report: StudyReport) -> StudyFacts:
    origin = report.provenance
    return StudyFacts(
        side=side,
        name=report.name,
        created_at=origin.created_at,
        base_model=base_model_of(report),
        num_test=len(report.rows),
        test_look_number=origin.test_look_number,
        num_test_looks=origin.num_test_looks,
    )
