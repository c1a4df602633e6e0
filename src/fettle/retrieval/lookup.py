"""Passages by the document or the id, without a search: for training rows, and for graders of what an answer was shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol

from fettle.errors import IntegrityError
from fettle.retrieval.records import Passage


def as_read(passage: Passage) -> str:
    """A passage as people read it: its headings and its text, whatever white space is in them.

    Of passages that read alike one is shown. Everything else counts: "5 $" is not "5 €", two questions may have one answer, and the
    same sentence in the files of two towns says something of each.
    """
    return unicodedata.normalize("NFC", "\n".join(" ".join(part.split()) for part in (passage.heading, passage.text)))


class PassageSet:
    """Some passages, with all that read alike: which of several copies search shows is chance.

    Args:
        passages: Any.
    """

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._documents: dict[str, dict[str, None]] = {}
        for passage in passages:
            self._documents.setdefault(as_read(passage), {})[passage.document_id] = None

    def __contains__(self, passage: Passage) -> bool:
        return as_read(passage) in self._documents

    def documents_with(self, passage: Passage) -> tuple[str, ...]:
        """The ids of the documents that have this passage or a copy of it; its own, where none here has."""
        return tuple(self._documents.get(as_read(passage), (passage.document_id,)))


class PassageLookup(Protocol):
    """The passages of an index, by their document."""

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        """All passages of a document, in its order; none where there is no such document."""
        ...


class KeptLookup:
    """A lookup that asks for each document once.

    Args:
        lookup: What is asked.
    """

    def __init__(self, lookup: PassageLookup) -> None:
        self._lookup = lookup
        self._passages_of: dict[str, tuple[Passage, ...]] = {}

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        """All passages of a document, in its order; none where there is no such document."""
        if document_id not in self._passages_of:
            self._passages_of[document_id] = self._lookup.of_document(document_id)
        return self._passages_of[document_id]

    def with_ids(self, passage_ids: Sequence[str]) -> tuple[Passage, ...]:
        """The passages that an answer was shown, in its order.

        Raises:
            IntegrityError: The index no longer has one of them.
        """
        return tuple(self._with_id(passage_id) for passage_id in passage_ids)

    def _with_id(self, passage_id: str) -> Passage:
        document_id, _, _ = passage_id.rpartition("#")
        for passage in self.of_document(document_id):
            if passage.id == passage_id:
                return passage
        raise IntegrityError(
            f"passage {passage_id!r}, which an answer was shown, is no longer in the index",
            remedy="run the study again with --fresh, now that the documents have changed",
        )
