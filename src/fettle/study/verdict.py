"""From the one comparison declared beforehand to a decision: ship the tuned model, stay with the baseline, or cannot tell yet.

The rule is fixed before the test split is answered. Nothing else (secondary comparisons, costs) enters it, but the headline says
where another contender did better still. Points are percentage points of the mean score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard

from scipy import special

from fettle.records import Comparison, Decision, Interval, Verdict
from fettle.statistics.compare import UnscoredBounds
from fettle.statistics.multiplicity import next_level
from fettle.study.cut_answers import CutAnswers

MAX_UNSCORED_SHARE = 0.05
"""Above this share of unscored pairs, or of pairs with an answer cut short, a decision must also hold with each at its worst."""
FEW_CLUSTERS = 15
"""Below this many groups of examples intervals are wide and lean on their assumptions; the reader is told."""
_POWER = 0.80
_MANY_TIMES = 20
"""More than so many times the test examples are more than anybody will collect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BetterContender:
    """A contender that was not the declared baseline and did better than the challenger."""

    title: str
    ahead_by: float
    """Difference in mean score to the challenger, in [0, 1]."""
    p_value_adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictContext:
    """What the decision needs besides the primary comparison."""

    challenger_title: str
    baseline_title: str
    baseline_is_classifier: bool
    """The best contender without training is no language model."""
    num_clusters: int
    """Number of groups of examples that belong together, among the scored pairs."""
    unscored: UnscoredBounds | None = None
    """The difference with unscored answers at their worst; None only where every pair was scored."""
    worthwhile: float = 0.01
    """Smallest difference in mean score, in [0, 1], that is worth a tuned model."""
    beaten_by: tuple[BetterContender, ...] = ()
    to_constant: Comparison | None = None
    """The challenger minus the answer that is always the same; None only where there was no such contender."""
    to_constant_unscored: UnscoredBounds | None = None
    """The same with unscored answers at their worst; None only where every pair of `to_constant` was scored."""
    cut: CutAnswers | None = None
    """What the token limit cut short; None: nothing of these two contenders."""
    cut_to_constant: CutAnswers | None = None
    """The same of the challenger and the constant answer."""


def decide(primary: Comparison, context: VerdictContext) -> Verdict:
    """The decision on the primary comparison (best tuned contender minus baseline), with its reasons in words.

    - STAY: the interval lies below `worthwhile`, or the one against the constant answer does (with at most 5 % unscored).
    - SHIP: the interval lies above 0, the test agrees (p at most 1 - level), and the estimate is at least `worthwhile`; and the
      challenger is surely better than the constant answer too. Both must hold, so neither is adjusted for the other
      (intersection-union test; Berger 1982).
    - CANNOT_TELL: neither; or more than 5 % of the pairs are unscored, or hold an answer that was cut short, and, taken at their
      worst, would overturn the decision.

    Raises:
        ValueError: Pairs are unscored but `context.unscored` is missing.
    """
    if primary.num_pairs_unscored and context.unscored is None:
        raise ValueError("pairs are unscored; give their worst case in the context")
    decision = _by_interval(primary.difference, context.worthwhile)
    to_constant = context.to_constant
    if decision is not Decision.STAY and to_constant is not None and _is_no_better(to_constant, context.worthwhile):
        if _overturned_by_cut(context.cut_to_constant, context, Decision.STAY):
            return _cannot_tell_for_cut(primary, context, context.cut_to_constant, Decision.STAY)
        return _no_better_than_constant(primary, context, to_constant)
    if decision is Decision.SHIP and not _test_agrees(primary):
        return _cannot_tell(primary, context)
    if decision is Decision.SHIP and to_constant is not None and not _beats_constant(to_constant, context):
        return _perhaps_no_better_than_constant(primary, context, to_constant)
    if _overturned_by_unscored(primary, context, decision):
        headline = (
            f"Cannot tell yet: {primary.num_pairs_unscored} of {_num_pairs(primary)} pairs of answers could not be scored, "
            "and they could turn the result."
        )
        why = (
            f"Going by the scored pairs alone it would be to {decision.value}; with the unscored ones at their worst it would not. "
            "More examples would not help before answers can be scored."
        )
        return Verdict(decision=Decision.CANNOT_TELL, headline=headline, reasons=(why, *_evidence(primary, context)))
    if _overturned_by_cut(context.cut, context, decision):
        return _cannot_tell_for_cut(primary, context, context.cut, decision)
    if decision is Decision.SHIP:
        return Verdict(
            decision=decision, headline=_ship_headline(primary, context), reasons=_ship_reasons(primary, context)
        )
    if decision is Decision.STAY:
        return Verdict(
            decision=decision, headline=_stay_headline(primary, context), reasons=_stay_reasons(primary, context)
        )
    return _cannot_tell(primary, context)


