"""Challengers that answer beside the release in force, unseen: after the user's answer is whole, when nobody else waits.

One thread asks, one request after the other. A request waits until the engines are idle, for a minute at most; where users have to
wait for a place while the challenger writes, it is given up. The queue is bounded. What is full, late or given up is dropped and
counted: nothing here holds up or fails an answer. Only requests whose texts are kept are asked again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fettle.answering.engine_pool import PoolLoad
from fettle.errors import BusyError, FettleError
from fettle.releases.challenging import put_winner_in_force, take_shadow
from fettle.releases.pair_judge import PairJudge
from fettle.releases.terms import JudgeEndpoint, terms_of
from fettle.store.challenges import ShadowAnswer, running_challenge
from fettle.store.database import Store
from fettle.store.traffic import KeptRequest, NoSuchCompletionError, find_kept
from fettle.traffic.keeper import Keeper
from fettle.traffic.redact import redacted_body

_MOST_WAITING = 100
_SECONDS_TO_BE_KEPT = 10.0
_SECONDS_TO_BE_IDLE = 60.0
_LOOKS_AFTER_SECONDS = 0.05
_SECONDS_TO_BE_ADMITTED = 1.0
"""So long a request may wait for its place among those that are written, which it gets at the next step where there is one."""
_SECONDS_TO_CLOSE = 5.0
_logger = logging.getLogger("fettle.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenAnswer:
    """A whole answer."""

    message: Mapping[str, Any]
    finish_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A request that was answered, and that the challenger is asked too."""

    completion_id: str
    project_id: str
    challenge_id: str
    ask: Callable[[Callable[[], bool]], WrittenAnswer | None]
    """Asks the challenger, as long as what it is given says that somebody waits; None: nobody did any more."""


class ShadowOutcome(StrEnum):
    """What becomes of a request."""

    ANSWERED = "answered"
    DROPPED = "dropped"
    """The queue was full, the engines were busy, its base model had no room beside those of others, or the server stops."""
    NOT_KEPT = "not_kept"
    """Its texts are not kept, or the challenge is over."""
    FAILED = "failed"
    """The challenger, the judge or the database has failed."""


