from __future__ import annotations

from fettle.answering.breaker import Breaker


def test_failures_count_only_in_a_row() -> None:
    breaker = Breaker(3)
    for has_failed in (True, True, False, True, True):
        breaker.count(has_failed=has_failed)
    assert breaker.reason is None
    breaker.count(has_failed=True)
    assert breaker.reason == "the endpoint failed 3 times in a row"


def test_once_open_it_stays_open_for_its_first_reason() -> None:
    breaker = Breaker(1)
    breaker.count(has_failed=True)
    breaker.count(has_failed=False)
    assert breaker.reason == "the endpoint failed 1 times in a row"