def decision_between(primary: Comparison, context: VerdictContext) -> Decision:
    """The decision by the comparison alone, whoever is compared: the constant answer is not looked at.

    SHIP says that the challenger is better by what is worthwhile, STAY that it is not.
    """
    decision = _by_interval(primary.difference, context.worthwhile)
    if decision is Decision.SHIP and not _test_agrees(primary):
        return Decision.CANNOT_TELL
    return Decision.CANNOT_TELL if _overturned_by_unscored(primary, context, decision) else decision


def num_more_examples(primary: Comparison, context: VerdictContext) -> int | None:
    """How many more test examples would decide with 80 % probability if the true difference is the observed one.

    The interval shrinks with the square root of the number of examples as long as they come in groups like those at hand. It has
    to clear 0 where the observed difference is worthwhile, else it has to fall below `worthwhile`; a gap smaller than half of
    `worthwhile` is taken for that half. The examples at hand are looked at again then, with a wider interval. Rounded up to two
    digits. None where more of the same would not decide: one group only,
    or a difference that sits on the bar itself.
    """
    if context.num_clusters < 2:
        return None
    estimate, worthwhile = primary.difference.estimate, context.worthwhile
    gap = estimate if estimate >= worthwhile else max(worthwhile - estimate, worthwhile / 2)
    if gap == 0:  # no difference at all, where any gain would be worthwhile
        return None
    half_width = (primary.difference.high - primary.difference.low) / 2
    quantile, next_quantile = (
        float(special.ndtri((1 + level) / 2))
        for level in (primary.difference.level, next_level(primary.difference.level))
    )
    shrink_needed = half_width / gap * (next_quantile + float(special.ndtri(_POWER))) / quantile
    num_more = primary.num_pairs * (shrink_needed**2 - 1)
    return _rounded_up(num_more) if num_more > 0 else None


def _by_interval(difference: Interval, worthwhile: float) -> Decision:
    if difference.low > 0 and difference.estimate >= worthwhile:
        return Decision.SHIP
    if difference.high < worthwhile:
        return Decision.STAY
    return Decision.CANNOT_TELL


def _test_agrees(primary: Comparison) -> bool:
    """Interval and test come from different reasoning; in a close call they may differ."""
    return primary.p_value <= 1 - primary.difference.level


def _beats_constant(to_constant: Comparison, context: VerdictContext) -> bool:
    """Whether the challenger is surely better than the constant answer, many unscored pairs taken at their worst."""
    at_worst = context.to_constant_unscored
    if at_worst is not None and _are_many_unscored(to_constant) and at_worst.against_challenger.low <= 0:
        return False
    return to_constant.difference.low > 0 and _test_agrees(to_constant)


def _is_no_better(to_constant: Comparison, worthwhile: float) -> bool:
    return to_constant.difference.high < worthwhile and not _are_many_unscored(to_constant)


def _no_better_than_constant(primary: Comparison, context: VerdictContext, to_constant: Comparison) -> Verdict:
    """What is said of a model that is surely not usefully better than the answer that is usual."""
    to_baseline = (
        f"It scores higher than {context.baseline_title}, but so does"
        if primary.difference.low > 0
        else f"Whether it scores higher than {context.baseline_title} is open, but as high scores"
    )
    return Verdict(
        decision=Decision.STAY,
        headline="Do not fine-tune: the tuned model does no better than one answer that is always the same "
        f"({_apart(to_constant)}).",
        reasons=(
            f"{to_baseline} the answer that is most usual among the training examples: nothing shows that what was learned "
            "depends on the message.",
            _against_constant(to_constant),
            *_evidence(primary, context),
        ),
    )


def _perhaps_no_better_than_constant(primary: Comparison, context: VerdictContext, to_constant: Comparison) -> Verdict:
    """What is said of a model that beats the baseline, and perhaps only with the answer that is usual."""
    return Verdict(
        decision=Decision.CANNOT_TELL,
        headline=f"Cannot tell yet: {context.challenger_title} beats {context.baseline_title}, but not surely the answer that is "
        f"always the same ({_apart(to_constant)}).",
        reasons=(
            "Most of what was learned may be the usual answer; shipping needs a model that is surely better than that too. More "
            "training examples are more likely to help than more test examples.",
            _against_constant(to_constant),
            *_evidence(primary, context),
        ),
        num_more_test_examples=num_more_examples(to_constant, context),
    )


