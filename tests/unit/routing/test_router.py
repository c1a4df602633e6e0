"""Who answers a request, why, and what a day may cost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from fettle.errors import BusyError, ConfigError, EngineError, FettleError, IntegrityError, ModelError, RemoteError
from fettle.records import Answer, Example, FinishReason, Location, Message, Prompt, Usage
from fettle.routing.budget import DailyBudget
from fettle.routing.judge import judge_by
from fettle.routing.router import AnsweredBy, Reason, Router, RouterSettings, WithoutLarge
from fettle.routing_records import RoutingRule

PROMPT = Prompt(example_id="p", messages=(Message(role="user", content="Where is 12?"),))
USAGE = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.1)
SMALL = Answer(
    example_id="p",
    text="here",
    finish_reason=FinishReason.STOP,
    usage=USAGE,
    choice_log_likelihoods={"here": -0.1, "there": -1.1},
)
LARGE = replace(SMALL, text="there", choice_log_likelihoods=None)
UNREAD = replace(USAGE, prompt_tokens=0, completion_tokens=0)
FAILED = replace(LARGE, text="", finish_reason=FinishReason.ERROR, error="HTTP 500", usage=UNREAD)
SETTINGS = RouterSettings(threshold=0.8, without_large=WithoutLarge.FAIL)
KIND = replace(SETTINGS, without_large=WithoutLarge.ANSWER_SMALL)
BY_MARGIN = judge_by(RoutingRule(measure="label_margin", threshold=0.8))


def never(prompt: Prompt) -> Answer:
    raise AssertionError("it is not to be asked")


def down(prompt: Prompt) -> Answer:
    raise RemoteError("connection refused")


def routed(settings: RouterSettings = SETTINGS, *, small=lambda _: SMALL, large=lambda _: LARGE, **others):
    router = Router(small, large, BY_MARGIN, settings, **others)
    try:
        return router.answer(PROMPT)
    finally:
        router.close()


def test_what_is_trusted_is_answered_small_and_the_large_model_is_not_asked() -> None:
    given = routed(large=never)
    assert (given.answer, given.answered_by, given.reason) == (SMALL, AnsweredBy.SMALL, Reason.TRUSTED)
    assert given.confidence == pytest.approx(1.0)
    assert given.large_seconds is None


def test_what_is_below_the_threshold_goes_to_the_large_model() -> None:
    given = routed(replace(SETTINGS, threshold=1.01))
    assert (given.answer, given.answered_by, given.reason) == (LARGE, AnsweredBy.LARGE, Reason.NOT_TRUSTED)
    assert given.confidence == pytest.approx(1.0)
    assert routed(replace(SETTINGS, threshold=None)).answered_by is AnsweredBy.LARGE


def test_an_answer_without_what_is_measured_is_not_trusted() -> None:
    given = routed(small=lambda _: replace(SMALL, choice_log_likelihoods=None))
    assert (given.answered_by, given.reason, given.confidence) == (AnsweredBy.LARGE, Reason.NOT_TRUSTED, None)


@pytest.mark.parametrize("small", [down, lambda _: FAILED])
def test_a_small_model_that_fails_leaves_it_to_the_large_one(small: Callable[[Prompt], Answer]) -> None:
    given = routed(small=small)
    assert (given.answer, given.reason, given.confidence) == (LARGE, Reason.SMALL_FAILED, None)
    with pytest.raises(RemoteError, match=r"connection refused.*the small one failed as well"):
        routed(KIND, small=small, large=down)


@pytest.mark.parametrize(
    "fault", [ConfigError("no such reading"), ModelError("no such model"), IntegrityError("other weights")]
)
def test_a_small_model_that_is_not_there_is_told_and_does_not_leave_everything_to_the_large_one(
    fault: FettleError,
) -> None:
    def gone(prompt: Prompt) -> Answer:
        raise fault

    for settings in (SETTINGS, KIND):
        with pytest.raises(type(fault)):
            routed(settings, small=gone, large=never)
        with pytest.raises(RemoteError):  # of a large one it is a failure like any other
            routed(replace(SETTINGS, threshold=2.0), large=gone)


@pytest.mark.parametrize("large", [down, lambda _: FAILED])
def test_a_large_model_that_is_down_fails_the_request_or_not_as_the_policy_says(
    large: Callable[[Prompt], Answer],
) -> None:
    with pytest.raises(RemoteError, match="the large model did not answer"):
        routed(replace(SETTINGS, threshold=2.0), large=large)
    given = routed(replace(KIND, threshold=2.0), large=large)
    assert (given.answer, given.answered_by, given.reason) == (SMALL, AnsweredBy.SMALL, Reason.LARGE_FAILED)
    assert given.problem in ("connection refused", "HTTP 500")


def test_a_slow_large_model_is_not_waited_for_and_is_paid_all_the_same() -> None:
    let_go, budget = threading.Event(), DailyBudget(1.0)
    settings = replace(KIND, threshold=2.0, large_timeout_seconds=0.01, large_cost_per_request=0.25)

    def slow(prompt: Prompt) -> Answer:
        let_go.wait(30)
        return LARGE

    router = Router(lambda _: SMALL, slow, BY_MARGIN, settings, budget=budget, cost_of=lambda _: 0.4)
    given = router.answer(PROMPT)
    assert (given.answer, given.reason) == (SMALL, Reason.LARGE_SLOW)
    assert given.problem == "no answer within 0.01 seconds"
    assert budget.spent_today == 0.25, "set aside while it runs"
    let_go.set()
    router.close(wait=True)
    assert budget.spent_today == 0.4, "and what it cost once it has ended"
    let_go.clear()
    with pytest.raises(RemoteError, match=r"no answer within 0\.01 seconds"):
        routed(replace(settings, without_large=WithoutLarge.FAIL), large=slow)
    let_go.set()


def test_a_fault_of_the_large_function_itself_is_no_policys_business_and_blocks_no_budget() -> None:
    def broken(prompt: Prompt) -> Answer:
        raise KeyError("choices")

    budget = DailyBudget(1.0)
    router = Router(
        lambda _: SMALL, broken, BY_MARGIN, replace(KIND, threshold=2.0, large_cost_per_request=0.25), budget=budget
    )
    with pytest.raises(KeyError):
        router.answer(PROMPT)
    router.close(wait=True)
    assert budget.spent_today == 0.0


def test_a_spent_budget_is_told_and_a_failed_request_costs_nothing() -> None:
    budget = DailyBudget(0.5)
    dear = replace(KIND, threshold=2.0, large_cost_per_request=0.25)
    assert routed(dear, large=lambda _: FAILED, budget=budget).reason is Reason.LARGE_FAILED
    assert budget.spent_today == 0.0
    assert [routed(dear, budget=budget).answered_by for _ in range(2)] == [AnsweredBy.LARGE] * 2
    given = routed(dear, large=never, budget=budget)
    assert (given.answer, given.reason) == (SMALL, Reason.BUDGET_SPENT)
    with pytest.raises(BusyError, match="budget for the large model is spent"):
        routed(replace(dear, without_large=WithoutLarge.FAIL), large=never, budget=budget)
    assert routed(replace(dear, threshold=0.8), large=never, budget=budget).reason is Reason.TRUSTED


def test_an_answer_that_was_lost_on_its_way_may_have_been_billed() -> None:
    budget = DailyBudget(0.5)
    dear = replace(KIND, threshold=2.0, large_cost_per_request=0.25)
    lost = replace(FAILED, error="what came is no chat completion", usage=replace(USAGE, prompt_tokens=9))
    assert [routed(dear, large=lambda _: lost, budget=budget).reason for _ in range(3)] == [
        Reason.LARGE_FAILED, Reason.LARGE_FAILED, Reason.BUDGET_SPENT,
    ]  # fmt: skip
    assert budget.spent_today == 0.5


def test_a_request_that_fails_once_it_is_no_longer_waited_for_may_have_been_billed() -> None:
    let_go, budget = threading.Event(), DailyBudget(1.0)

    def slow(prompt: Prompt) -> Answer:
        assert let_go.wait(30)
        return FAILED

    settings = replace(KIND, threshold=2.0, large_timeout_seconds=0.01, large_cost_per_request=0.25)
    router = Router(lambda _: SMALL, slow, BY_MARGIN, settings, budget=budget)
    assert router.answer(PROMPT).reason is Reason.LARGE_SLOW
    let_go.set()
    router.close(wait=True)
    assert budget.spent_today == 0.25


def test_requests_at_the_same_time_stop_at_the_limit_together() -> None:
    budget = DailyBudget(1.0)
    settings = replace(KIND, threshold=2.0, large_cost_per_request=0.1)
    gate = threading.Barrier(8)

    def together(prompt: Prompt) -> Answer:
        gate.wait(30)
        return SMALL

    router = Router(together, lambda _: LARGE, BY_MARGIN, settings, budget=budget)
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: router.answer(PROMPT), range(32)))
    router.close()
    assert [one.answered_by for one in given].count(AnsweredBy.LARGE) == 10
    assert budget.spent_today == pytest.approx(1.0)


def test_a_reservation_is_settled_once_and_a_new_day_begins_with_nothing() -> None:
    day = [date(2026, 1, 1)]
    budget = DailyBudget(1.0, today=lambda: day[0])
    first, second = budget.reserve(0.6), budget.reserve(0.4)
    assert first is not None
    assert second is not None
    assert budget.reserve(0.1) is None
    budget.settle(first, 0.5)
    budget.settle(first, 0.5)
    assert budget.spent_today == pytest.approx(0.9)
    day[0] = date(2026, 1, 2)
    assert budget.spent_today == 0.0
    budget.settle(second, 0.4)  # it ends on the next day, and belongs to the first
    assert budget.spent_today == 0.0
    assert budget.reserve(1.0) is not None
    assert DailyBudget(0.0).reserve(0.0) is None
    with pytest.raises(ConfigError):
        DailyBudget(-1.0)


def test_confidence_is_foreseen_with_the_coefficients_of_a_study() -> None:
    class Length:
        name = "length"

        def embed(self, texts):
            return np.array([[float(len(text))] for text in texts], dtype=np.float32)

    rule = RoutingRule(measure="foreseen", threshold=0.0, coefficients=(2.0,), intercept=-1.0)
    judge = judge_by(rule, embedder=Length())
    assert judge(PROMPT, SMALL) == 2.0 * len("Where is 12?") - 1.0
    assert judge(PROMPT, FAILED) == float("-inf")
    example = Example(
        id="e", messages=(Message(role="system", content="Where is 7?"), Message(role="assistant", content="here")),
        source=Location(file="f", line=1),
    )  # fmt: skip
    assert judge(replace(PROMPT, messages=example.prompt), SMALL) == 2.0 * len(example.input_text) - 1.0
    with pytest.raises(ConfigError, match="coefficients"):
        judge_by(replace(rule, coefficients=()), embedder=Length())


def test_agreement_needs_samples_and_unknown_measures_are_refused() -> None:
    rule = RoutingRule(measure="self_consistency", threshold=0.5, num_samples=2, temperature=0.7)
    alike = replace(SMALL, text=SMALL.text + " ")
    assert judge_by(rule, draw=lambda _: [SMALL, alike])(PROMPT, SMALL) == 1.0
    assert judge_by(rule, draw=lambda _: [SMALL, FAILED])(PROMPT, SMALL) == 0.5

    def full(_: object) -> list[Answer]:
        raise BusyError("all places are taken", remedy="ask again", retry_after_seconds=1)

    assert judge_by(rule, draw=full)(PROMPT, SMALL) is None, "what cannot be told is not trusted"

    def broken(_: object) -> list[Answer]:
        raise EngineError("the model could not be run")

    assert judge_by(rule, draw=broken)(PROMPT, SMALL) is None, "the large model answers"
    with pytest.raises(ConfigError, match="samples"):
        judge_by(rule)
    with pytest.raises(ConfigError, match="samples"):
        judge_by(replace(rule, num_samples=0), draw=lambda _: [])
    with pytest.raises(ConfigError, match="no measure of confidence"):
        judge_by(replace(rule, measure="mood"))


def test_settings_that_nothing_can_be_decided_by_are_refused() -> None:
    for wrong in ({"threshold": float("nan")}, {"large_timeout_seconds": 0.0}, {"large_cost_per_request": -1.0}):
        with pytest.raises(ConfigError):
            replace(SETTINGS, **wrong)
