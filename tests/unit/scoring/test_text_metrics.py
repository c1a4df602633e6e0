import math

import pytest
import sacrebleu

from fettle.scoring.openai_graders.text_metrics import METRICS


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_text_is_one_and_nothing_beside_something_is_zero(metric: str) -> None:
    likeness = METRICS[metric]
    for text in ("", " ", "a", "The cat sat on the mat.", "!?", "猫", "x " * 2000):
        assert likeness(text, text) == 1.0
    assert likeness("", "the cat sat on the mat") == 0.0
    assert likeness("the cat sat on the mat", "") == 0.0
    assert likeness("dog", "猫") == 0.0


@pytest.mark.parametrize(
    ("metric", "text", "reference", "wanted"),
    [
        # 2 * 3 equal characters of 4 + 4
        ("fuzzy_match", "abcd", "abxd", 0.75),
        # words: 3 of 4 and 3 of 3
        ("rouge_1", "the cat sat down", "The cat sat!", 2 * 3 / 7),
        # pairs: (the cat), (cat sat) of 3 and of 2
        ("rouge_2", "the cat sat down", "The cat sat!", 2 * 2 / 5),
        ("rouge_3", "the cat sat down", "The cat sat!", 2 * 1 / 3),
        ("rouge_4", "the cat sat down", "The cat sat!", 0.0),
        ("rouge_5", "a b c d e f", "a b c d e g", 0.5),
        # a word counts as often as it stands in both: 1 of 3 and of 2
        ("rouge_1", "the the the", "the cat", 2 * 1 / 5),
        # the, cat, down of 4 and of 4
        ("rouge_l", "the cat sat down", "the cat lay down", 0.75),
        # n-grams of the text: 3 + 2 + 1 = 6; of the reference: 2 + 1 = 3; both: 3
        ("gleu", "the cat sat", "the cat", 0.5),
        # 2 of 3 words match in 2 chunks: P = R = 2/3, so F = 2/3; penalty 0.5 * (2/2)^3
        ("meteor", "the dog sat", "the cat sat", 2 / 3 * 0.5),
        # 3 of 3 in 2 chunks (sat | the cat): 1 - 0.5 * (2/3)^3
        ("meteor", "sat the cat", "the cat sat", 1 - 0.5 * (2 / 3) ** 3),
        # P = 1, R = 2/3 in one chunk: F = 10 * 2/3 / (2/3 + 9); penalty 0.5 * (1/2)^3
        ("meteor", "the cat", "the cat sat", (20 / 3) / (2 / 3 + 9) * (1 - 0.5 / 8)),
        # cats and cat have one stem
        ("meteor", "Cats running", "cat runs", 1.0),
    ],
)
def test_values_worked_out_by_hand(metric: str, text: str, reference: str, wanted: float) -> None:
    assert METRICS[metric](text, reference) == pytest.approx(wanted)


def test_bleu_is_sacrebleus() -> None:
    pairs = [("the cat sat on the mat", "the cat lay on the mat"), ("yes", "yes sir"), ("It's 5%.", "It is 5 %.")]
    for text, reference in pairs:
        assert METRICS["bleu"](text, reference) == pytest.approx(sacrebleu.sentence_bleu(text, [reference]).score / 100)


def test_bleu_of_a_sentence_worked_out_by_hand() -> None:
    # n-grams found: 4 of 5, 2 of 4, 1 of 3; no four in a row, smoothed to 1 / (2 * 2)
    wanted = math.exp(sum(map(math.log, (4 / 5, 2 / 4, 1 / 3, 1 / 4))) / 4)
    assert METRICS["bleu"]("a b c x e", "a b c d e") == pytest.approx(wanted)


def test_long_texts_are_compared_in_one_pass() -> None:
    text, reference = "a b c d " * 20_000, "d c b a " * 20_000
    for name in ("meteor", "gleu", "rouge_5"):
        assert 0.0 <= METRICS[name](text, reference) <= 1.0
