import dataclasses

import pytest

from fettle.records import Comparison, Decision, Interval
from fettle.statistics.compare import ScoredArm, UnscoredBounds, compare, unscored_bounds
from fettle.study.verdict import BetterContender, VerdictContext, decide, num_more_examples

CONTEXT = VerdictContext(
    challenger_title="Fine-tuned",
    baseline_title="Few-shot prompt",
    baseline_is_classifier=False,
    num_clusters=200,
)


def comparison(estimate: float, low: float, high: float, *, num_unscored: int = 0) -> Comparison:
    return Comparison(
        challenger="tuned",
        baseline="few_shot",
        is_primary=True,
        num_pairs=200,
        num_pairs_unscored=num_unscored,
        difference=Interval(estimate=estimate, low=low, high=high),
        bootstrap=None,
        win_rate=Interval(estimate=0.55, low=0.51, high=0.59),
        num_wins=30,
        num_ties=160,
        num_losses=10,
        p_value=0.002,
        p_value_method="exact McNemar test",
        p_value_adjusted=0.002,
    )


@pytest.mark.parametrize(
    ("estimate", "low", "high", "decision"),
    [
        (0.06, 0.02, 0.10, Decision.SHIP),
        (0.01, 0.001, 0.019, Decision.SHIP),
        (0.009, 0.001, 0.017, Decision.CANNOT_TELL),  # surely better, perhaps not by a worthwhile amount
        (0.06, 0.0, 0.12, Decision.CANNOT_TELL),
        (0.0, -0.05, 0.05, Decision.CANNOT_TELL),
        (-0.02, -0.05, 0.01, Decision.CANNOT_TELL),
        (-0.02, -0.05, 0.009, Decision.STAY),
        (0.004, 0.001, 0.007, Decision.STAY),  # better, but surely not usefully
        (-0.2, -0.3, -0.1, Decision.STAY),
    ],
)
def test_the_rule(estimate: float, low: float, high: float, decision: Decision) -> None:
    verdict = decide(comparison(estimate, low, high), CONTEXT)
    assert verdict.decision is decision
    assert (verdict.num_more_test_examples is None) == (decision is not Decision.CANNOT_TELL)


def test_ship_says_by_how_much() -> None:
    verdict = decide(comparison(0.062, 0.021, 0.103), CONTEXT)
    assert verdict.headline == (
        "Ship Fine-tuned: it scores 6.2 points higher than Few-shot prompt (95 % interval +2.1 to +10.3 points)."
    )
    reasons = " ".join(verdict.reasons)
    assert "1.0 points that were called worthwhile" in reasons
    assert "better on 30 examples, worse on 10 and equally well on 160" in reasons
    assert "p = 0.002 (exact McNemar test)" in reasons


def test_ship_says_who_did_better_still() -> None:
    better = BetterContender(title="Classifier", ahead_by=0.12, p_value_adjusted=0.0004)
    verdict = decide(comparison(0.062, 0.021, 0.103), dataclasses.replace(CONTEXT, beaten_by=(better,)))
    assert verdict.decision is Decision.SHIP
    assert verdict.headline.endswith(
        "But first look at Classifier, which scored 12.0 points higher still on the test examples (adjusted p < 0.001)."
    )


def test_stay_says_what_fine_tuning_is_worth_at_most() -> None:
    assert decide(comparison(0.001, -0.004, 0.006), CONTEXT).headline == (
        "Do not fine-tune; stay with Few-shot prompt: fine-tuning is worth at most +0.6 points."
    )
    worse = decide(comparison(-0.2, -0.3, -0.1), CONTEXT).headline
    assert worse.endswith("the tuned model scores 20.0 points lower (95 % interval −30.0 to −10.0 points).")


def test_a_limit_just_below_worthwhile_is_not_rounded_to_it() -> None:
    assert "at most +0.97 points" in decide(comparison(0.002, -0.004, 0.0097), CONTEXT).headline


def test_a_classifier_that_is_not_beaten_is_what_to_ship() -> None:
    context = dataclasses.replace(CONTEXT, baseline_is_classifier=True, baseline_title="Classifier")
    verdict = decide(comparison(-0.13, -0.17, -0.09), context)
    assert verdict.decision is Decision.STAY
    assert verdict.headline.startswith(
        "Ship the classifier, not a language model: the tuned model scores 13.0 points lower"
    )


