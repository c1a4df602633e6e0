import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fettle.contenders.classifier import LabelClassifier, fit_classifier
from fettle.errors import DataError
from fettle.records import Example, FinishReason, Location, Message
from fettle.retrieval.embedder import CachedEmbedder, MiniLMEmbedder
from fettle.scoring.grader import score_answers
from fettle.scoring.graders.label import ExactLabel
from fettle.scoring.label_reader import LabelReader

SHARED = Path(__file__).parents[3] / ".." / "shared"
WORDS = {
    "refund": ("money", "back", "refund", "charged", "twice"),
    "delivery": ("parcel", "late", "driver", "door", "arrive"),
    "login": ("password", "account", "code", "locked", "email"),
}
LABELS = (*WORDS, "never seen")


class Bag:
    """Counts of the known words and of the text's length: a real, tiny embedder."""

    name = "bag"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        known = [word for words in WORDS.values() for word in words]
        counts = np.array([[text.split().count(word) for word in known] + [1] for text in texts], dtype=np.float32)
        counts = counts.reshape(-1, len(known) + 1)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def example(id_: str, text: str, label: str) -> Example:
    messages = (Message(role="user", content=text), Message(role="assistant", content=label))
    return Example(id=id_, messages=messages, source=Location(file="a.csv", line=2))


def examples(num_examples: int, seed: int) -> list[Example]:
    chosen = random.Random(seed)
    rows = []
    for number in range(num_examples):
        label = chosen.choice(list(WORDS))
        text = " ".join(
            chosen.choices(WORDS[label], k=3) + chosen.choices(["the", "my", "please", "parcel", "code"], k=3)
        )
        rows.append(example(f"{seed}-{number}", text, label))
    return rows


def fit(train: Sequence[Example], valid: Sequence[Example]) -> LabelClassifier:
    return fit_classifier(train, valid, labels=LABELS, seed=0, embedder=Bag())


def accuracy(classifier: LabelClassifier, test: Sequence[Example], labels: Sequence[str]) -> float:
    scores = score_answers(ExactLabel(reader=LabelReader(labels)), test, classifier.answer(test))
    return sum(score.value or 0.0 for score in scores) / len(scores)


@pytest.fixture(scope="module")
def classifier() -> LabelClassifier:
    return fit(examples(80, seed=1), examples(40, seed=2))


def test_answers_messages_it_has_not_seen(classifier: LabelClassifier) -> None:
    assert accuracy(classifier, examples(60, seed=3), LABELS) > 0.9


def test_likelihoods_are_those_of_a_distribution_over_all_labels(classifier: LabelClassifier) -> None:
    for answer in classifier.answer(examples(5, seed=3)):
        likelihoods = answer.choice_log_likelihoods
        assert likelihoods is not None
        assert tuple(likelihoods) == LABELS
        assert sum(map(math.exp, likelihoods.values())) == pytest.approx(1.0)
        assert max(likelihoods, key=likelihoods.__getitem__) == answer.text
        assert math.isfinite(likelihoods["never seen"])


def test_usage_counts_seconds_and_no_tokens(classifier: LabelClassifier) -> None:
    answers = classifier.answer(examples(5, seed=3))
    assert all(answer.usage.seconds > 0 for answer in answers)
    assert all(answer.usage.completion_tokens == answer.usage.prompt_tokens == 0 for answer in answers)
    assert all(answer.finish_reason is FinishReason.STOP for answer in answers)
    assert classifier.answer([]) == ()


def test_the_same_data_give_the_same_answers(classifier: LabelClassifier) -> None:
    again = fit(examples(80, seed=1), examples(40, seed=2))
    test = examples(20, seed=3)
    assert again.description == classifier.description
    for one, other in zip(classifier.answer(test), again.answer(test), strict=True):
        assert one.choice_log_likelihoods == other.choice_log_likelihoods


def test_the_description_says_what_was_chosen(classifier: LabelClassifier) -> None:
    assert "logistic regression" in classifier.description
    assert "C = " in classifier.description
    assert f"{classifier.validation_accuracy:.1%} of 40" in classifier.description


def test_the_validation_split_is_chosen_on_and_not_learned_from() -> None:
    """Validation examples of a label that training lacks change the choice at most: the label is never answered."""
    valid = [*examples(20, seed=2), *(example(f"v{i}", "zebra stripes", "never seen") for i in range(20))]
    classifier = fit(examples(80, seed=1), valid)
    assert classifier.validation_accuracy <= 0.5
    assert classifier.answer([example("t", "zebra stripes", "never seen")])[0].text != "never seen"


def test_answers_are_timed_without_the_cache() -> None:
    cached = CachedEmbedder(Bag())
    fitted = fit_classifier(examples(40, seed=1), examples(20, seed=2), labels=LABELS, seed=0, embedder=cached)
    assert fitted.embedder is cached.uncached


def test_labels_with_one_example_do_not_crash() -> None:
    train = [
        example("1", "money back", "refund"),
        example("2", "late parcel", "delivery"),
        example("3", "code", "login"),
    ]
    assert fit(train, train).answer(train)[0].text in WORDS


@pytest.mark.parametrize("text", ["", "?!", "🙂"])
def test_messages_without_words_do_not_crash(text: str) -> None:
    train = [example("1", text, "refund"), example("2", text, "delivery")]
    assert len(fit(train, train).answer([*train, example("3", "now words", "refund")])) == 3


@pytest.mark.parametrize(
    ("train", "valid", "problem"),
    [
        ([example("1", "money", "refund")], examples(3, seed=1), "fewer than two labels"),
        (examples(20, seed=1), [], "validation split is empty"),
        (
            [*examples(20, seed=1), example("x", "hm", "somewhere else")],
            examples(3, seed=2),
            "'somewhere else' is not one",
        ),
    ],
)
def test_unusable_data_are_a_clear_error(train: list[Example], valid: list[Example], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        fit(train, valid)


@pytest.mark.long
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")
def test_banking77_is_routed_about_as_well_as_known() -> None:
    def sample(split: str, num_rows: int) -> list[Example]:
        lines = (SHARED / "data" / "routing_banking77" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in random.Random(0).sample(lines, num_rows)]
        return [example(row["id"], row["messages"][-2]["content"], row["label"]) for row in rows]

    labels = json.loads((SHARED / "data" / "routing_banking77" / "labels.json").read_text(encoding="utf-8"))
    classifier = fit_classifier(
        sample("train", 600), sample("valid", 200), labels=labels, seed=0, embedder=MiniLMEmbedder()
    )
    assert accuracy(classifier, sample("test", 200), labels) > 0.75
