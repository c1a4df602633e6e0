"""When to stop asking an endpoint that only fails: each further request would cost minutes of time-outs and bring nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class Breaker:
    """Counts failures in a row, of requests that may run at the same time. Open, nothing more is asked.

    Args:
        max_failures: So many in a row open it.
        pause_seconds: After so long it closes, and the next failure opens it again; None: it stays open.
        clock: Seconds, of any origin.
    """

    def __init__(
        self, max_failures: int, *, pause_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_failures, self._pause_seconds, self._clock = max_failures, pause_seconds, clock
        self._opened_at = 0.0
        self._num_failures = 0
        self._reason: str | None = None
        self._lock = Lock()

    @property
    def reason(self) -> str | None:
        """Why nothing more is asked; None: it is."""
        with self._lock:
            pause = self._pause_seconds
            if self._reason is not None and pause is not None and self._clock() - self._opened_at >= pause:
                self._reason, self._num_failures = None, self._max_failures - 1
            return self._reason

    def open(self, reason: str) -> None:
        """Stop asking."""
        with self._lock:
            self._open(reason)

    def count(self, *, has_failed: bool) -> None:
        """Take note of how a request ended."""
        with self._lock:
            self._num_failures = self._num_failures + 1 if has_failed else 0
            if self._num_failures == self._max_failures:
                self._open(f"the endpoint failed {self._max_failures} times in a row")

    def _open(self, reason: str) -> None:
        self._reason, self._opened_at = reason, self._clock()
