import numpy as np
import pytest
from scipy.stats import permutation_test

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


@pytest.mark.parametrize("seed", range(4))
def test_right_or_wrong_scores_in_groups_are_tested_exactly(seed: int) -> None:
    """Against scipy's, which goes through all sign patterns of the groups' sums."""
    generator = np.random.default_rng(seed)
    differences, clusters = generator.integers(-1, 2, size=24).astype(float), np.repeat(np.arange(12), 2)
    sums = differences.reshape(12, 2).sum(axis=1)
    wanted = permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_test(list(differences), list(clusters), seed=1).p_value == pytest.approx(wanted, abs=1e-12)


def test_one_group_of_two_changes_an_exact_test_hardly() -> None:
    differences = [1.0] * 60 + [-1.0] * 20 + [0.0] * 40
    single = paired_test(differences, range(120), is_binary=True, seed=1)
    grouped = paired_test(differences, [*range(119), 118], is_binary=True, seed=1)
    assert grouped.method == "exact sign-flip permutation test over groups of examples"
    assert grouped.p_value == pytest.approx(single.p_value)
    assert grouped.p_value < 1e-4