def _against_constant(to_constant: Comparison) -> str:
    text = (
        f"Against the constant answer: {_apart(to_constant)}; equally well on {to_constant.num_ties:,} of "
        f"{to_constant.num_pairs:,} examples."
    )
    if to_constant.num_pairs_unscored:
        text += f" {to_constant.num_pairs_unscored:,} pairs could not be scored."
    return text


def _apart(comparison: Comparison) -> str:
    return f"{_points(comparison.difference.estimate)} points, {_range(comparison.difference)}"


def _overturned_by_unscored(primary: Comparison, context: VerdictContext, decision: Decision) -> bool:
    if context.unscored is None or not _are_many_unscored(primary):
        return False
    return _is_overturned(decision, context.unscored, context.worthwhile)


def _overturned_by_cut(cut: CutAnswers | None, context: VerdictContext, decision: Decision) -> TypeGuard[CutAnswers]:
    if cut is None or cut.share <= MAX_UNSCORED_SHARE:
        return False
    return _is_overturned(decision, cut.bounds, context.worthwhile)


def _is_overturned(decision: Decision, at_worst: UnscoredBounds, worthwhile: float) -> bool:
    """Whether a decision would be another one at its worst; one that cannot tell stays."""
    if decision is Decision.SHIP:
        return _by_interval(at_worst.against_challenger, worthwhile) is not decision
    if decision is Decision.STAY:
        return _by_interval(at_worst.for_challenger, worthwhile) is not decision
    return False


def _cannot_tell_for_cut(primary: Comparison, context: VerdictContext, cut: CutAnswers, decision: Decision) -> Verdict:
    """What is said where the limit on the length of answers may have decided."""
    return Verdict(
        decision=Decision.CANNOT_TELL,
        headline=f"Cannot tell yet: {cut.describe()}, and they could turn the result.",
        reasons=(cut.why(decision), *_evidence(primary, context)),
    )


def _are_many_unscored(comparison: Comparison) -> bool:
    return comparison.num_pairs_unscored > MAX_UNSCORED_SHARE * _num_pairs(comparison)


def _num_pairs(comparison: Comparison) -> int:
    return comparison.num_pairs + comparison.num_pairs_unscored


def _ship_headline(primary: Comparison, context: VerdictContext) -> str:
    headline = (
        f"Ship {context.challenger_title}: it scores {_amount(primary.difference.estimate)} points higher than "
        f"{context.baseline_title} ({_range(primary.difference)})."
    )
    for better in context.beaten_by:
        headline += (
            f" But first look at {better.title}, which scored {_amount(better.ahead_by)} points higher still on the test examples "
            f"(adjusted {_p_value(better.p_value_adjusted)})."
        )
    return headline


def _ship_reasons(primary: Comparison, context: VerdictContext) -> tuple[str, ...]:
    rule = (
        "The whole interval lies above 0, the test agrees, and the difference reaches the "
        f"{_amount(context.worthwhile)} points that were called worthwhile beforehand."
    )
    return (rule, *_evidence(primary, context))


def _stay_headline(primary: Comparison, context: VerdictContext) -> str:
    advice = (
        "Ship the classifier, not a language model"
        if context.baseline_is_classifier
        else f"Do not fine-tune; stay with {context.baseline_title}"
    )
    return f"{advice}: {_worth(primary.difference, context.worthwhile)}."


def _worth(difference: Interval, worthwhile: float) -> str:
    if difference.high < 0:
        return f"the tuned model scores {_amount(-difference.estimate)} points lower ({_range(difference)})"
    same_at_one_digit = _amount(difference.high) == _amount(worthwhile)
    return f"fine-tuning is worth at most {_points(difference.high, num_digits=2 if same_at_one_digit else 1)} points"


def _stay_reasons(primary: Comparison, context: VerdictContext) -> tuple[str, ...]:
    rule = (
        f"The whole interval lies below the {_amount(context.worthwhile)} points that were called worthwhile beforehand: "
        "at this level of confidence the tuned model is not better by as much."
    )
    classifier = (
        f"{context.baseline_title} was the best contender without fine-tuning on the validation examples, and the tuned "
        "language model does not do usefully better.",
    )
    return (rule, *(classifier if context.baseline_is_classifier else ()), *_evidence(primary, context))


