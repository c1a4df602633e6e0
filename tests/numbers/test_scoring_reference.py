import random
import re
from typing import Any

import numpy as np
import pytest
import sacrebleu
from sklearn.metrics import f1_score, precision_recall_fscore_support

from fettle.scoring.corpus import MacroF1, label_scores
from fettle.scoring.graders.text import chrf, rouge_l

LABELS = [f"label_{i}" for i in range(12)]
UNDEFINED: Any = np.nan  # scikit-learn's type stub knows only texts here
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "slept", "all", "day"]


def random_answers(seed: int, num_answers: int) -> tuple[list[str], list[str]]:
    chosen = random.Random(seed)
    wanted = [chosen.choice(LABELS[:9]) for _ in range(num_answers)]  # three labels are never wanted
    answered = [label if chosen.random() < 0.6 else chosen.choice([*LABELS[:10], "no label"]) for label in wanted]
    return wanted, answered


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_equals_scikit_learn(seed: int) -> None:
    wanted, answered = random_answers(seed, 60)
    reference = f1_score(wanted, answered, labels=LABELS, average="macro", zero_division=UNDEFINED)
    assert MacroF1(wanted, answered, LABELS).value() == pytest.approx(reference)


def test_macro_f1_of_a_resample_equals_scikit_learn() -> None:
    wanted, answered = random_answers(1, 40)
    statistic = MacroF1(wanted, answered, LABELS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        indices = rng.integers(0, 40, size=40)
        drawn_wanted, drawn_answered = [wanted[i] for i in indices], [answered[i] for i in indices]
        reference = f1_score(drawn_wanted, drawn_answered, labels=LABELS, average="macro", zero_division=UNDEFINED)
        assert statistic.value(indices) == pytest.approx(reference)


def test_rates_by_label_equal_scikit_learn() -> None:
    wanted, answered = random_answers(2, 80)
    reference = precision_recall_fscore_support(wanted, answered, labels=LABELS, zero_division=UNDEFINED)
    for scores, precision, recall, f1, support in zip(
        label_scores(wanted, answered, LABELS), *np.asarray(reference), strict=True
    ):
        ours = [np.nan if rate is None else rate for rate in (scores.precision, scores.recall, scores.f1)]
        assert ours == pytest.approx([precision, recall, f1], nan_ok=True)
        assert scores.num_wanted == support


def test_chrf_equals_sacrebleu_and_the_definition() -> None:
    assert chrf("the cat sat", "the cat lay") == pytest.approx(
        sacrebleu.sentence_chrf("the cat lay", ["the cat sat"]).score / 100
    )
    # "abc" against "abd": 1-grams 2 of 3 right, 2-grams 1 of 2, 3-grams 0 of 1; precision = recall = (2/3 + 1/2 + 0) / 3.
    assert chrf("abc", "abd") == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def longest_common_subsequence(one: list[str], other: list[str]) -> int:
    table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    for i, left in enumerate(one, start=1):
        for j, right in enumerate(other, start=1):
            table[i, j] = table[i - 1, j - 1] + 1 if left == right else max(table[i - 1, j], table[i, j - 1])
    return int(table[-1, -1])


@pytest.mark.parametrize("seed", range(20))
def test_rouge_l_equals_its_definition(seed: int) -> None:
    chosen = random.Random(seed)
    wanted, answered = (" ".join(chosen.choices(WORDS, k=chosen.randint(1, 15))) for _ in range(2))
    common = longest_common_subsequence(re.findall(r"\w+", wanted), re.findall(r"\w+", answered))
    precision, recall = common / len(answered.split()), common / len(wanted.split())
    expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert rouge_l(wanted, answered) == pytest.approx(expected)
