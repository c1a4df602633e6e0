"""From scores to a change, and from a change to a decision."""

import pytest

from fettle.errors import ConfigError, DataError
from fettle.forgetting.budget import ForgettingBudget
from fettle.forgetting.changes import category_changes, general_change, skill_change
from fettle.forgetting.items import Category, Choice, GeneralItem, general_suite
from fettle.forgetting.measure import forgetting_found
from fettle.records import Answer, FinishReason, Interval, Score, Usage
from fettle.report_records import BudgetDecision, Forgetting, SkillChange
from fettle.statistics.intervals import paired_difference

SUITE = general_suite()


def scores(values: list[float | None]) -> list[Score]:
    return [Score(example_id=str(place), value=value, reason="none") for place, value in enumerate(values)]


def test_a_change_is_the_paired_difference_over_what_both_were_scored_on() -> None:
    base = scores([1.0, 1.0, 0.0, None, 1.0, 0.0])
    tuned = scores([1.0, 0.0, 1.0, 1.0, 0.0, None])
    change = skill_change(base, tuned, [0, 1, 2, 3, 4, 5], name="x", title="X")
    assert (change.base, change.tuned) == (0.75, 0.5)
    assert change.change == paired_difference([1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0], [0, 1, 2, 4])
    assert change.change.estimate == pytest.approx(-0.25)
    assert (change.num_items, change.num_unscored, change.num_worse, change.num_better) == (4, 2, 2, 1)


def test_scores_of_other_questions_are_no_pair() -> None:
    with pytest.raises(ValueError, match="not the same question"):
        skill_change(scores([1.0, 1.0]), scores([1.0, 1.0])[::-1], [0, 1], name="x", title="X")


def test_nothing_scored_is_no_result() -> None:
    with pytest.raises(DataError, match="could be scored for both"):
        skill_change(scores([None]), scores([1.0]), [0], name="x", title="X")


def test_questions_about_one_text_count_as_one_cluster() -> None:
    passages = [item for item in SUITE if item.category is Category.READING]
    base = [Score(example_id=item.id, value=1.0) for item in passages]
    lost = {passages[0].group, passages[4].group}
    tuned = [Score(example_id=item.id, value=float(item.group not in lost)) for item in passages]
    together = general_change(passages, base, tuned).change
    alone = skill_change(base, tuned, range(len(passages)), name="x", title="X").change
    assert together.estimate == alone.estimate
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_all_items_count_the_same_in_all_and_each_category_stands_by_itself() -> None:
    base = [Score(example_id=item.id, value=1.0) for item in SUITE]
    tuned = [Score(example_id=item.id, value=float(item.category is not Category.FACTS)) for item in SUITE]
    changes = {change.name: change for change in category_changes(SUITE, base, tuned)}
    assert list(changes) == [category.value for category in Category]
    assert changes["facts"].change.estimate == -1
    assert all(change.change.estimate == 0 for name, change in changes.items() if name != "facts")
    num_facts = sum(item.category is Category.FACTS for item in SUITE)
    assert general_change(SUITE, base, tuned).change.estimate == pytest.approx(-num_facts / len(SUITE))


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (-0.049, 0.02, BudgetDecision.WITHIN),
        (-0.05, 0.02, BudgetDecision.WITHIN),
        (-0.06, -0.04, BudgetDecision.CANNOT_TELL),
        (-0.3, 0.1, BudgetDecision.CANNOT_TELL),
        (-0.2, -0.051, BudgetDecision.BROKEN),
    ],
)
def test_the_whole_interval_decides(low: float, high: float, decision: BudgetDecision) -> None:
    assert ForgettingBudget(points=5).judge(Interval(estimate=(low + high) / 2, low=low, high=high)) is decision


@pytest.mark.parametrize("points", [-1, 101, float("nan")])
def test_a_budget_is_a_number_of_points(points: float) -> None:
    with pytest.raises(ConfigError, match="forgetting budget"):
        ForgettingBudget(points=points)


def test_a_model_that_is_the_same_is_within_the_usual_budget_and_the_suite_can_show_it() -> None:
    """With one question in ten answered otherwise, half of them better, the suite is large enough for a budget of 5 points."""
    base = [Score(example_id=item.id, value=float(place % 2)) for place, item in enumerate(SUITE)]
    tuned = [
        Score(example_id=item.id, value=float((place + (place % 20 in (3, 10))) % 2))
        for place, item in enumerate(SUITE)
    ]
    change = general_change(SUITE, base, tuned)
    assert change.num_worse + change.num_better >= len(SUITE) / 11
    assert ForgettingBudget().judge(change.change) is BudgetDecision.WITHIN


def own_change(estimate: float) -> SkillChange:
    interval = Interval(estimate=estimate, low=estimate - 0.02, high=estimate + 0.02)
    return SkillChange(
        name="own", title="Own", base=0.9, tuned=0.9 + estimate, change=interval,
        num_items=50, num_unscored=0, num_worse=1, num_better=0,
    )  # fmt: skip


def answered(items: list[GeneralItem], is_right: bool) -> list[Answer]:
    answers = []
    for item in items:
        assert isinstance(item.expected, Choice)
        text = item.expected.right if is_right else "something else"
        usage = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.0)
        answers.append(Answer(example_id=item.id, text=text, finish_reason=FinishReason.STOP, usage=usage))
    return answers


@pytest.mark.parametrize(
    ("is_kept", "of_own", "decision"),
    [
        (True, None, BudgetDecision.WITHIN),
        (True, 0.0, BudgetDecision.WITHIN),
        (True, -0.05, BudgetDecision.CANNOT_TELL),
        (True, -0.2, BudgetDecision.BROKEN),
        (False, 0.0, BudgetDecision.BROKEN),
    ],
)
def test_either_of_the_two_breaks_the_budget(is_kept: bool, of_own: float | None, decision: BudgetDecision) -> None:
    items = [item for item in SUITE if isinstance(item.expected, Choice)]
    found: Forgetting = forgetting_found(
        items,
        answered(items, is_right=True),
        answered(items, is_right=is_kept),
        budget=ForgettingBudget(points=5),
        own=None if of_own is None else own_change(of_own),
    )
    assert found.decision is decision
    assert found.general.num_items == len(items)
    assert (found.own_decision is None) == (of_own is None)
