"""What answers take, measured: tokens, seconds of a batch run, and the latency of single requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.records import Answer, Resources

MIN_REQUESTS_FOR_P95 = 20
"""Below this a 95th percentile is the slowest request under another name."""
MIN_REQUESTS_FOR_P99 = 100
"""Below this a 99th percentile is."""


def resources_of(answers: Sequence[Answer], latencies: Sequence[float]) -> Resources:
    """Means over some answers, and percentiles of latencies.

    Args:
        answers: Answers of one contender to one split, failed requests left out; their `usage.seconds` are shares of the batch's
            wall time.
        latencies: Seconds of single requests, one at a time; may be empty.
    """
    return Resources(
        prompt_tokens_per_request=_mean([answer.usage.prompt_tokens for answer in answers]),
        completion_tokens_per_request=_mean([answer.usage.completion_tokens for answer in answers]),
        seconds_per_request=_mean([answer.usage.seconds for answer in answers]),
        latency_seconds_p50=_quantile(latencies, 0.5, at_least=1),
        latency_seconds_p95=_quantile(latencies, 0.95, at_least=MIN_REQUESTS_FOR_P95),
        latency_seconds_p99=_quantile(latencies, 0.99, at_least=MIN_REQUESTS_FOR_P99),
    )


def _quantile(latencies: Sequence[float], share: float, *, at_least: int) -> float | None:
    return float(np.quantile(latencies, share)) if len(latencies) >= at_least else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