class Shadower:
    """Asks challengers.

    Args:
        store: Where requests are kept.
        keeper: Keeps them.
        load: What the engines do now.
        judge: Compares answers, where a challenge names a judge.
        most_waiting: Requests that may wait.
    """

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        load: Callable[[], PoolLoad],
        *,
        judge: PairJudge | None = None,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._store, self._keeper, self._load = store, keeper, load
        self._judge, self._most_waiting = judge or PairJudge(), most_waiting
        self._waiting: deque[Beside] = deque()
        self._changed = threading.Condition()
        self._is_asking = False
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._counts: Counter[ShadowOutcome] = Counter()

    def take(self, beside: Beside) -> None:
        """Have a challenger asked, when there is time. Takes microseconds and never raises."""
        with self._changed:
            if self._is_closed or len(self._waiting) >= self._most_waiting:
                self._counts[ShadowOutcome.DROPPED] += 1
                return
            self._waiting.append(beside)
            if self._thread is None:
                self._thread = threading.Thread(target=self._ask_all, name="fettle shadow", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    @property
    def counts(self) -> Mapping[ShadowOutcome, int]:
        """What became of requests since the start."""
        with self._changed:
            return {outcome: self._counts[outcome] for outcome in ShadowOutcome}

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing waits and nothing is asked; False: it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._is_asking, seconds)

    def close(self) -> None:
        """Drop what waits, give up what is asked, and take nothing more."""
        with self._changed:
            self._is_closed = True
            self._counts[ShadowOutcome.DROPPED] += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_SECONDS_TO_CLOSE)
        if thread is None or not thread.is_alive():  # else the process ends with it
            self._judge.close()

    def _ask_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                beside = self._waiting.popleft()
                self._is_asking = True
            outcome = self._outcome(beside)
            with self._changed:
                self._counts[outcome] += 1
                self._is_asking = False
                self._changed.notify_all()

    def _outcome(self, beside: Beside) -> ShadowOutcome:
        try:
            return self._ask(beside)
        except BusyError as error:
            _logger.warning("a challenger was not asked: %s", error.describe())
            return ShadowOutcome.DROPPED
        except FettleError as error:
            _logger.warning("a challenger was not asked or has not answered: %s", error.describe())
        except Exception as error:  # whatever it is, the next ones are to be asked; its text could hold users'
            _logger.error("a challenger was not asked or has not answered: %s", type(error).__name__)
        return ShadowOutcome.FAILED

    def _ask(self, beside: Beside) -> ShadowOutcome:
        self._keeper.wait_until_written(_SECONDS_TO_BE_KEPT)
        if not self._is_to_be_asked(beside):
            return ShadowOutcome.NOT_KEPT
        if not self._is_idle_soon():
            return ShadowOutcome.DROPPED
        started = time.monotonic()
        answer = beside.ask(self._until_users_wait())
        if answer is None:
            return ShadowOutcome.DROPPED
        return self._keep(beside, answer, time.monotonic() - started)

    def _is_to_be_asked(self, beside: Beside) -> bool:
        try:
            with self._store.reading() as connection:
                kept = find_kept(connection, beside.project_id, beside.completion_id)
                return kept.request is not None and running_challenge(connection, beside.challenge_id) is not None
        except NoSuchCompletionError:
            return False

    def _is_idle_soon(self) -> bool:
        until = time.monotonic() + _SECONDS_TO_BE_IDLE
        while not self._is_closed and time.monotonic() < until:
            load = self._load()
            if not load.num_waiting and not load.num_running:
                return True
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, _LOOKS_AFTER_SECONDS)
        return False

    def _until_users_wait(self) -> Callable[[], bool]:
        """Whether the challenger may go on; asked with every piece of its answer."""
        last_free = time.monotonic()

        def may_go_on() -> bool:
            nonlocal last_free
            if not self._load().num_waiting:
                last_free = time.monotonic()
            return not self._is_closed and time.monotonic() - last_free <= _SECONDS_TO_BE_ADMITTED

        return may_go_on

    def _keep(self, beside: Beside, answer: WrittenAnswer, seconds: float) -> ShadowOutcome:
        try:
            with self._store.reading() as connection:
                kept = find_kept(connection, beside.project_id, beside.completion_id)
                challenge = running_challenge(connection, beside.challenge_id)
            if challenge is None:
                return ShadowOutcome.NOT_KEPT
            message = redacted_body(answer.message, is_answer=True) if kept.is_redacted else answer.message
            judge = terms_of(challenge).grading.judge
            preference = None if judge is None else self._preference(judge, kept, message)
            shadow = ShadowAnswer(
                completion_id=beside.completion_id,
                challenge_id=beside.challenge_id,
                answer=message,
                finish_reason=answer.finish_reason,
                seconds=seconds,
            )
            with self._store.writing() as connection:
                find_kept(connection, beside.project_id, beside.completion_id)  # it may have been deleted meanwhile
                look = take_shadow(connection, kept, shadow, preference)
            put_winner_in_force(self._store, kept, look)
        except NoSuchCompletionError:
            return ShadowOutcome.NOT_KEPT
        no_verdict = judge is not None and preference is None
        return ShadowOutcome.FAILED if no_verdict else ShadowOutcome.ANSWERED

    def _preference(self, judge: JudgeEndpoint, kept: KeptRequest, message: Mapping[str, Any]) -> float | None:
        """The judge's, of texts as they are kept; None: it has none, or one of the answers is no text."""
        ours, theirs = message.get("content"), (kept.answer or {}).get("content")
        if kept.request is None or ours is None or theirs is None:
            return None
        return self._judge.preference(judge, kept.request["messages"], ours, theirs)
