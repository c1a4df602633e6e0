"""Passages, their documents and an index of them in memory, as the store and a backend would give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.index import IndexDescription
from fettle.retrieval.records import AttributeValue, Passage, PassageSettings


@dataclass(frozen=True, slots=True)
class Batch:
    keys: Sequence[int]
    texts: Sequence[str]
    vectors_ND: NDArray[np.float32]


class PassagesInMemory:
    """What the store knows: passage `key` belongs to document `key // passages_a_document`."""

    def __init__(self, passages: Mapping[int, Passage], *, passages_a_document: int = 1) -> None:
        self.by_key = dict(passages)
        self._passages_a_document = passages_a_document

    def find(self, keys: Sequence[int]) -> dict[int, Passage]:
        return {key: self.by_key[key] for key in keys if key in self.by_key}

    def keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        keys = np.array(sorted(self.by_key), dtype=np.int64)
        return keys, keys // self._passages_a_document

    def attributes(self) -> dict[int, Mapping[str, AttributeValue]]:
        return {key // self._passages_a_document: passage.attributes for key, passage in self.by_key.items()}


class NumberedEmbedder:
    """Texts that are numbers become these dimensions of a vector; a tiny embedder whose similarities are known."""

    name = "numbered"
    max_tokens = 100

    def __init__(self, num_dimensions: int = 4, revision: str = "first") -> None:
        self.num_dimensions, self.revision = num_dimensions, revision
        self.num_calls = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.num_calls += 1
        vectors_ND = np.full((len(texts), self.num_dimensions), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                if word.isdigit():
                    vectors_ND[row, int(word) % self.num_dimensions] += 1
        return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def passage(key: int, text: str, **changes: object) -> Passage:
    made = Passage(
        id=f"d{key}#0",
        document_id=f"d{key}",
        source=f"d{key}.md",
        title="",
        title_path=(),
        position=0,
        page=None,
        text=text,
        num_tokens=len(text.split()),
    )
    return replace(made, **changes)  # pyright: ignore[reportArgumentType]


def description(num_passages: int = 0, num_dimensions: int = 4, revision: str = "first") -> IndexDescription:
    return IndexDescription(
        id="vs_1",
        name="handbook",
        embedder="numbered",
        embedder_revision=revision,
        num_dimensions=num_dimensions,
        passages=PassageSettings(),
        backend="folder",
        generation=1,
        num_documents=num_passages,
        num_passages=num_passages,
        sha256="0" * 64,
    )


def unit_vectors(num_rows: int, num_dimensions: int, seed: int = 0) -> NDArray[np.float32]:
    vectors_ND = np.random.default_rng(seed).standard_normal((num_rows, num_dimensions), dtype=np.float32)
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
