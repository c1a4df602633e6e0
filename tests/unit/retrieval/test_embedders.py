"""Embedders by name: models on this machine, and endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from fettle.errors import ConfigError, ModelError, RemoteError
from fettle.retrieval.embedder import MiniLMEmbedder
from fettle.retrieval.embedders.endpoint import EndpointEmbedder
from fettle.retrieval.embedders.registry import embedder_by_name
from fettle.retrieval.embedders.sentence_transformers import SentenceTransformerEmbedder
from fettle.settings import get_settings
from local_endpoint import Endpoint, Reply, endpoint, failure

WORDS = ["[PAD]", "[UNK]", "query", "passage", ":", "where", "is", "my", "parcel", "refunds", "take", "days"]


def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of two layers that wants questions and passages told apart, and reads 16 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    base, whole = (tmp_path_factory.mktemp("models") / name for name in ("base", "whole"))
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(base)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(base)
    layers = Transformer(str(base), max_seq_length=16)
    prompts = {"query": "query : ", "document": "passage : "}
    model = SentenceTransformer(modules=[layers, Pooling(16, "mean")], prompts=prompts, device="cpu")
    model.save_pretrained(str(whole), create_model_card=False)
    return whole


class TestSentenceTransformers:
    def test_gives_rows_of_unit_length_that_differ_for_questions_and_passages(self, model_folder: Path) -> None:
        embedder = embedder_by_name(str(model_folder))
        passages = embedder.embed(["refunds take days", "where is my parcel"])
        queries = embedder.embed_queries(["refunds take days", "where is my parcel"])
        assert passages.shape == (2, embedder.num_dimensions) == (2, 16)
        assert passages.dtype == np.float32
        assert np.linalg.norm(passages, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
        assert not np.allclose(passages, queries)
        assert embedder.embed([]).shape == (0, 16)

    def test_counts_its_own_prompt_and_no_more_than_it_reads_counts(self, model_folder: Path) -> None:
        embedder = SentenceTransformerEmbedder(str(model_folder))
        assert embedder.count_tokens(["refunds take days", "is " * 40]) == [5, 42]
        assert embedder.max_tokens == 16
        long = embedder.embed(["is " * 40, "is " * 40 + "refunds"])
        assert np.array_equal(long[0], long[1])

    def test_knows_itself_again_by_its_weights_and_prompts(self, model_folder: Path, tmp_path: Path) -> None:
        import shutil

        moved = tmp_path / "moved"
        shutil.copytree(model_folder, moved)
        original = SentenceTransformerEmbedder(str(model_folder)).revision
        assert SentenceTransformerEmbedder(str(moved)).revision == original
        settings = moved / "config_sentence_transformers.json"
        settings.write_text(settings.read_text().replace("query : ", "question : "))
        assert SentenceTransformerEmbedder(str(moved)).revision != original

    def test_weights_that_are_gone_are_told_and_not_taken_for_others(self, model_folder: Path, tmp_path: Path) -> None:
        import shutil

        moved = shutil.copytree(model_folder, tmp_path / "moved")
        embedder = SentenceTransformerEmbedder(str(moved))
        moved.rename(tmp_path / "away")
        with pytest.raises(ModelError, match="weights are gone"):
            _ = embedder.revision
        (tmp_path / "away").rename(moved)
        assert embedder.revision == SentenceTransformerEmbedder(str(model_folder)).revision

    def test_may_have_no_layers_at_all(self, tmp_path: Path) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        made = SentenceTransformer(modules=[StaticEmbedding(tokenizer(), embedding_dim=8)], device="cpu")
        made.save_pretrained(str(tmp_path / "static"), create_model_card=False)
        embedder = SentenceTransformerEmbedder(str(tmp_path / "static"))
        assert embedder.embed(["refunds take days"]).shape == (1, 8)
        assert embedder.count_tokens(["refunds take days"]) == [3]
        assert embedder.max_tokens == 8192

    def test_is_the_packaged_one_by_its_name(self) -> None:
        assert isinstance(embedder_by_name(), MiniLMEmbedder)
        assert isinstance(embedder_by_name("all-MiniLM-L6-v2"), MiniLMEmbedder)

    @pytest.mark.parametrize(("file", "problem"), [
        ("config.json", "pickles can run code"),
        ("nothing.txt", "no modules.json"),
    ])  # fmt: skip
    def test_of_pickles_or_nothing_is_refused(self, tmp_path: Path, file: str, problem: str) -> None:
        (tmp_path / file).write_text("{}")
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(ModelError, match=problem):
            embedder_by_name(str(tmp_path))

    def test_that_is_not_here_is_not_fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(ModelError, match="hf download nobody/nothing"):
            embedder_by_name("nobody/nothing")

    def test_that_cannot_be_loaded_is_said_so(self, model_folder: Path, tmp_path: Path) -> None:
        import shutil

        shutil.copytree(model_folder, tmp_path / "broken")
        (tmp_path / "broken" / "modules.json").write_text(
            '[{"idx": 0, "name": "0", "path": "", "type": "own.code.Module"}]'
        )
        with pytest.raises(ModelError, match="cannot load this model"):
            embedder_by_name(str(tmp_path / "broken")).embed(["text"])


def vectors_of(body: dict[str, Any], size: int = 3) -> list[dict[str, Any]]:
    """An answer's rows, the last first: their indexes count, not their order."""
    rows = [
        {"object": "embedding", "index": number, "embedding": [float(len(text)), 1.0, 0.0][:size]}
        for number, text in enumerate(body["input"])
    ]
    return rows[::-1]