def test_a_classifier_was_the_best_on_validation_and_is_not_called_untrained() -> None:
    context = dataclasses.replace(CONTEXT, baseline_is_classifier=True, baseline_title="Classifier")
    text = " ".join(decide(comparison(-0.13, -0.17, -0.09), context).reasons)
    assert "Classifier was the best contender without fine-tuning on the validation examples" in text
    assert "surely" not in text


def test_more_examples_are_counted_from_those_that_were_scored() -> None:
    primary = dataclasses.replace(comparison(0.04, -0.02, 0.10), num_pairs=200, num_pairs_unscored=5)
    bounds = UnscoredBounds(against_challenger=primary.difference, for_challenger=primary.difference)
    reasons = decide(primary, dataclasses.replace(CONTEXT, unscored=bounds)).reasons
    assert any("besides the 200 that were scored" in reason for reason in reasons)


def test_cannot_tell_says_how_many_more() -> None:
    """Half-width 6, difference 4, and 97.5 % at the next look: (2.24 + 0.84) / 1.96 = 1.573; (6 / 4 x 1.573)^2 = 5.57 times 200."""
    verdict = decide(comparison(0.04, -0.02, 0.10), CONTEXT)
    assert verdict.num_more_test_examples == 920
    assert "about 920 more test examples would probably decide it" in verdict.headline
    assert any("above 0 with 80 % probability" in reason for reason in verdict.reasons)


def test_more_examples_to_show_that_it_is_not_worth_it() -> None:
    """Half-width 4, difference -2, 3 below what is worthwhile: (4 / 3 x 1.573)^2 = 4.4 times the 200 pairs."""
    verdict = decide(comparison(-0.02, -0.06, 0.02), CONTEXT)
    assert verdict.num_more_test_examples == 680
    assert any("below 1.0 points with 80 % probability" in reason for reason in verdict.reasons)


def test_a_difference_on_the_bar_itself_is_left_to_the_cost() -> None:
    primary = comparison(0.0099, 0.0087, 0.0111)
    verdict = decide(primary, CONTEXT)
    assert verdict.decision is Decision.CANNOT_TELL
    assert verdict.num_more_test_examples is num_more_examples(primary, CONTEXT) is None
    assert any("let the cost decide" in reason for reason in verdict.reasons)


def test_no_difference_where_any_would_do_is_left_to_the_cost_too() -> None:
    context = dataclasses.replace(CONTEXT, worthwhile=0.0)
    verdict = decide(comparison(0.0, -0.05, 0.05), context)
    assert (verdict.decision, verdict.num_more_test_examples) == (Decision.CANNOT_TELL, None)


def test_one_group_of_examples_needs_others_not_more() -> None:
    verdict = decide(comparison(0.5, -1.0, 1.0), dataclasses.replace(CONTEXT, num_clusters=1))
    assert verdict.num_more_test_examples is None
    assert any("other groups" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("num_unscored", "decision"), [(10, Decision.SHIP), (11, Decision.CANNOT_TELL)]
)  # of 210 and 211 pairs, 4.8 and 5.2 %
def test_unscored_answers_that_could_turn_it_stop_the_decision(num_unscored: int, decision: Decision) -> None:
    turned = UnscoredBounds(
        against_challenger=Interval(estimate=0.0, low=-0.04, high=0.04),
        for_challenger=Interval(estimate=0.1, low=0.06, high=0.14),
    )
    context = dataclasses.replace(CONTEXT, unscored=turned)
    verdict = decide(comparison(0.06, 0.02, 0.10, num_unscored=num_unscored), context)
    assert verdict.decision is decision
    if decision is Decision.CANNOT_TELL:
        assert verdict.headline.startswith("Cannot tell yet: 11 of 211 pairs of answers could not be scored")
        assert verdict.num_more_test_examples is None
    else:
        assert any("10 of 210 pairs" in reason for reason in verdict.reasons)


def test_unscored_answers_that_cannot_turn_it_do_not_stop_it() -> None:
    tuned = ScoredArm(name="tuned", scores=(*[None] * 20, *[1.0] * 180), is_binary=True)
    prompt = ScoredArm(name="prompt", scores=(*[0.0] * 150, *[1.0] * 50), is_binary=True)
    primary = compare(tuned, prompt, range(200), is_primary=True, seed=1)
    context = dataclasses.replace(CONTEXT, unscored=unscored_bounds(tuned, prompt, range(200)))
    assert primary.num_pairs_unscored == 20
    assert decide(primary, context).decision is Decision.SHIP


