"""Everything that is measured of forgetting, put together for the report."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.forgetting.ask import score_items
from fettle.forgetting.budget import ForgettingBudget
from fettle.forgetting.changes import category_changes, general_change
from fettle.forgetting.items import GeneralItem, suite_sha256
from fettle.records import Answer
from fettle.report_records import Forgetting, SkillChange, TokenDivergence


def forgetting_found(
    items: Sequence[GeneralItem],
    base: Sequence[Answer],
    tuned: Sequence[Answer],
    *,
    budget: ForgettingBudget,
    own: SkillChange | None = None,
    divergence: TokenDivergence | None = None,
    harness: Sequence[SkillChange] = (),
) -> Forgetting:
    """What the answers to the general suite, and what else was measured, say of forgetting.

    Args:
        items: The general suite, or a part of it.
        base: The base model's answers, in the order of the items.
        tuned: The tuned model's, likewise.
        budget: What may be lost, on the suite and on the user's own examples each.
        own: The change on the user's own examples; None: there are none.
        divergence: How far the tuned model has moved away; None: it was not measured.
        harness: The changes on tasks of lm-evaluation-harness.

    Raises:
        DataError: A whole category could not be scored for both.
    """
    before, after = score_items(items, base), score_items(items, tuned)
    general = general_change(items, before, after)
    return Forgetting(
        budget_points=budget.points,
        general=general,
        general_decision=budget.judge(general.change),
        categories=category_changes(items, before, after),
        suite_sha256=suite_sha256(),
        own=own,
        own_decision=None if own is None else budget.judge(own.change),
        divergence=divergence,
        harness=tuple(harness),
    )
