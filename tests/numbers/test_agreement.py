"""Agreement coefficients against published examples, scikit-learn and the definition; their intervals and decisions, simulated."""

import itertools

import numpy as np
import pytest
from simulated_arms import two_errors
from sklearn.metrics import cohen_kappa_score

from fettle.statistics.agreement import JudgeAgreement, agreement_with_people, krippendorff_alpha

PUBLISHED = {
    "two observers, binary (Krippendorff 2011, A)": (["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"], 0.095),
    "two observers (Krippendorff 2011, B)": (["a a b b d c c c e d d a", "b a b b b c c c e d d d"], 0.692),
    "four observers, missing votes (Krippendorff 2011, C)": (
        [
            "1 2 3 3 2 1 4 1 2 . . .",
            "1 2 3 3 2 2 4 1 2 5 . 3",
            ". 3 3 3 2 3 4 2 2 5 1 .",
            "1 2 3 3 2 4 4 1 2 5 1 .",
        ],
        0.743,
    ),
    "three coders, missing votes (Wikipedia, Krippendorff's alpha)": (
        [
            ". . . . . 3 4 1 2 1 1 3 3 . 3",
            "1 . 2 1 3 3 4 3 . . . . . . .",
            ". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
        ],
        0.691,
    ),
}


@pytest.mark.parametrize(("raters", "alpha"), PUBLISHED.values(), ids=PUBLISHED)
def test_alpha_is_that_of_published_examples(raters: list[str], alpha: float) -> None:
    of_raters = [[None if vote == "." else vote for vote in rater.split()] for rater in raters]
    votes = list(zip(*of_raters, strict=True))
    interval = krippendorff_alpha(votes, range(len(votes)))
    assert interval is not None
    assert round(interval.estimate, 3) == alpha
    assert interval.low < alpha < interval.high


def drawn_votes(generator: np.random.Generator, num_examples: int, num_raters: int, *, knowing: float) -> np.ndarray:
    """Votes in {0, 1, 2}; a rater takes the example's true category with probability `knowing`: alpha and kappa are its square."""
    shares = [0.5, 0.2, 0.3]
    truth = generator.choice(3, p=shares, size=(num_examples, 1))
    own = generator.choice(3, p=shares, size=(num_examples, num_raters))
    return np.where(generator.random(own.shape) < knowing, truth, own)


def test_alpha_is_one_minus_observed_over_expected_disagreement() -> None:
    """By pairs: observed ones within examples, each weighted 1 / (votes - 1); expected ones among all votes."""
    generator = np.random.default_rng(1)
    drawn = drawn_votes(generator, 40, 4, knowing=0.6)
    votes = [[int(vote) for vote in row if generator.random() < 0.7] for row in drawn]
    paired = [row for row in votes if len(row) >= 2]
    num_votes = sum(len(row) for row in paired)
    observed = sum(
        sum(one != other for one, other in itertools.permutations(row, 2)) / (len(row) - 1) for row in paired
    )
    everyone = [vote for row in paired for vote in row]
    expected = sum(one != other for one, other in itertools.permutations(everyone, 2)) / (num_votes - 1)
    interval = krippendorff_alpha(votes, range(40))
    assert interval is not None
    assert interval.estimate == pytest.approx(1 - observed / expected)


def test_kappa_of_one_person_is_that_of_scikit_learn() -> None:
    votes = drawn_votes(np.random.default_rng(2), 60, 2, knowing=0.7)
    result = agreement_with_people(votes[:, 0].tolist(), votes[:, 1:].tolist(), range(60))
    assert result is not None
    assert result.kappa.estimate == pytest.approx(cohen_kappa_score(votes[:, 0], votes[:, 1]))


NUM_STUDIES = 800
CLUSTERINGS = [(20, 1), (40, 1), (100, 1), (40, 5)]


