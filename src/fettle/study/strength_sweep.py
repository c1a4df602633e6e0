"""An adapter tried at several strengths, on validation alone: how well it does the task, and what it has forgotten.

A weaker adapter often does the task as well and has forgotten less. The strength that is chosen is stored in an adapter of its own
(`models/strength.py`), and that is the study's tuned contender.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.models.load import LoadedModel
from fettle.models.strength import at_strength
from fettle.report_records import BudgetDecision
from fettle.study.forgetting_check import ForgettingCheck
from fettle.study.ladder import Ladder
from fettle.study.settings import STRENGTHS
from fettle.study.tuned import answering, tuned_arm
from fettle.tuning_records import StrengthPoint, StrengthSweep

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptAdapter:
    """The adapter that a sweep has chosen."""

    folder: Path
    """At full strength the trained one itself."""
    sweep: StrengthSweep


def sweep_strengths(
    plan: StudyPlan, base: LoadedModel, trained: Path, ladder: Ladder, check: ForgettingCheck
) -> SweptAdapter:
    """Try a trained adapter at several strengths and choose one.

    Args:
        plan: The study.
        base: The model that it was trained beside, bare; it is bare again afterwards.
        trained: The adapter's folder.
        ladder: Says how well the task is done.
        check: Says what was forgotten; the base model has been asked.
    """
    folders = {
        strength: at_strength(trained, strength, into=trained.with_name(f"{trained.name}-at-{strength:g}"))
        for strength in STRENGTHS
    }
    points = tuple(_point(plan, base, folder, strength, ladder, check) for strength, folder in folders.items())
    chosen = chosen_strength(points, worthwhile=plan.settings.worthwhile)
    sweep = StrengthSweep(points=points, chosen=chosen, num_examples=len(ladder.tried_examples))
    return SweptAdapter(folder=folders[chosen], sweep=sweep)


def chosen_strength(points: tuple[StrengthPoint, ...], *, worthwhile: float) -> float:
    """The weakest strength that does the task as well as any, among those that do not break the budget.

    As well is: within what the user calls worthwhile, for a smaller gain is not worth what is forgotten for it. Only a budget that
    is surely broken keeps a model from being shipped, so only that rules a strength out. Where all break it, the model is judged as
    it was trained, and the verdict says what it has forgotten.

    Args:
        points: The weakest first.
        worthwhile: Smallest difference in mean score, in [0, 1], that counts.
    """
    scores = {point.strength: point.validation_score for point in points if not point.breaks_budget}
    known = {strength: score for strength, score in scores.items() if score is not None}
    if not known:
        return points[-1].strength
    best = max(known.values())
    return next(strength for strength, score in known.items() if score >= best - worthwhile)


def _point(
    plan: StudyPlan, base: LoadedModel, folder: Path, strength: float, ladder: Ladder, check: ForgettingCheck
) -> StrengthPoint:
    with answering(plan, base, folder) as engine:
        arm = tuned_arm(plan, engine, folder)
        what = f"validation (at {strength:g} of its strength)"
        tried = ladder.tried(arm, ladder.tried_examples, name=f"strengths/{strength:g}", what=what)
        found = check.found(check.ask_tuned(engine, arm.identity(), strength=strength), None)
    return StrengthPoint(
        strength=strength,
        validation_score=tried.score,
        general_score=found.general.tuned,
        general_change=found.general.change,
        breaks_budget=found.decision is BudgetDecision.BROKEN,
    )
