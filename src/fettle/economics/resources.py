"""What answers take, measured: tokens, seconds of a batch run, and the latency of single requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.records import Answer, Resources

MIN_REQUESTS_FOR_P95 = 20
"""Below this a 95th percentile is the slowest request under another name."""


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
        latency_seconds_p50=float(np.quantile(latencies, 0.5)) if latencies else None,
        latency_seconds_p95=float(np.quantile(latencies, 0.95)) if len(latencies) >= MIN_REQUESTS_FOR_P95 else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
