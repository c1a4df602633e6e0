"""The training examples nearest to a text."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fettle.records import Example
from fettle.retrieval.embedder import Embedder

_DECIMALS = 5
"""Similarities closer than this are equal: the last bits depend on what else was in the embedder's batch."""


class NearestNeighbours:
    """Exact cosine search over what is asked in some examples. Fit for up to some 100,000 examples.

    Args:
        embedder: What makes vectors; give a `CachedEmbedder` that has seen all the texts to make many searches fast.
        examples: What can be found.

    Raises:
        ModelError: The embedder cannot be loaded.
    """

    def __init__(self, embedder: Embedder, examples: Sequence[Example]) -> None:
        self._embedder = embedder
        self._examples = tuple(examples)
        self._vectors_ND = embedder.embed([example.input_text for example in self._examples])

    def search(self, text: str, k: int, *, exclude_ids: Collection[str] = ()) -> list[Example]:
        """The `k` nearest examples, nearest first, fewer when there are no more; equally near ones in their given order.

        Args:
            text: What to search for.
            k: How many, at least 1.
            exclude_ids: Examples that must not be found, such as the one being answered.

        Raises:
            ValueError: `k` is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if not self._examples:
            return []
        similarities_N = np.round(self._vectors_ND @ self._embedder.embed([text])[0], _DECIMALS)
        nearest_first = np.argsort(-similarities_N, kind="stable")
        found: list[Example] = []
        for position in nearest_first:
            if (example := self._examples[position]).id not in exclude_ids:
                found.append(example)
                if len(found) == k:
                    break
        return found
