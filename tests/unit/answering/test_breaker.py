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


def test_one_that_pauses_closes_by_itself_and_opens_at_the_next_failure() -> None:
    seconds = [0.0]
    breaker = Breaker(2, pause_seconds=30, clock=lambda: seconds[0])
    for _ in range(2):
        breaker.count(has_failed=True)
    seconds[0] = 29.0
    assert breaker.reason is not None
    seconds[0] = 30.0
    assert breaker.reason is None
    breaker.count(has_failed=True)
    assert breaker.reason is not None
    seconds[0] = 60.0
    assert breaker.reason is None
    breaker.count(has_failed=False)
    breaker.count(has_failed=True)
    assert breaker.reason is None
