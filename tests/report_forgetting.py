"""Made-up results of the forgetting check, with intervals as wide as real ones."""

from __future__ import annotations

from fettle.forgetting.budget import ForgettingBudget
from fettle.forgetting.items import Category
from fettle.records import Interval
from fettle.report_records import Forgetting, SkillChange, TokenDivergence
from fettle.study.settings import STRENGTHS
from fettle.tuning_records import StrengthPoint, StrengthSweep

SIZES = {
    Category.FACTS: 62,
    Category.ARITHMETIC: 43,
    Category.READING: 40,
    Category.INSTRUCTIONS: 40,
    Category.JSON: 28,
    Category.LANGUAGES: 48,
    Category.SAFETY: 36,
}


def skill(name: str, title: str, *, num_items: int, lost: float) -> SkillChange:
    """A base model that is right on 60 %, and a tuned one that is right on so much less."""
    half_width = 0.55 / num_items**0.5
    num_worse = round(num_items * (lost + 0.05))
    return SkillChange(
        name=name,
        title=title,
        base=0.6,
        tuned=0.6 - lost,
        change=Interval(estimate=-lost, low=-lost - half_width, high=-lost + half_width),
        num_items=num_items,
        num_unscored=1 if name == "json" else 0,
        num_worse=num_worse,
        num_better=num_worse - round(num_items * lost),
    )


def forgetting(*, lost: float, own_lost: float | None = None, budget: ForgettingBudget | None = None) -> Forgetting:
    """What a model has forgotten that has lost so much on the general suite, and on the user's own examples if there are any."""
    budget = budget or ForgettingBudget(points=5)
    general = skill("general", "All of the general suite", num_items=sum(SIZES.values()), lost=lost)
    own = None if own_lost is None else skill("own", "What must still work (Exact label)", num_items=400, lost=own_lost)
    return Forgetting(
        budget_points=budget.points,
        general=general,
        general_decision=budget.judge(general.change),
        categories=tuple(
            skill(category.value, category.heading, num_items=size, lost=lost * place / 3)
            for place, (category, size) in enumerate(SIZES.items())
        ),
        suite_sha256="5" * 64,
        own=own,
        own_decision=None if own is None else budget.judge(own.change),
        divergence=TokenDivergence(
            nats=0.87, interval=Interval(estimate=0.87, low=0.71, high=1.05), num_tokens=4210, num_inputs=120
        ),
    )


def strength_sweep(*, lost: float, chosen: float, budget_points: float = 5) -> StrengthSweep:
    """An adapter at four strengths that does the task better and loses more, the stronger it is."""
    points = [
        StrengthPoint(
            strength=strength,
            validation_score=0.62 + 0.22 * strength - 0.05 * strength**3,
            general_score=0.57 - lost * strength**2,
            general_change=Interval(
                estimate=-lost * strength**2, low=-lost * strength**2 - 0.035, high=-lost * strength**2 + 0.035
            ),
            breaks_budget=100 * lost * strength**2 - 3.5 > budget_points,
        )
        for strength in STRENGTHS
    ]
    return StrengthSweep(points=tuple(points), chosen=chosen, num_examples=64)
