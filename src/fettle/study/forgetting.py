"""What was forgotten, in the verdict and in the report's chart."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from fettle.records import Decision, Verdict
from fettle.report_records import BudgetDecision, Forgetting, SkillChange, StudyReport
from fettle.study import figures
from fettle.study.charts import IntervalMark, interval_chart
from fettle.study.views import primary_pair

_REMEDY = (
    "More general examples in training (replay), fewer epochs, a lower learning rate or a weaker adapter usually bring most of it "
    "back; or allow more, if none of this is needed any longer."
)


def with_forgetting(verdict: Verdict, forgetting: Forgetting, *, challenger_title: str) -> Verdict:
    """The verdict with what was forgotten among its reasons; a model that has forgotten too much is not shipped.

    Only a broken budget changes a decision, and only that to ship. Where nobody can tell whether it is broken the decision stands,
    and the reason says so: the budget guards against a loss that is sure, as the task's own comparison does against a gain that is
    not.
    """
    reasons = _reasons(forgetting)
    if verdict.decision is not Decision.SHIP or forgetting.decision is not BudgetDecision.BROKEN:
        return replace(verdict, reasons=(*verdict.reasons, *reasons))
    broken = [change for change, decision in _judged(forgetting) if decision is BudgetDecision.BROKEN]
    lost = "; ".join(f"{_noun(change)}: {_told(change)}" for change in broken)
    return Verdict(
        decision=Decision.STAY,
        headline=f"Do not ship {challenger_title} as it is: it does the task better, but has forgotten more than the "
        f"{_budget(forgetting)} that may be lost ({lost}).",
        reasons=(*reasons, _REMEDY, f"On the task alone the verdict would be: {verdict.headline}", *verdict.reasons),
    )


def report_with(report: StudyReport, forgetting: Forgetting) -> StudyReport:
    """The report with what was forgotten, its verdict included."""
    pair = primary_pair(report)
    title = "the tuned model" if pair is None else pair.challenger.title
    verdict = with_forgetting(report.verdict, forgetting, challenger_title=title)
    return replace(report, verdict=verdict, forgetting=forgetting)


def forgetting_chart(forgetting: Forgetting) -> Markup:
    """The change of the whole suite, of the user's own examples and of each category, with the budget as a line."""
    judged = [change for change, _ in _judged(forgetting)]
    return interval_chart(
        [_mark(change, is_judged=change in judged) for change in changes_of(forgetting)],
        label="Tuned minus base, points",
        zero_line=True,
        limit=-forgetting.budget_points,
    )


def changes_of(forgetting: Forgetting) -> tuple[SkillChange, ...]:
    """All changes, those first that the budget is held against."""
    return (*(change for change, _ in _judged(forgetting)), *forgetting.categories, *forgetting.harness)


def _judged(forgetting: Forgetting) -> list[tuple[SkillChange, BudgetDecision]]:
    judged = [(forgetting.general, forgetting.general_decision)]
    if forgetting.own is not None and forgetting.own_decision is not None:
        judged.append((forgetting.own, forgetting.own_decision))
    return judged


def _reasons(forgetting: Forgetting) -> tuple[str, ...]:
    """One sentence for each change that the budget is held against, and for each task of lm-evaluation-harness."""
    ends = {
        BudgetDecision.WITHIN: f"within the {_budget(forgetting)} that may be lost.",
        BudgetDecision.BROKEN: f"more than the {_budget(forgetting)} that may be lost.",
        BudgetDecision.CANNOT_TELL: f"which may be more than the {_budget(forgetting)} that may be lost, or less: "
        "the interval holds both.",
    }
    judged = tuple(
        f"What it still can ({_noun(change)}, {figures.counted(change.num_items, 'question')}): "
        f"a mean score of {figures.percent(change.base)} before tuning and {figures.percent(change.tuned)} after, {_told(change)}, "
        f"{ends[decision]}"
        for change, decision in _judged(forgetting)
    )
    shown = tuple(
        f"What it still can ({change.title}, {figures.counted(change.num_items, 'question')}): {figures.percent(change.base)} "
        f"before tuning and {figures.percent(change.tuned)} after, {_told(change)}; shown, and held against no budget."
        for change in forgetting.harness
    )
    return judged + shown


def _mark(change: SkillChange, *, is_judged: bool) -> IntervalMark:
    return IntervalMark(
        title=change.title,
        note="",
        low=100 * change.change.low,
        estimate=100 * change.change.estimate,
        high=100 * change.change.high,
        value=figures.signed(100 * change.change.estimate, 1),
        bounds=figures.points_range(change.change),
        is_accented=is_judged,
        is_solid=is_judged,
    )


def _noun(change: SkillChange) -> str:
    return change.title[:1].lower() + change.title[1:]


def _told(change: SkillChange) -> str:
    interval = change.change
    level = figures.level_percent(interval.level)
    return f"{figures.points(interval.estimate)} ({level} interval {figures.points_range(interval)})"


def _budget(forgetting: Forgetting) -> str:
    return f"{forgetting.budget_points:g} points"
