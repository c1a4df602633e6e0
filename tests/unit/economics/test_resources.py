"""Percentiles are told where there are requests enough for them."""

from __future__ import annotations

import pytest

from fettle.economics.resources import resources_of


@pytest.mark.parametrize(("num_requests", "told"), [(0, 0), (19, 1), (20, 2), (99, 2), (100, 3)])
def test_percentiles_take_requests(num_requests: int, told: int) -> None:
    found = resources_of([], [float(i) for i in range(num_requests)])
    latencies = (found.latency_seconds_p50, found.latency_seconds_p95, found.latency_seconds_p99)
    assert [one is not None for one in latencies] == [True] * told + [False] * (3 - told)
    assert sorted(one for one in latencies if one is not None) == [one for one in latencies if one is not None]
