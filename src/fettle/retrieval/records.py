"""What travels through retrieval: documents are cut into passages, passages are found and shown to a model.

A document's text is data. Nothing here is ever taken for an instruction or a turn of a conversation (`retrieval.fence`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

AttributeValue = str | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What stands under one heading of a document."""

    text: str
    """Paragraphs have an empty line between them."""
    title_path: tuple[str, ...] = ()
    """Its heading and those above it, outermost first; the document's title is none of them."""
    page: int | None = None
    """Where it begins, from 1; None where the format has no pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was read from one file, or from one row of a table of documents or of questions and answers."""

    id: str
    """The row's own id, else its path below the folder (with `:ROW` for a row without an id); unique in an index."""
    source: str
    """Where people find it: the path below the folder, with `:ROW` for a row."""
    title: str
    sections: tuple[Section, ...]
    sha256: str
    """Of all that is kept of it: the same hash, the same passages."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    """What filters look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document that is found and shown as a whole."""

    id: str
    """`DOCUMENT#POSITION`."""
    document_id: str
    source: str
    """Of its document."""
    title: str
    """Of its document."""
    title_path: tuple[str, ...]
    position: int
    """In its document, from 0."""
    page: int | None
    text: str
    num_tokens: int
    """Of the embedder, the headings that are embedded with it included."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Of its document."""

    @property
    def heading(self) -> str:
        """The document's title and the headings above the passage, as people write a path; "" where there are none.

        >>> Passage(id="a#0", document_id="a", source="a.md", title="Returns", title_path=("Refunds", "Cards"), position=0,
        ...         page=None, text="", num_tokens=0).heading
        'Returns > Refunds > Cards'
        """
        path = self.title_path[1:] if self.title_path[:1] == (self.title,) else self.title_path
        return " > ".join(part for part in (self.title, *path) if part)

    @property
    def embedded_text(self) -> str:
        """What search looks at: the headings stand before the text."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSettings:
    """How documents are cut. Sizes are in tokens of the embedder, headings included."""

    max_tokens: int = 200
    """Of a passage; never more than the embedder reads."""
    overlap_tokens: int = 0
    """Of whole sentences that a passage repeats from the one before it."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage that a search of one kind found, by its key in the index."""

    key: int
    score: float
    """Higher is better; of the same search alone can scores be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A passage that was found for a question."""

    passage: Passage
    rank: int
    """From 1."""
    score: float
    """Higher is better; of the same search alone can scores be compared."""


class SearchMethod(StrEnum):
    """How passages are looked for."""

    VECTOR = "vector"
    """By the cosine similarity of embeddings."""
    FULL_TEXT = "full_text"
    """By the words: BM25, or what the database has."""
    HYBRID = "hybrid"
    """By both, the ranks fused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """How an index is searched for a question."""

    method: SearchMethod = SearchMethod.HYBRID
    num_passages: int = 5
    """Found at most."""
    num_candidates: int = 50
    """That each search contributes to the fusion, and that a reranker looks at."""
    reranker: str | None = None
    """By name; None: the order of the search."""
    max_tokens: int | None = None
    """Of all passages together, in tokens of the embedder; those that would not fit whole are left out. None: no bound."""