def _cannot_tell(primary: Comparison, context: VerdictContext) -> Verdict:
    num_more = num_more_examples(primary, context)
    difference = primary.difference
    headline = f"Cannot tell yet: the difference is {_points(difference.estimate)} points ({_range(difference)})"
    if num_more and num_more > _MANY_TIMES * primary.num_pairs:
        headline += f"; the two are so close that it would take about {num_more:,} more test examples to decide."
    else:
        headline += f"; about {num_more:,} more test examples would probably decide it." if num_more else "."
    if difference.low > 0 and not _test_agrees(primary):
        rule = "A close call: the interval lies above 0, but the test does not agree, and shipping needs both."
    elif difference.low > 0:
        rule = f"The tuned model is better, but perhaps by less than the {_amount(context.worthwhile)} points called worthwhile."
    else:
        rule = (
            "The interval holds both no gain at all and a worthwhile one "
            f"(at least {_amount(context.worthwhile)} points), so either may be true."
        )
    return Verdict(
        decision=Decision.CANNOT_TELL,
        headline=headline,
        reasons=(rule, _about_more(num_more, primary, context), *_evidence(primary, context)),
        num_more_test_examples=num_more,
    )


def _about_more(num_more: int | None, primary: Comparison, context: VerdictContext) -> str:
    if context.num_clusters < 2:
        return "All test examples belong to one group; examples of other groups are needed before anything can be said."
    if num_more is None:
        return "The difference lies so close to what is worthwhile that more examples would hardly decide; let the cost decide."
    goal = (
        "show it to be above 0"
        if primary.difference.estimate >= context.worthwhile
        else f"show it to be below {_amount(context.worthwhile)} points"
    )
    return (
        f"If the true difference is the one observed, {num_more:,} more test examples like these (besides the "
        f"{primary.num_pairs:,} that were scored) would {goal} with 80 % probability."
    )


def _evidence(primary: Comparison, context: VerdictContext) -> tuple[str, ...]:
    """What every verdict tells: the figures behind it, and what to mind about them."""
    win_rate = primary.win_rate
    lines = [
        f"{context.challenger_title} against {context.baseline_title} on the same {primary.num_pairs:,} test examples: "
        f"{_points(primary.difference.estimate)} points ({_range(primary.difference)}); points are percentage points of the score.",
        f"It does better on {primary.num_wins:,} examples, worse on {primary.num_losses:,} and equally well on "
        f"{primary.num_ties:,}: a win rate of {100 * win_rate.estimate:.1f} % with ties as half "
        f"({100 * win_rate.low:.1f} to {100 * win_rate.high:.1f} %).",
        f"{_p_value(primary.p_value)} ({primary.p_value_method}).",
    ]
    if primary.difference.high < 0 and not _test_agrees(primary):
        lines.append("The test does not quite agree with the interval: take it for a close call.")
    if primary.num_pairs_unscored:
        lines.append(
            f"{primary.num_pairs_unscored:,} of {_num_pairs(primary):,} pairs of answers could not be scored and are left out."
        )
    if context.num_clusters < primary.num_pairs:
        lines.append(
            f"The test examples form {context.num_clusters:,} groups that belong together (near-duplicates, one origin); "
            "the interval allows for it."
        )
    if context.num_clusters < FEW_CLUSTERS:
        lines.append(f"{context.num_clusters} independent groups of examples are few: more would make this much surer.")
    return tuple(lines)


def _range(interval: Interval) -> str:
    return f"{_level(interval)} interval {_points(interval.low)} to {_points(interval.high)} points"


def _level(interval: Interval) -> str:
    """A confidence level in per cent, with a decimal where it has one.

    >>> _level(Interval(estimate=0, low=0, high=0)), _level(Interval(estimate=0, low=0, high=0, level=1 - 0.05 / 3))
    ('95 %', '98.3 %')
    """
    return f"{round(100 * interval.level, 1):g} %"


def _points(value: float, *, num_digits: int = 1) -> str:
    """A difference in signed percentage points.

    >>> _points(0.0312), _points(-0.2), _points(-0.0001)
    ('+3.1', '−20.0', '0.0')
    """
    text = f"{100 * value:+.{num_digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def _amount(value: float) -> str:
    """A number of percentage points without a sign in front of positive ones."""
    return _points(value).removeprefix("+")


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def _rounded_up(value: float) -> int:
    """The next integer with at most two digits that are not 0.

    >>> _rounded_up(3.2), _rounded_up(1234.5)
    (4, 1300)
    """
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return math.ceil(value / unit) * unit
