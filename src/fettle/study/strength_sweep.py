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
from fettle.report_records import BudgetDecision, Forgetting
from fettle.study.forgetting_check import ForgettingCheck
from fettle.study.ladder import Ladder
from fettle.study.settings import STRENGTHS
from fettle.study.tuned import tuned_arm
from fettle.tuning_records import StrengthPoint, StrengthSweep

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan

NUM_EXAMPLES = 64
"""Validation examples that each strength answers, at most."""


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
    examples = plan.split.valid[:NUM_EXAMPLES]
    folders = {strength: _folder(trained, strength) for strength in STRENGTHS}
    points = tuple(_point(plan, base, folders[strength], strength, ladder, check) for strength in STRENGTHS)
    chosen = chosen_strength(points)
    return SweptAdapter(
        folder=folders[chosen], sweep=StrengthSweep(points=points, chosen=chosen, num_examples=len(examples))
    )


def chosen_strength(points: tuple[StrengthPoint, ...]) -> float:
    """The strength that does the task best among those that keep the budget, the weakest of equals; full strength if none does.

    Where nothing keeps the budget the model is judged as it was trained, and the verdict says what it has forgotten.

    Args:
        points: The weakest first.
    """
    within = [point for point in points if point.keeps_budget and point.validation_score is not None]
    if not within:
        return points[-1].strength
    return max(within, key=lambda point: (point.validation_score or 0.0, -point.strength)).strength


def _point(
    plan: StudyPlan, base: LoadedModel, folder: Path, strength: float, ladder: Ladder, check: ForgettingCheck
) -> StrengthPoint:
    from fettle.answering.engines.plain import local_engine

    engine = local_engine(base, adapter=folder)
    try:
        arm = tuned_arm(plan, engine, folder)
        what = f"validation (at {strength:g} of its strength)"
        examples = plan.split.valid[:NUM_EXAMPLES]
        tried = ladder.tried(arm, examples, name=f"strengths/{strength:g}", what=what)
        found = check.found(check.ask_tuned(engine, arm.identity(), strength=strength), None)
    finally:
        engine.close()
    return StrengthPoint(
        strength=strength,
        validation_score=tried.score,
        general_score=found.general.tuned,
        general_change=found.general.change,
        keeps_budget=_keeps_budget(found),
    )


def _keeps_budget(found: Forgetting) -> bool:
    """By the estimates: a strength is chosen here, and what is sure is told of the chosen one afterwards."""
    changes = [found.general, *([] if found.own is None else [found.own])]
    return found.decision is not BudgetDecision.BROKEN and all(
        change.change.estimate >= -found.budget_points / 100 for change in changes
    )


def _folder(trained: Path, strength: float) -> Path:
    if strength == 1:
        return trained
    return at_strength(trained, strength, into=trained.with_name(f"{trained.name}-at-{strength:g}"))
