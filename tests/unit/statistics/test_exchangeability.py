import numpy as np
import pytest

from fettle.statistics.exchangeability import begin_watch


def test_nothing_arrived_is_no_evidence() -> None:
    watch = begin_watch(["a", "b"], np.zeros((3, 2)))
    assert watch.log_evidence == pytest.approx(0)
    assert watch.take(np.zeros((0, 2))).shape == (0, 2)
    assert watch.log_evidence == pytest.approx(0)
    assert watch.num_batches == 0


def test_ranks_are_among_all_that_was_before() -> None:
    watch = begin_watch(["a"], np.array([[1.0], [2.0], [3.0]]))
    first, second = watch.take(np.array([[4.0], [3.5]]))[:, 0]
    assert 3 / 4 < first <= 1
    assert 3 / 5 < second <= 4 / 5
    assert watch.known == [[1.0, 2.0, 3.0, 3.5, 4.0]]


def test_the_same_arrivals_are_ranked_the_same_again() -> None:
    arrived = np.ones((20, 1))
    one, other = (begin_watch(["a"], np.ones((5, 1)), seed=7).take(arrived) for _ in range(2))
    assert (one == other).all()
    assert len(set(one[:, 0])) == 20


def test_values_of_other_features_are_refused() -> None:
    watch = begin_watch(["a"], np.ones((5, 1)))
    with pytest.raises(ValueError, match="1 features"):
        watch.take(np.ones((2, 2)))
    with pytest.raises(ValueError, match="finite"):
        watch.take(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="finite"):
        begin_watch(["a"], np.zeros((0, 1)))


def test_only_greater_values_count_where_it_is_said_so() -> None:
    known = np.arange(200.0)[:, None]
    for value, is_found in ((-1.0, False), (300.0, True)):
        watch = begin_watch(["distance"], known, only_greater=["distance"])
        watch.take(np.full((30, 1), value))
        assert (watch.log_evidence > np.log(1000)) == is_found