@contextmanager
def served(answer: Callable[[dict[str, Any], int], Reply]) -> Iterator[tuple[EndpointEmbedder, Endpoint]]:
    with endpoint(answer) as running:
        yield EndpointEmbedder(running.url, "bge"), running


class TestAnEndpoint:
    def test_embeds_in_batches_and_in_order(self) -> None:
        with served(lambda body, _: Reply({"data": vectors_of(body)})) as (embedder, running):
            vectors = embedder.embed(["x" * length for length in range(1, 71)])
        lengths = np.arange(1, 71)
        assert vectors == pytest.approx(
            np.stack([lengths, np.ones(70), np.zeros(70)], 1) / np.hypot(lengths, 1)[:, None]
        )
        assert [len(request["input"]) for request in running.requests[:1]] == [1]
        assert sorted(len(request["input"]) for request in running.requests[1:]) == [6, 32, 32]
        assert all((request["model"], request["encoding_format"]) == ("bge", "float") for request in running.requests)
        assert set(running.paths) == {"/v1/embeddings"}

    def test_is_named_by_its_address_and_its_model(self) -> None:
        with served(lambda body, _: Reply({"data": vectors_of(body)})) as (_, running):
            embedder = embedder_by_name(f"openai:{running.url}#org/bge#v2")
            assert (embedder.name, embedder.revision) == (f"openai:{running.url}#org/bge#v2", "org/bge#v2")
            assert embedder.num_dimensions == 3

    def test_gets_its_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FETTLE_EMBEDDER_API_KEY", "sk-secret")
        get_settings.cache_clear()
        try:
            with served(lambda body, _: Reply({"data": vectors_of(body)})) as (embedder, running):
                embedder.embed_queries(["a"])
        finally:
            get_settings.cache_clear()
        assert set(running.keys) == {"Bearer sk-secret"}

    def test_is_asked_again_after_a_passing_failure(self) -> None:
        with served(
            lambda body, number: failure(503, "busy") if number == 1 else Reply({"data": vectors_of(body)})
        ) as (embedder, running):
            assert embedder.embed(["a", "b"]).shape == (2, 3)
        assert len(running.requests) == 3

    @pytest.mark.parametrize(("spoil", "problem"), [
        (lambda rows: rows[:-1], "2 texts were sent, and 1 vectors came"),
        (lambda rows: [*rows, rows[0]], "2 texts were sent, and 3 vectors came"),
        (lambda rows: [rows[0] | {"index": 7}, rows[1]], "2 texts were sent"),
        (lambda rows: [row | {"embedding": [0.0, 0.0, 0.0]} for row in rows], "no direction"),
        (lambda rows: [row | {"embedding": [float("nan"), 1.0, 1.0]} for row in rows], "no direction"),
        (lambda rows: [rows[0] | {"embedding": [1.0]}, rows[1]], "several lengths"),
        (lambda rows: [row | {"embedding": [1.0]} for row in rows], "had 3 numbers, and now have 1"),
        (lambda rows: [row | {"embedding": "AAAA"} for row in rows], "no list of embeddings"),
        (lambda _: "<html>", "no list of embeddings"),
    ])  # fmt: skip
    def test_that_gives_something_else_is_told(self, spoil: Callable[[Any], Any], problem: str) -> None:
        def answer(body: dict[str, Any], number: int) -> Reply:
            rows = vectors_of(body)
            return Reply({"data": spoil(rows) if number else rows})

        with served(answer) as (embedder, running):
            assert embedder.num_dimensions == 3
            with pytest.raises(RemoteError, match=problem) as caught:
                embedder.embed(["a", "bb"])
        assert caught.value.where == running.url

    def test_that_refuses_is_told_with_its_own_words(self) -> None:
        with (
            served(lambda _body, _number: failure(400, "input is too long")) as (embedder, _),
            pytest.raises(RemoteError, match="HTTP 400: input is too long"),
        ):
            embedder.embed(["a"])

    def test_cannot_have_a_password_in_its_address(self) -> None:
        with pytest.raises(ConfigError, match="FETTLE_EMBEDDER_API_KEY"):
            EndpointEmbedder("http://me:secret@127.0.0.1:9/v1", "bge")

    @pytest.mark.parametrize("name", ["openai:http://127.0.0.1:9/v1", "openai:#bge", "openai:ftp://host#bge"])
    def test_needs_an_address_and_a_model(self, name: str) -> None:
        with pytest.raises(ConfigError):
            embedder_by_name(name)

    @pytest.mark.parametrize("text", [
        "Refunds take fourteen days after the parcel has come back to our counter.",
        "IBAN DE89 3704 0044 0532 0130 00, due 2026-11-26, 1,299.00 EUR",
        "def retry(times: int) -> None: raise NotImplementedError()",
        "Die Rücksendung ist kostenlos; Rückerstattungen dauern vierzehn Tage.",
        "返金には十四日かかります。",
    ])  # fmt: skip
    def test_counts_rather_too_many_tokens_than_too_few(self, text: str) -> None:
        (estimated,) = EndpointEmbedder("http://127.0.0.1:9/v1", "bge").count_tokens([text])
        (counted,) = MiniLMEmbedder().count_tokens([text])
        assert estimated >= counted
