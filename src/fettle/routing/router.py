"""One request through a router: the small model answers, and where it is not trusted the large one does.

The small answer is complete before it is judged, so a stream of a router begins when that is done. Knows nothing of a server or a
store: it is given two functions that answer, and a budget.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from enum import StrEnum

from fettle.errors import (
    BusyError,
    ConfigError,
    FettleError,
    IntegrityError,
    ModelError,
    RemoteError,
    require_range,
)
from fettle.records import Answer, Prompt
from fettle.routing.budget import Budget

NUM_LARGE_AT_ONCE = 128
"""Requests to a large model that run at the same time, those included that are no longer waited for."""

_OF_THE_ROUTER = (ConfigError, ModelError, IntegrityError)
"""Faults of the small contender that no request has a part in."""

Answering = Callable[[Prompt], Answer]
Judging = Callable[[Prompt, Answer], float | None]
"""The confidence of a small answer; None: it cannot be told, and the answer is not trusted."""


class WithoutLarge(StrEnum):
    """What is done with a request that the large model cannot be asked about, or has not answered in time."""

    FAIL = "fail"
    """The request fails: no answer is better than one that nobody trusts."""
    ANSWER_SMALL = "answer_small"
    """The small model's answer is given, and the result says so."""


class AnsweredBy(StrEnum):
    """Whose answer was given."""

    SMALL = "small"
    LARGE = "large"


class Reason(StrEnum):
    """Why it was that one's."""

    TRUSTED = "trusted"
    """The small model's confidence is at least the threshold."""
    NOT_TRUSTED = "not trusted"
    """It is below it, or could not be told."""
    SMALL_FAILED = "small failed"
    """The small model gave no answer."""
    LARGE_FAILED = "large failed"
    """The large one should have answered, and did not."""
    LARGE_SLOW = "large slow"
    """It did not answer in time."""
    BUDGET_SPENT = "budget spent"
    """It should have answered, and today's budget for it is spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """How a router decides."""

    threshold: float | None
    """The small model's answer is given where its confidence is at least this; None: the large one answers everything."""
    without_large: WithoutLarge
    """What is done where the large model should answer and does not."""
    large_timeout_seconds: float = 30.0
    """How long it is waited for."""
    large_cost_per_request: float = 0.0
    """Set aside of the budget before it is asked, in the user's currency: the most that a request usually costs."""

    def __post_init__(self) -> None:
        """Refuse what cannot be decided by.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.threshold is not None:
            require_range("threshold", self.threshold, low=-math.inf)
        require_range("large_timeout_seconds", self.large_timeout_seconds, low=0.001)
        require_range("large_cost_per_request", self.large_cost_per_request, low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedAnswer:
    """The answer that is given, with who gave it and why."""

    answer: Answer
    answered_by: AnsweredBy
    reason: Reason
    confidence: float | None
    """Of the small model's answer; None: it gave none, or it could not be told."""
    problem: str | None
    """What was wrong with the large model; None: nothing, or it was not asked."""
    small_seconds: float
    large_seconds: float | None
    """None: it was not asked."""


