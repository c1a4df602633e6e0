"""The interface of whatever looks once more at the passages that a search has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fettle.retrieval.records import Found


class Reranker(Protocol):
    """Reads a question and each passage together, which search, seeing them apart, cannot."""

    @property
    def name(self) -> str:
        """What settings and reports call it."""
        ...

    @property
    def max_candidates(self) -> int:
        """How many candidates are worth its time; those after them keep their order."""
        ...

    def identity(self) -> str:
        """A text that changes whenever its scores could."""
        ...

    def scores(self, question: str, candidates: Sequence[Found]) -> list[float]:
        """One score a candidate, in their order; higher is better.

        Raises:
            ModelError: Its model cannot be loaded.
        """
        ...
