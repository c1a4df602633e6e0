import pytest

from fettle.statistics.paired_tests import exact_sign_test, paired_test, sign_flip_test


def test_ties_only_prove_nothing() -> None:
    assert exact_sign_test(0, 0) == 1.0
    assert sign_flip_test([0.0] * 30, range(30), seed=1).p_value == 1.0


def test_a_permutation_p_value_is_never_zero() -> None:
    assert sign_flip_test([0.5] * 100, range(100), seed=1).p_value == 1 / 10_000


def test_clusters_not_examples_are_flipped() -> None:
    """Forty wins in five groups are five independent wins: 2 of 32 sign patterns are as extreme."""
    test = sign_flip_test([1.0] * 40, [i // 8 for i in range(40)], seed=1)
    assert test.p_value == 2 / 32
    assert test.method == "exact sign-flip permutation test over groups of examples"


def test_random_draws_are_seeded() -> None:
    differences = [0.1 * (i % 5) - 0.15 for i in range(50)]
    first, second, third = (sign_flip_test(differences, range(50), seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.p_value == pytest.approx(third.p_value, abs=0.02)


@pytest.mark.parametrize(
    ("clusters", "is_binary", "method"),
    [
        ([0, 1, 2], True, "exact McNemar test"),
        ([0, 1, 2], False, "exact sign-flip permutation test over examples"),
        ([0, 0, 2], True, "exact sign-flip permutation test over groups of examples"),
    ],
)
def test_the_test_fits_the_data_and_says_its_name(clusters: list[int], is_binary: bool, method: str) -> None:
    assert paired_test([1.0, 0.0, 1.0], clusters, is_binary=is_binary, seed=1).method == method


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        exact_sign_test(-1, 2)
    with pytest.raises(ValueError, match="no values"):
        paired_test([], [], is_binary=True, seed=1)
