"""What retrieval.py searches: texts put together from real sentences, and vectors like those of real sentences."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.embedder import MiniLMEmbedder
from retrieval_measure import Data, K

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_NUM_QUERIES = 1_000
_NOISE = 0.6
"""Of the spread of real vectors, that each synthetic one has beside what it is mixed of."""
_SENTENCES_A_PASSAGE = 5
_NUM_AT_ONCE = 20_000


def make_passages(shared: Path, folder: Path, num_rows: int) -> Data:
    """Passages of five real sentences, a tenth of their words changed for others; vectors: the sentences' mean, with noise."""
    if (folder / "truth.npy").exists():
        return Data(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sentences, vectors_SD, questions, queries_QD = _real(shared, folder.parent)
    words = sorted({word for sentence in sentences for word in sentence.split()})
    draw, generator = random.Random(0), np.random.default_rng(0)
    texts: list[str] = []
    chosen_NP = generator.integers(len(sentences), size=(num_rows, _SENTENCES_A_PASSAGE))
    for chosen_P in chosen_NP:
        text = " ".join(sentences[number] for number in chosen_P).split()
        texts.append(" ".join(draw.choice(words) if draw.random() < 0.1 else word for word in text))
    (folder / "texts.json").write_text(json.dumps(texts))
    (folder / "questions.json").write_text(json.dumps(questions))
    spread_DD = _spread(vectors_SD)
    vectors_ND = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (num_rows, vectors_SD.shape[1]))
    for start in range(0, num_rows, _NUM_AT_ONCE):
        mixed_ND = vectors_SD[chosen_NP[start : start + _NUM_AT_ONCE]].mean(axis=1)
        vectors_ND[start : start + _NUM_AT_ONCE] = _unit(
            mixed_ND + _NOISE / 2 * _noise(generator, len(mixed_ND), spread_DD)
        )
    return _with_truth(folder, queries_QD)


def make_vectors(shared: Path, folder: Path, num_rows: int, *, is_uniform: bool) -> Data:
    """Vectors mixed of two real ones each, with noise that is spread as they are; or evenly over all directions."""
    if (folder / "truth.npy").exists():
        return Data(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _, vectors_SD, _, queries_QD = _real(shared, folder.parent)
    generator = np.random.default_rng(0)
    num_dimensions = vectors_SD.shape[1]
    if is_uniform:
        queries_QD = _unit(generator.standard_normal((len(queries_QD), num_dimensions), dtype=np.float32))
    spread_DD = _spread(vectors_SD)
    vectors_ND = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (num_rows, num_dimensions))
    for start in range(0, num_rows, _NUM_AT_ONCE):
        num_made = min(_NUM_AT_ONCE, num_rows - start)
        if is_uniform:
            made_ND = generator.standard_normal((num_made, num_dimensions), dtype=np.float32)
        else:
            first, second = generator.integers(len(vectors_SD), size=(2, num_made))
            share = generator.random((num_made, 1), dtype=np.float32)
            made_ND = share * vectors_SD[first] + (1 - share) * vectors_SD[second]
            made_ND = made_ND + _NOISE * _noise(generator, num_made, spread_DD)
        vectors_ND[start : start + num_made] = _unit(made_ND)
    return _with_truth(folder, queries_QD)


def _real(shared: Path, cache: Path) -> tuple[list[str], NDArray[np.float32], list[str], NDArray[np.float32]]:
    """The sentences of SQuAD's paragraphs, a thousand of its questions, and the vectors of both."""
    folder = shared / "data" / "rag_squad2"
    documents = [json.loads(line) for line in (folder / "docs.jsonl").open()]
    sentences = [sentence for document in documents for sentence in _SENTENCE_END.split(document["text"])]
    asked = [json.loads(line) for line in (folder / "questions.jsonl").open()]
    questions = random.Random(0).sample([row["question"] for row in asked if row["answerable"]], _NUM_QUERIES)
    kept = cache / "real.npz"
    if not kept.exists():
        embedder = MiniLMEmbedder()
        np.savez(kept, sentences=embedder.embed(sentences), questions=embedder.embed_queries(questions))
    found = np.load(kept)
    return sentences, found["sentences"], questions, found["questions"]


def _spread(vectors_SD: NDArray[np.float32]) -> NDArray[np.float32]:
    covariance_DD = np.cov(vectors_SD.T) + 1e-8 * np.eye(vectors_SD.shape[1])
    return np.linalg.cholesky(covariance_DD).astype(np.float32)


def _noise(generator: np.random.Generator, num_rows: int, spread_DD: NDArray[np.float32]) -> NDArray[np.float32]:
    return generator.standard_normal((num_rows, len(spread_DD)), dtype=np.float32) @ spread_DD.T


def _unit(vectors_ND: NDArray[np.floating]) -> NDArray[np.float32]:
    return (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)


def _with_truth(folder: Path, queries_QD: NDArray[np.float32]) -> Data:
    np.save(folder / "queries.npy", queries_QD)
    data = Data(folder)
    best_QK = np.full((len(queries_QD), K), -1, dtype=np.int64)
    scores_QK = np.full((len(queries_QD), K), -np.inf, dtype=np.float32)
    for start, vectors_ND in data.batches():
        scores_QN = np.concatenate([scores_QK, queries_QD @ vectors_ND.T], axis=1)
        rows_QN = np.concatenate(
            [best_QK, np.tile(np.arange(start, start + len(vectors_ND)), (len(queries_QD), 1))], axis=1
        )
        order = np.argpartition(-scores_QN, K, axis=1)[:, :K]
        best_QK, scores_QK = np.take_along_axis(rows_QN, order, 1), np.take_along_axis(scores_QN, order, 1)
    np.save(folder / "truth.npy", best_QK)
    return data
