import pytest

from fettle.statistics.multiplicity import holm


def test_nothing_to_adjust() -> None:
    assert holm([]) == ()
    assert holm([0.2]) == (0.2,)


def test_order_of_the_input_is_kept_and_one_is_the_limit() -> None:
    assert holm([0.9, 0.01, 0.8]) == (1.0, 0.03, 1.0)


def test_impossible_p_values_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        holm([1.1])