def test_unscored_answers_can_also_overturn_staying() -> None:
    bounds = UnscoredBounds(
        against_challenger=Interval(estimate=-0.2, low=-0.3, high=-0.1),
        for_challenger=Interval(estimate=0.1, low=0.05, high=0.15),
    )
    context = dataclasses.replace(CONTEXT, unscored=bounds)
    assert decide(comparison(-0.05, -0.08, -0.02, num_unscored=40), context).decision is Decision.CANNOT_TELL


def test_the_worst_case_must_be_given() -> None:
    with pytest.raises(ValueError, match="worst case"):
        decide(comparison(0.06, 0.02, 0.10, num_unscored=1), CONTEXT)


def test_the_reader_is_told_about_groups_and_close_calls() -> None:
    context = dataclasses.replace(CONTEXT, num_clusters=12)
    close = dataclasses.replace(comparison(0.06, 0.001, 0.12), p_value=0.0625)
    verdict = decide(close, context)
    assert verdict.decision is Decision.CANNOT_TELL, "shipping needs the interval and the test"
    assert decide(dataclasses.replace(close, p_value=0.05), context).decision is Decision.SHIP
    reasons = " ".join(verdict.reasons)
    assert "12 groups" in reasons
    assert "12 independent groups of examples are few" in reasons
    assert "close call" in reasons


@pytest.mark.parametrize(
    ("estimate", "low", "high", "decision", "told"),
    [
        (0.05, 0.01, 0.09, Decision.SHIP, "Ship Fine-tuned"),
        (0.0, 0.0, 0.0, Decision.STAY, "no better than one answer that is always the same"),
        (-0.02, -0.05, 0.009, Decision.STAY, "no better than one answer that is always the same"),
        (0.02, -0.01, 0.05, Decision.CANNOT_TELL, "not surely the answer that is always the same"),
    ],
)
def test_shipping_needs_more_than_the_usual_answer(
    estimate: float, low: float, high: float, decision: Decision, told: str
) -> None:
    context = dataclasses.replace(CONTEXT, to_constant=comparison(estimate, low, high))
    verdict = decide(comparison(0.14, 0.09, 0.19), context)
    assert verdict.decision is decision
    assert told in verdict.headline
    if decision is not Decision.SHIP:
        assert any("Against the constant answer" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.09), (-0.05, 0.009)])
def test_many_answers_without_a_score_leave_the_usual_answer_undecided(low: float, high: float) -> None:
    to_constant = comparison((low + high) / 2, low, high, num_unscored=30)
    bounds = UnscoredBounds(
        against_challenger=Interval(estimate=-0.1, low=-0.2, high=0.0),
        for_challenger=Interval(estimate=0.2, low=0.1, high=0.3),
    )
    verdict = decide(
        comparison(0.4, 0.3, 0.5), dataclasses.replace(CONTEXT, to_constant=to_constant, to_constant_unscored=bounds)
    )
    assert verdict.decision is Decision.CANNOT_TELL
    assert any("30 pairs could not be scored" in reason for reason in verdict.reasons)


def test_a_model_below_the_usual_answer_is_no_matter_of_more_test_examples() -> None:
    context = dataclasses.replace(CONTEXT, to_constant=comparison(-0.69, -0.75, -0.51))
    verdict = decide(comparison(0.012, -0.02, 0.044), context)
    assert verdict.decision is Decision.STAY
    assert "no better than one answer that is always the same" in verdict.headline
    assert "is open" in verdict.reasons[0]
    assert verdict.num_more_test_examples is None


def test_the_usual_answer_does_not_turn_a_verdict_against_tuning() -> None:
    context = dataclasses.replace(CONTEXT, to_constant=comparison(0.3, 0.2, 0.4))
    assert decide(comparison(-0.2, -0.3, -0.1), context).decision is Decision.STAY


def test_a_number_of_examples_that_nobody_collects_is_no_advice() -> None:
    verdict = decide(comparison(0.004, -0.06, 0.068), CONTEXT)
    assert "so close that it would take about" in verdict.headline
