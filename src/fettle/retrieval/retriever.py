"""The interface of whatever finds passages for questions: contenders and the server know no more of retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fettle.retrieval.filters import Filter
from fettle.retrieval.records import Found


class Retriever(Protocol):
    """An index, searched in one way."""

    def search(self, question: str, *, where: Filter | None = None) -> tuple[Found, ...]:
        """The passages for one question, the best first; none where nothing fits."""
        ...

    def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        """The same for each of many questions, in their order, with less work; passage for passage what `search` finds."""
        ...

    def describe(self) -> str:
        """The index and the way it is searched, in words."""
        ...

    def identity(self) -> str:
        """A text that changes whenever what is found could: the index's content, the embedder and the settings of the search."""
        ...
