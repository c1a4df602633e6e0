"""How often a key may ask, and how much at once. Each API process counts for itself."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fettle.errors import BusyError

_MOST_KEYS = 10_000
_SECONDS_UNTIL_ONE_IS_ANSWERED = 1.0


class LimitReachedError(BusyError):
    """A key asks too often, or too much at once.

    Args:
        problem: Which limit, and what it is.
        retry_after_seconds: When asking again is worth it.
        headers: Of the answer, as OpenAI's clients know them.
    """

    def __init__(self, problem: str, *, retry_after_seconds: float, headers: dict[str, str]) -> None:
        super().__init__(problem)
        self.seconds, self.headers = retry_after_seconds, headers


@dataclass(slots=True)
class _Bucket:
    """What a key has left."""

    num_tokens: float
    """Requests that it may make at once."""
    filled_at: float
    """When this was right, seconds."""
    num_running: int = 0


class KeyLimits:
    """Counts by key.

    Args:
        requests_per_minute: As many at once as in a minute, and then one each 60 / n seconds; None: no limit.
        concurrent_requests: Requests being answered; None: no limit.
        clock: Seconds.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        concurrent_requests: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute, self._concurrent, self._clock = requests_per_minute, concurrent_requests, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()  # the least recently used first
        self._lock = threading.Lock()

    @contextmanager
    def admitted(self, key_id: str) -> Iterator[dict[str, str]]:
        """While a request is answered; the headers that tell how much is left.

        Raises:
            LimitReachedError: It is too much.
        """
        if self._per_minute is None and self._concurrent is None:
            yield {}
            return
        with self._lock:
            bucket = self._bucket(key_id)
            headers = self._take(bucket)
            bucket.num_running += 1
        try:
            yield headers
        finally:
            with self._lock:
                bucket.num_running -= 1

    def _take(self, bucket: _Bucket) -> dict[str, str]:
        if self._concurrent is not None and bucket.num_running >= self._concurrent:
            raise LimitReachedError(
                f"Rate limit reached for this key: {self._concurrent} requests at once. Ask again when one is answered.",
                retry_after_seconds=_SECONDS_UNTIL_ONE_IS_ANSWERED,
                headers={},
            )
        if self._per_minute is None:
            return {}
        if bucket.num_tokens < 1:
            seconds = (1 - bucket.num_tokens) * 60 / self._per_minute
            raise LimitReachedError(
                f"Rate limit reached for this key: {self._per_minute} requests per minute. "
                f"Please try again in {seconds:.3g} s.",
                retry_after_seconds=seconds,
                headers=self._headers(bucket),
            )
        bucket.num_tokens -= 1
        return self._headers(bucket)

    def _headers(self, bucket: _Bucket) -> dict[str, str]:
        assert self._per_minute is not None, "there is a limit"
        seconds = (self._per_minute - bucket.num_tokens) * 60 / self._per_minute
        return {
            "x-ratelimit-limit-requests": str(self._per_minute),
            "x-ratelimit-remaining-requests": str(math.floor(bucket.num_tokens)),
            "x-ratelimit-reset-requests": f"{seconds:.3f}s",
        }

    def _bucket(self, key_id: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(key_id, _Bucket(float(self._per_minute or 0), now))
        self._buckets.move_to_end(key_id)
        if self._per_minute is not None:
            gained = (now - bucket.filled_at) * self._per_minute / 60
            bucket.num_tokens = min(float(self._per_minute), bucket.num_tokens + gained)
        bucket.filled_at = now
        if len(self._buckets) > _MOST_KEYS:
            oldest, left = next(iter(self._buckets.items()))
            if not left.num_running:
                del self._buckets[oldest]
        return bucket