def study(generator: np.random.Generator, clustering: tuple[int, int], num_raters: int, knowing: float):
    """Votes on an example are those of its cluster with probability sqrt(0.7)."""
    num_clusters, size = clustering
    ids = np.repeat(np.arange(num_clusters), size)
    own = drawn_votes(generator, len(ids), num_raters, knowing=knowing)
    copies = (generator.random(len(ids)) < np.sqrt(0.7)) & (size > 1)
    of_cluster = drawn_votes(generator, num_clusters, num_raters, knowing=knowing)[ids]
    return np.where(copies[:, None], of_cluster, own).tolist(), ids.tolist()


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("knowing", [0.5, 0.9])
def test_alpha_is_covered(clustering: tuple[int, int], knowing: float) -> None:
    generator = np.random.default_rng(3)
    intervals = [krippendorff_alpha(*study(generator, clustering, 3, knowing)) for _ in range(NUM_STUDIES)]
    covered = np.mean([each is not None and each.low <= knowing**2 <= each.high for each in intervals])
    assert 0.93 - two_errors(0.93, NUM_STUDIES) <= covered <= 0.97 + two_errors(0.97, NUM_STUDIES), covered


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("knowing", [0.5, 0.9])
def test_kappa_is_covered(clustering: tuple[int, int], knowing: float) -> None:
    """Up to 98.5 %: with 20 votes and a kappa of 0.81 one study in ten sees no disagreement, and one is imagined."""
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(NUM_STUDIES):
        votes, ids = study(generator, clustering, 2, knowing)
        result = agreement_with_people([row[0] for row in votes], [row[1:] for row in votes], ids)
        assert result is not None
        covered += result.kappa.low <= knowing**2 <= result.kappa.high
    share = covered / NUM_STUDIES
    assert 0.93 - two_errors(0.93, NUM_STUDIES) <= share <= 0.985 + two_errors(0.985, NUM_STUDIES), share


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_a_judge_unrelated_to_people_seldom_passes(clustering: tuple[int, int]) -> None:
    generator = np.random.default_rng(5)
    passed = 0
    for _ in range(2 * NUM_STUDIES):
        votes, ids = study(generator, clustering, 3, 0.0)
        result = agreement_with_people([row[0] for row in votes], [row[1:] for row in votes], ids)
        passed += result is not None and result.decision is JudgeAgreement.BETTER_THAN_CHANCE
    assert passed / (2 * NUM_STUDIES) <= 0.025 + two_errors(0.025, 2 * NUM_STUDIES), passed


def test_a_fair_judge_passes_with_forty_votes_and_an_unrelated_one_is_found_out_with_two_hundred() -> None:
    generator = np.random.default_rng(6)
    decisions = {0.7: [], 0.0: []}
    for knowing, found in decisions.items():
        for _ in range(300):
            votes, ids = study(generator, (40 if knowing else 200, 1), 2, knowing)
            result = agreement_with_people([row[0] for row in votes], [row[1:] for row in votes], ids)
            assert result is not None
            found.append(result.decision)
    assert np.mean([each is JudgeAgreement.BETTER_THAN_CHANCE for each in decisions[0.7]]) > 0.95
    assert np.mean([each is JudgeAgreement.NO_BETTER_THAN_CHANCE for each in decisions[0.0]]) > 0.90


def test_as_many_more_votes_as_advised_decide_four_times_in_five() -> None:
    """30 votes of a judge whose kappa is seen to be 0.25 leave it open; enlarged as advised they tell."""
    generator = np.random.default_rng(7)
    more = []
    for _ in range(300):
        votes, ids = study(generator, (30, 1), 2, 0.5)
        result = agreement_with_people([row[0] for row in votes], [row[1:] for row in votes], ids)
        if result is not None and abs(result.kappa.estimate - 0.25) < 0.02 and result.num_more_examples is not None:
            more.append(result.num_more_examples)
    enough = 30 + int(np.median(more))
    found = 0
    for _ in range(NUM_STUDIES):
        votes, ids = study(generator, (enough, 1), 2, 0.5)
        result = agreement_with_people([row[0] for row in votes], [row[1:] for row in votes], ids)
        found += result is not None and result.decision is JudgeAgreement.BETTER_THAN_CHANCE
    assert abs(found / NUM_STUDIES - 0.80) <= 0.06, (found / NUM_STUDIES, enough)
