"""Passages that a search finds, without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fettle.records import Example, Location, Message
from fettle.retrieval.filters import Filter
from fettle.retrieval.records import Found, Passage


def passage(document_id: str, text: str, *, position: int = 0, title: str = "", source: str = "") -> Passage:
    return Passage(
        id=f"{document_id}#{position}",
        document_id=document_id,
        source=source,
        title=title,
        title_path=(),
        position=position,
        page=None,
        text=text,
        num_tokens=len(text.split()),
    )


def found(*passages: Passage) -> tuple[Found, ...]:
    return tuple(Found(passage=one, rank=rank, score=1 / rank) for rank, one in enumerate(passages, start=1))


def asked(
    question: str, answer: str, *, id_: str | None = None, documents: Sequence[str] | None = None, system: str = ""
) -> Example:
    """An example; `documents` answer it."""
    messages = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    if system:
        messages.insert(0, Message(role="system", content=system))
    return Example(
        id=id_ or question,
        messages=tuple(messages),
        source=Location(file="q.jsonl", line=1),
        document_ids=None if documents is None else tuple(documents),
    )


class ListedRetriever:
    """Finds what stands in a list for a question, and remembers what it was asked."""

    def __init__(self, passages_of: Mapping[str, Sequence[Passage]], *, name: str = "listed") -> None:
        self._passages_of, self._name = passages_of, name
        self.searched: list[str] = []

    def search(self, question: str, *, where: Filter | None = None) -> tuple[Found, ...]:
        self.searched.append(question)
        return found(*self._passages_of.get(question, ()))

    def search_all(self, questions: Sequence[str]) -> tuple[tuple[Found, ...], ...]:
        return tuple(self.search(question) for question in questions)

    def describe(self) -> str:
        return self._name

    def identity(self) -> str:
        return self._name


class ListedLookup:
    """The passages of some documents, and how often it was asked for each."""

    def __init__(self, *passages: Passage) -> None:
        self._passages = passages
        self.asked: list[str] = []

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        self.asked.append(document_id)
        return tuple(one for one in self._passages if one.document_id == document_id)
