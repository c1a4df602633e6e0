"""Rerankers: token by token without a further model, and cross-encoders that lie on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fettle.errors import ModelError
from fettle.retrieval.embedder import MiniLMEmbedder, is_installed
from fettle.retrieval.records import Found
from fettle.retrieval.rerankers import late_interaction
from fettle.retrieval.rerankers.cross_encoder import CrossEncoderReranker
from fettle.retrieval.rerankers.late_interaction import LateInteraction
from fettle.retrieval.rerankers.registry import reranker_named
from searched import passage
from tiny_models import save_tiny_model

TEXTS = [
    "Our shops are open from nine to six on weekdays.",
    "A refund reaches your account within five working days after we have received the parcel.",
    "Refunds? The finance team moved to the second floor.",
    "",
]


def found(*texts: str) -> list[Found]:
    return [Found(passage=passage(key, text), rank=key, score=1.0) for key, text in enumerate(texts, start=1)]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    if not is_installed():
        pytest.skip("the packaged embedder is not installed")
    return MiniLMEmbedder()


def test_the_passage_that_answers_has_the_highest_score(embedder: MiniLMEmbedder) -> None:
    scores = LateInteraction(embedder).scores("How long does it take until I get my money back?", found(*TEXTS))
    assert int(np.argmax(scores)) == 1
    assert all(-1 <= score <= 1 for score in scores)
    assert int(np.argmin(scores)) == 3


def test_scores_are_the_mean_of_the_greatest_similarities(embedder: MiniLMEmbedder) -> None:
    question_TD, passage_TD = embedder.embed_tokens(["opening hours", TEXTS[0]])
    expected = np.mean([max(float(token @ other) for other in passage_TD) for token in question_TD])
    assert LateInteraction(embedder).scores("opening hours", found(TEXTS[0]))[0] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(np.linalg.norm(passage_TD, axis=1), 1, atol=1e-5)
    tokenizer = embedder._loaded.tokenizer
    assert len(passage_TD) == len(tokenizer.tokenize(TEXTS[0]))


def test_passages_are_embedded_once_and_forgotten_in_the_end(
    embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Counted(MiniLMEmbedder):
        def embed_tokens(self, texts):
            asked.append(len(texts))
            return embedder.embed_tokens(texts)

    reranker = LateInteraction(Counted())
    first = reranker.scores("refund", found(*TEXTS))
    assert reranker.scores("refund", found(*reversed(TEXTS))) == pytest.approx(first[::-1], abs=1e-4)
    assert asked == [1 + len(TEXTS), 1]
    monkeypatch.setattr(late_interaction, "_MOST_KEPT_TOKENS", 1)
    assert reranker.scores("refund", found(*TEXTS)) == pytest.approx(first, abs=1e-4)
    reranker.scores("refund", found(TEXTS[0]))
    assert asked == [1 + len(TEXTS), 1, 1, 2]


def test_a_score_does_not_depend_on_what_it_is_asked_with(embedder: MiniLMEmbedder) -> None:
    reranker = LateInteraction(embedder)
    together = reranker.scores("refund", found(*TEXTS))
    alone = [reranker.scores("refund", found(text))[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=1e-4)


def test_questions_and_candidates_may_be_empty(embedder: MiniLMEmbedder) -> None:
    reranker = LateInteraction(embedder)
    assert reranker.scores("", found("text", "")) == [0.0, 0.0]
    assert reranker.scores("refund", []) == []


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_cross_encoder(tmp_path_factory.mktemp("cross"), num_labels=1)


def save_cross_encoder(folder: Path, *, num_labels: int) -> Path:
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.models.bert import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "refund", "money", "shop", "five", "days", "?", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig.from_dict(
        {"vocab_size": len(words), "num_labels": num_labels, "initializer_range": 0.5, **sizes}
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_cross_encoder_reads_question_and_passage_together(cross_encoder: Path) -> None:
    reranker = reranker_named(str(cross_encoder))
    assert isinstance(reranker, CrossEncoderReranker)
    candidates = found("money .", "five days", "shop ?")
    scores = reranker.scores("refund ?", candidates)
    assert len(set(scores)) == 3
    assert reranker.scores("refund ?", candidates[::-1]) == pytest.approx(scores[::-1], abs=1e-5)
    assert reranker.scores("money days", candidates) != pytest.approx(scores, abs=1e-5)
    assert reranker.scores("refund", []) == []


def test_other_weights_are_another_reranker(cross_encoder: Path, tmp_path: Path) -> None:
    same, other = (
        CrossEncoderReranker(str(cross_encoder)),
        CrossEncoderReranker(str(save_cross_encoder(tmp_path, num_labels=1))),
    )
    assert same.identity() == CrossEncoderReranker(str(cross_encoder)).identity()
    assert same.identity() != other.identity()


def test_models_that_are_no_cross_encoders_are_refused(tmp_path: Path) -> None:
    classifier = save_cross_encoder(tmp_path, num_labels=3)
    with pytest.raises(ModelError, match=r"expected one score.*and it gives 3.*name a cross-encoder"):
        reranker_named(str(classifier)).scores("refund", found("money"))


def test_what_is_not_on_this_machine_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"--reranker: no reranker 'cross-encoder/no-such-model' is on .*late-interaction` comes with"
    ):
        reranker_named("cross-encoder/no-such-model")
    with pytest.raises(ModelError, match=r"holds no cross-encoder: .*name the folder that holds config\.json"):
        reranker_named(str(tmp_path))
    save_tiny_model(tmp_path, "llama")
    for weights in tmp_path.glob("*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickles can run code"):
        reranker_named(str(tmp_path))
