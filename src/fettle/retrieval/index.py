"""The interface of an index of passages, which is told apart from every other by what made its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.filters import Filter
from fettle.retrieval.records import Passage, PassageSettings, Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDescription:
    """What an index was made with and what is in it: vectors of another embedder cannot be compared with its own."""

    id: str
    """`vs_` and 24 letters and digits."""
    name: str | None
    embedder: str
    """As `--embedder` takes it."""
    embedder_revision: str
    """Hash of the weights; for an endpoint, the name of its model."""
    num_dimensions: int
    passages: PassageSettings
    backend: str
    """`folder`, `pgvector` or `lancedb`."""
    generation: int
    """Rises with every change of what is in it."""
    num_documents: int
    num_passages: int
    sha256: str
    """Of its settings and the hashes of its documents: the same hash, the same passages."""


class PassageIndex(Protocol):
    """Passages that can be searched in two ways, as they were at one moment."""

    @property
    def description(self) -> IndexDescription:
        """What it was made with and what is in it."""
        ...

    def nearest(self, query_D: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages with the most similar vectors, the most similar first; scores are cosine similarities.

        Args:
            query_D: Of unit length.
            k: How many, at least 1.
            where: What the documents' attributes must fulfil; None: anything.
        """
        ...

    def matching(self, query: str, k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages whose words fit best, the best first; those that share no telling word with the query are not found."""
        ...

    def share_of_words(self, query: str, key: int) -> float:
        """Which share of a query's telling words a passage has, from 0 to 1, rare words counting more.

        Words that no passage has do not count.

        Args:
            query: As `matching` takes it.
            key: Of a passage that `matching` has found for it.
        """
        ...

    def passages(self, keys: Sequence[int]) -> list[Passage]:
        """The passages of these keys, in this order."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
