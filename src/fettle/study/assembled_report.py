"""Everything that a finished study has found, as one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fettle.contenders.constant import CONSTANT
from fettle.models.strength import tuned_sha256
from fettle.records import TaskKind
from fettle.report_records import Provenance, StudyReport
from fettle.scoring.confusion import confusion
from fettle.scoring.lengths import length_histogram
from fettle.statistics.compare import ScoredArm, num_scored_clusters, unscored_bounds
from fettle.study.answer_forms import answer_forms
from fettle.study.cut_answers import AnsweredArm, CutAnswers, cut_answers, warnings_of_cut
from fettle.study.grading import named_graders, warnings_of_grading
from fettle.study.ladder import Rung
from fettle.study.power import power_of
from fettle.study.results import (
    TestedRung,
    answer_rows,
    beaten_by,
    by_name,
    comparisons,
    contender_result,
    part_scores,
    scored_arm,
    warnings_of,
    warnings_of_empty,
    warnings_of_others,
    warnings_of_parts,
    warnings_of_training,
)
from fettle.study.tuning import TunedModel
from fettle.study.verdict import VerdictContext, decide

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan


def assembled_report(
    plan: StudyPlan,
    tested: list[TestedRung],
    model: TunedModel,
    *,
    baseline: Rung,
    declaration: str,
    origin: Provenance,
    level: float,
) -> StudyReport:
    """The report of a study.

    Args:
        plan: The study.
        tested: All contenders with their answers to the test split.
        model: The tuned model, and how it came to be.
        baseline: The contender that the tuned one is compared with.
        declaration: What was said of the comparison beforehand.
        origin: What the study was made of.
        level: Confidence level of the comparisons.
    """
    split, task, primary, seed = plan.split, plan.data.task, plan.graders[0], plan.settings.seed
    results = tuple(contender_result(rung, split, task, plan.graders, seed=seed) for rung in tested)
    base = baseline.contender.name
    challenger = model.plan.arm
    compared = comparisons(tested, split, primary, challenger=challenger, baseline=base, seed=seed, level=level)
    clusters = [split.cluster_by_id[example.id] for example in split.test]
    arms = {rung.name: scored_arm(rung, split.test, primary) for rung in tested}
    cut = _cut(plan, tested, arms, (challenger, base), level=level)
    context = VerdictContext(
        challenger_title=by_name(tested, challenger).rung.contender.title,
        baseline_title=baseline.contender.title,
        baseline_is_classifier=base == "classifier",
        num_clusters=num_scored_clusters(arms[challenger], arms[base], clusters),
        unscored=unscored_bounds(arms[challenger], arms[base], clusters, level=level)
        if compared[0].num_pairs_unscored
        else None,
        worthwhile=plan.settings.worthwhile,
        beaten_by=beaten_by(results, compared),
        to_constant=next((one for one in compared if one.baseline == CONSTANT), None),
        cut=cut,
        cut_to_constant=_cut(plan, tested, arms, (challenger, CONSTANT), level=level) if CONSTANT in arms else None,
        to_constant_unscored=unscored_bounds(arms[challenger], arms[CONSTANT], clusters, level=level)
        if CONSTANT in arms
        else None,
    )
    can_show = power_of(split, is_binary=primary.is_binary, level=level)
    is_labels = task.kind is TaskKind.LABELS
    trained = model.training_summary()
    parts = part_scores(tested, split.test, task)
    return StudyReport(
        name=plan.data.name,
        task=task,
        verdict=decide(compared[0], context),
        declaration=declaration,
        primary_metric=primary.name,
        detectable=can_show.of_scores,
        smallest_win_rate=can_show.smallest_win_rate,
        rows_needed=can_show.rows_needed,
        contenders=results,
        comparisons=compared,
        training=trained,
        strength_sweep=model.sweep,
        settings_search=model.search,
        studied_model=None if plan.given is None else plan.given.describe(num_seen=plan.data.num_seen),
        findings=plan.findings,
        num_examples={"train": len(split.train), "valid": len(split.valid), "test": len(split.test)},
        rows=answer_rows(tested, split, primary),
        confusions=tuple(confusion(r.name, split.test, r.answers, task.labels) for r in tested) if is_labels else (),
        part_scores=parts,
        length_histogram=None if is_labels else length_histogram(split.test, {r.name: r.answers for r in tested}),
        provenance=origin,
        graders=named_graders(plan),
        answer_forms=answer_forms(plan, tested),
        tuned_sha256=tuned_sha256(model.folder),
        warnings=(
            *warnings_of(results, len(split.test)),
            *warnings_of_grading(tested, split.test, plan.named_graders, plan.wanted),
            *warnings_of_empty(tested, len(split.test)),
            *warnings_of_cut(cut),
            *warnings_of_others(results, compared),
            *(() if trained is None else warnings_of_training(trained.loss_points, trained.best_step)),
            *(() if plan.given is None else plan.given.warnings(plan.data.num_seen, len(split.cluster_by_id))),
            *warnings_of_parts(parts, task, challenger=challenger),
        ),
    )


def _cut(
    plan: StudyPlan,
    tested: Sequence[TestedRung],
    arms: Mapping[str, ScoredArm],
    names: tuple[str, str],
    *,
    level: float,
) -> CutAnswers | None:
    """What the token limit did to the tuned contender and another one, of these names."""
    challenger, other = (
        AnsweredArm(title=rung.rung.contender.title, answers=rung.answers, scored=arms[rung.name])
        for rung in (by_name(tested, name) for name in names)
    )
    clusters = [plan.split.cluster_by_id[example.id] for example in plan.split.test]
    return cut_answers(challenger, other, plan.split.test, clusters, limit=plan.options.max_new_tokens, level=level)
