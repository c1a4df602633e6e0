"""Keeps requests and their answers without holding up either: whoever answers puts them into a queue, a thread does the rest.

The queue is bounded. Where the database is slower than the requests, or does not answer, requests are dropped and counted; none
waits and none fails. Whether a key's requests are kept at all is looked up in the thread, every second anew where somebody asks.
By what was found, `keeps` says that nothing is to be collected for a key without a rule.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle.errors import FettleError
from fettle.store.database import Store
from fettle.store.traffic import KeptRequest, TrafficRule, add_kept, expiry, list_rules
from fettle.traffic.redact import redacted_body

_MOST_WAITING = 1000
_AT_ONCE = 100
_RULES_LIVE_SECONDS = 1.0
_SECONDS_TO_CLOSE = 5.0
_logger = logging.getLogger("fettle.traffic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request that was answered whole."""

    completion_id: str
    project_id: str
    key_id: str
    model: str
    """As it was asked for."""
    release: Mapping[str, Any] | None = None
    """Name, number and contender of the release that answered, and its side of a challenge; None: no release did."""
    request: Mapping[str, Any]
    """Messages and tools."""
    answer: Mapping[str, Any]
    """The message; of several choices, the first."""
    finish_reason: str
    confidence: float | None
    """Mean natural-log probability of the answer's tokens; None: they were not asked for."""
    num_prompt_tokens: int
    num_completion_tokens: int
    seconds: float
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperCounts:
    """What became of answered requests since the start."""

    num_kept: int
    num_dropped: int
    """The queue was full."""
    num_failed: int
    """The database did not take them."""
    num_waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownRules:
    """Whose requests are kept, by key."""

    rules: Mapping[str, TrafficRule]
    at: float
    """When they were looked up, by the monotonic clock."""

    @property
    def are_fresh(self) -> bool:
        return time.monotonic() - self.at <= _RULES_LIVE_SECONDS


class Keeper:
    """Writes what is to be kept.

    Args:
        store: Where it is written.
        most_waiting: Answered requests that may wait to be written.
    """

    def __init__(self, store: Store, *, most_waiting: int = _MOST_WAITING) -> None:
        self._store, self._most_waiting = store, most_waiting
        self._waiting: deque[Answered] = deque()
        self._changed = threading.Condition()
        self._being_written = 0
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._num_kept = self._num_dropped = self._num_failed = 0
        self._known = _KnownRules(rules={}, at=-math.inf)

    def keeps(self, key_id: str) -> bool:
        """Whether an answer to this key has to be collected. Takes no time, and never raises.

        Where the rules were not looked at within the last second it has to be: `take` then looks at them.
        """
        known = self._known
        return not known.are_fresh or key_id in known.rules

    def take(self, answered: Answered) -> None:
        """Have a request kept, if its key's rule says so. Takes microseconds and never raises."""
        with self._changed:
            if self._is_closed or len(self._waiting) >= self._most_waiting:
                self._num_dropped += 1
                return
            self._waiting.append(answered)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="fettle traffic", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait_until_written(self, seconds: float) -> bool:
        """Wait until all that was taken so far is written, or was given up; False: it takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._being_written, seconds)

    @property
    def counts(self) -> KeeperCounts:
        """What became of requests so far."""
        with self._changed:
            return KeeperCounts(
                num_kept=self._num_kept,
                num_dropped=self._num_dropped,
                num_failed=self._num_failed,
                num_waiting=len(self._waiting) + self._being_written,
            )

    def close(self) -> None:
        """Write what waits, for some seconds at most, and take nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(_SECONDS_TO_CLOSE)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                some = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                self._being_written = len(some)
            num_kept, num_failed = self._write(some)
            with self._changed:
                self._num_kept += num_kept
                self._num_failed += num_failed
                self._being_written = 0
                self._changed.notify_all()

    def _write(self, some: Sequence[Answered]) -> tuple[int, int]:
        """How many were written, and how many could not be."""
        try:
            rules = self._current_rules()
            kept = [as_kept(one, rule) for one in some if (rule := rules.get(one.key_id)) is not None]
            if kept:
                with self._store.writing() as connection:
                    add_kept(connection, kept)
            return len(kept), 0
        except FettleError as error:
            _logger.warning("%d requests were not kept: %s", len(some), error.describe())
        except Exception as error:  # whatever it is, the next ones are to be kept; its text could hold theirs
            _logger.error("%d requests were not kept: %s", len(some), type(error).__name__)
        return 0, len(some)

    def _current_rules(self) -> Mapping[str, TrafficRule]:
        if not self._known.are_fresh:
            at = time.monotonic()
            with self._store.reading() as connection:
                self._known = _KnownRules(rules=list_rules(connection), at=at)
        return self._known.rules


def as_kept(answered: Answered, rule: TrafficRule) -> KeptRequest:
    """What is written of a request by a rule."""
    request, answer = answered.request, answered.answer
    if rule.redacts:
        request, answer = _redacted_request(request), redacted_body(answer, is_answer=True)
    has_texts = is_in_share(answered.completion_id, rule.share)
    return KeptRequest(
        id=answered.completion_id,
        project_id=answered.project_id,
        key_id=answered.key_id,
        model=answered.model,
        release=answered.release,
        request=request if has_texts else None,
        answer=answer if has_texts else None,
        finish_reason=answered.finish_reason,
        confidence=answered.confidence,
        num_prompt_tokens=answered.num_prompt_tokens,
        num_completion_tokens=answered.num_completion_tokens,
        seconds=answered.seconds,
        is_redacted=rule.redacts,
        created_at=answered.created_at,
        expires_at=expiry(rule, answered.created_at),
    )


def is_in_share(key: str, share: float) -> bool:
    """Whether something of this name is among a share of all: always the same answer, and independent of everything else.

    >>> is_in_share("chatcmpl-a", 1.0), sum(is_in_share(f"chatcmpl-{n}", 0.1) for n in range(10_000)) // 100
    (True, 10)
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) < share * 2.0**64


def _redacted_request(request: Mapping[str, Any]) -> dict[str, Any]:
    messages = [redacted_body(one, is_answer=one.get("role") == "assistant") for one in request["messages"]]
    return {**request, "messages": messages}
