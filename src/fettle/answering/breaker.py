"""When to stop asking an endpoint that only fails: each further request would cost minutes of time-outs and bring nothing."""

from __future__ import annotations

from threading import Lock


class Breaker:
    """Counts failures in a row, of requests that may run at the same time. Once open it stays open.

    Args:
        max_failures: So many in a row open it.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self._num_failures = 0
        self._reason: str | None = None
        self._lock = Lock()

    @property
    def reason(self) -> str | None:
        """Why nothing more is asked; None: it is."""
        return self._reason

    def open(self, reason: str) -> None:
        """Stop asking."""
        self._reason = reason

    def count(self, *, has_failed: bool) -> None:
        """Take note of how a request ended."""
        with self._lock:
            self._num_failures = self._num_failures + 1 if has_failed else 0
            if self._num_failures == self._max_failures:
                self.open(f"the endpoint failed {self._max_failures} times in a row")