class Router:
    """Sends each request to the small model and, where it is not trusted, to the large one. Safe for threads.

    Args:
        small: Answers with the small model. It is given the request as it came, and puts before it what the contender had there.
        large: Answers with the large one, likewise. A call that takes too long is left to end by itself: give its client a
            timeout too.
        judge: Measures the confidence of the small answer.
        settings: How it decides.
        budget: What may be spent on the large model; None: there is no limit.
        cost_of: What an answer of the large model cost, in the user's currency; None: what was set aside for it. A request that
            failed while it was waited for is taken to cost nothing, unless the failed answer counts tokens of its prompt; then, and
            where it failed later, it costs what was set aside.
        pool: Where the large model is asked; None: a pool of its own, of 128 threads. What is no longer waited for runs on there.
    """

    def __init__(
        self,
        small: Answering,
        large: Answering,
        judge: Judging,
        settings: RouterSettings,
        *,
        budget: Budget | None = None,
        cost_of: Callable[[Answer], float] | None = None,
        pool: Executor | None = None,
    ) -> None:
        self._small, self._large, self._judge, self._settings = small, large, judge, settings
        self._budget = budget
        self._cost_of = cost_of or (lambda _: settings.large_cost_per_request)
        self._pool = pool or ThreadPoolExecutor(max_workers=NUM_LARGE_AT_ONCE, thread_name_prefix="large-model")

    def answer(self, prompt: Prompt) -> RoutedAnswer:
        """The answer to one request.

        Raises:
            RemoteError: The large model should have answered and has not, and the policy is to fail; or neither has.
            BusyError: The same because the budget is spent.
            ConfigError: The small model cannot be asked as the router says. The large one, which would have to answer everything
                from now on, is not asked in its place.
            ModelError: It is not there, likewise.
            IntegrityError: It is not what it should be, likewise.
        """
        started = time.perf_counter()
        of_small = _tried(self._small, prompt, unless=_OF_THE_ROUTER)
        small = of_small.answer
        confidence = None if small is None else self._judge(prompt, small)
        seconds = time.perf_counter() - started
        threshold = self._settings.threshold
        if small is not None and confidence is not None and threshold is not None and confidence >= threshold:
            return _given(small, AnsweredBy.SMALL, Reason.TRUSTED, confidence, small_seconds=seconds)
        reason = Reason.SMALL_FAILED if small is None else Reason.NOT_TRUSTED
        asked = self._ask_large(prompt)
        if asked.answer is not None:
            return _given(
                asked.answer, AnsweredBy.LARGE, reason, confidence, small_seconds=seconds, large_seconds=asked.seconds
            )
        if small is not None and self._settings.without_large is WithoutLarge.ANSWER_SMALL:
            return _given(
                small,
                AnsweredBy.SMALL,
                asked.failure,
                confidence,
                problem=asked.problem,
                small_seconds=seconds,
                large_seconds=asked.seconds,
            )
        if asked.failure is Reason.BUDGET_SPENT:
            raise BusyError(
                "today's budget for the large model is spent, and the small model's answer is not trusted",
                remedy="ask again tomorrow (UTC), raise budget_per_day, or let the router answer with the small model then",
                retry_after_seconds=3600.0,
            )
        also = "" if of_small.problem is None else f"; the small one failed as well ({of_small.problem})"
        raise RemoteError(
            f"the large model did not answer ({asked.problem}){also}",
            remedy="ask again, or let the router answer with the small model where the large one cannot be had",
        )

    def close(self, *, wait: bool = False) -> None:
        """Close the pool: the large model is asked no more. What it is still asked ends by itself, and is waited for or not."""
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def _ask_large(self, prompt: Prompt) -> _Asked:
        reserved = None
        if self._budget is not None:
            reserved = self._budget.reserve(self._settings.large_cost_per_request)
            if reserved is None:
                return _Asked(failure=Reason.BUDGET_SPENT, problem="today's budget is spent")
        started, is_late = time.perf_counter(), threading.Event()
        future = self._pool.submit(_tried, self._large, prompt)

        def settle(done: Future[_Tried]) -> None:
            # Whenever it ends: one that is no longer waited for has cost something too, whether its answer comes or not.
            if self._budget is not None and reserved is not None:
                tried = None if done.cancelled() or done.exception() is not None else done.result()
                is_lost = is_late.is_set() or (tried is not None and tried.was_read)
                unanswered = reserved.amount if is_lost else 0.0
                answer = None if tried is None else tried.answer
                self._budget.settle(reserved, unanswered if answer is None else self._cost_of(answer))

        future.add_done_callback(settle)
        try:
            tried = future.result(timeout=self._settings.large_timeout_seconds)
        except FutureTimeoutError:
            if not future.cancel():  # it has begun
                is_late.set()
            waited = time.perf_counter() - started
            problem = f"no answer within {self._settings.large_timeout_seconds:g} seconds"
            return _Asked(failure=Reason.LARGE_SLOW, problem=problem, seconds=waited)
        return _Asked(answer=tried.answer, problem=tried.problem, seconds=time.perf_counter() - started)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What came of asking the large model."""

    answer: Answer | None = None
    failure: Reason = Reason.LARGE_FAILED
    problem: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What came of asking one of the two."""

    answer: Answer | None = None
    problem: str | None = None
    """Why there is no answer."""
    was_read: bool = False
    """There is none, although the prompt was read: it may be billed."""


def _tried(answering: Answering, prompt: Prompt, *, unless: tuple[type[FettleError], ...] = ()) -> _Tried:
    """The answer; or why there is none, unless it is a reason of these kinds, which is raised."""
    try:
        answer = answering(prompt)
    except unless:
        raise
    except FettleError as error:
        return _Tried(problem=error.problem)
    if answer.has_failed:
        return _Tried(problem=answer.error or "the request failed", was_read=answer.usage.prompt_tokens > 0)
    return _Tried(answer=answer)


def _given(
    answer: Answer,
    answered_by: AnsweredBy,
    reason: Reason,
    confidence: float | None,
    *,
    problem: str | None = None,
    small_seconds: float,
    large_seconds: float | None = None,
) -> RoutedAnswer:
    return RoutedAnswer(
        answer=answer,
        answered_by=answered_by,
        reason=reason,
        confidence=confidence,
        problem=problem,
        small_seconds=small_seconds,
        large_seconds=large_seconds,
    )
