"""How much a tuned model may forget, and whether it has forgotten more."""

from __future__ import annotations

from dataclasses import dataclass

from fettle.errors import require_range
from fettle.records import Interval
from fettle.report_records import BudgetDecision


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgettingBudget:
    """The most that may be lost."""

    points: float = 5.0
    """Percentage points of the mean score, 0 to 100: what the base model may be ahead of the tuned one."""

    def __post_init__(self) -> None:
        """Refuse what is no number of points.

        Raises:
            ConfigError: It is below 0 or above 100.
        """
        require_range("forgetting budget", self.points, low=0, high=100)

    def judge(self, change: Interval) -> BudgetDecision:
        """Whether a change is within the budget.

        BROKEN: the whole interval lies beyond it. WITHIN: none of it does. CANNOT_TELL: it lies on both sides, so that the items
        are too few, or the change too near to the budget, for either.

        Args:
            change: Tuned minus base, in mean score, [-1, 1].

        >>> budget = ForgettingBudget(points=5)
        >>> [budget.judge(Interval(estimate=e, low=e - 0.03, high=e + 0.03)).value for e in (-0.01, -0.04, -0.09)]
        ['within', 'cannot tell', 'broken']
        """
        most = -self.points / 100
        if change.high < most:
            return BudgetDecision.BROKEN
        return BudgetDecision.WITHIN if change.low >= most else BudgetDecision.CANNOT_TELL
