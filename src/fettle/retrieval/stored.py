"""What the store keeps of an index, as retrieval knows it: descriptions, passages, vectors, and what filters look at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from fettle.files import sha256_of_json
from fettle.retrieval.index import IndexDescription
from fettle.retrieval.records import AttributeValue, Passage, PassageSettings
from fettle.store.database import Store
from fettle.store.indexes import DocumentStatus, StoredIndex, list_attributes, list_documents, sizes_of
from fettle.store.passages import (
    NewPassage,
    StoredPassage,
    find_passages,
    iterate_passages,
    list_passage_numbers,
    list_passages_named,
)

_LITTLE_ENDIAN = np.dtype("<f4")
_HASH_DIGITS = 32


class StoredPassages:
    """The passages of an index that can be found, read from the store.

    Args:
        store: Where they are.
        index_id: Of which index.
    """

    def __init__(self, store: Store, index_id: str) -> None:
        self._store, self._index_id = store, index_id

    def find(self, keys: Sequence[int]) -> dict[int, Passage]:
        """The passages of these keys; one that was deleted since is not among them."""
        with self._store.reading() as connection:
            found = find_passages(connection, self._index_id, keys)
        return {key: as_passage(passage) for key, passage in found.items()}

    def of_document(self, document_id: str) -> tuple[Passage, ...]:
        """The passages of a document, in its order; none where there is no such document."""
        with self._store.reading() as connection:
            return tuple(map(as_passage, list_passages_named(connection, self._index_id, document_id)))

    def keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The keys of all passages, rising, and the number of the document of each: [P], [P]."""
        with self._store.reading() as connection:
            pairs = list_passage_numbers(connection, self._index_id)
        pairs_P2 = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return pairs_P2[:, 0].copy(), pairs_P2[:, 1].copy()

    def attributes(self) -> dict[int, Mapping[str, AttributeValue]]:
        """Of every document that can be found, by its number."""
        with self._store.reading() as connection:
            return list_attributes(connection, self._index_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedPassages:
    """Some passages with their vectors."""

    keys: tuple[int, ...]
    texts: tuple[str, ...]
    """Headings included."""
    vectors_ND: NDArray[np.float32]


def embedded_passages(store: Store, index: StoredIndex, documents: frozenset[int]) -> Iterator[EmbeddedPassages]:
    """The passages of some documents in batches, in the order of their keys.

    Args:
        store: Where they are.
        index: Of which index; each passage has its vector.
        documents: Numbers of documents.
    """
    for batch in iterate_passages(store, index.id):
        wanted = [passage for passage in batch if passage.document_number in documents]
        if wanted:
            yield EmbeddedPassages(
                keys=tuple(passage.number for passage in wanted),
                texts=tuple(as_passage(passage).embedded_text for passage in wanted),
                vectors_ND=np.stack([_vector(passage, index) for passage in wanted]),
            )


def describe_index(connection: Connection, index: StoredIndex) -> IndexDescription:
    """What an index was made with and what can be found in it."""
    sizes = sizes_of(connection, index.id)
    documents = list_documents(connection, index.id, status=DocumentStatus.COMPLETED)
    settings = [index.embedder_revision, index.num_dimensions, index.passage_tokens, index.overlap_tokens]
    return IndexDescription(
        id=index.id,
        name=index.name,
        embedder=index.embedder,
        embedder_revision=index.embedder_revision,
        num_dimensions=index.num_dimensions,
        passages=passage_settings(index),
        backend=index.backend,
        generation=index.generation,
        num_documents=sizes.num_documents,
        num_passages=sizes.num_passages,
        sha256=sha256_of_json([settings, sorted((document.document_id, document.sha256) for document in documents)]),
    )


def passage_settings(index: StoredIndex) -> PassageSettings:
    """How the documents of an index are cut."""
    return PassageSettings(max_tokens=index.passage_tokens, overlap_tokens=index.overlap_tokens)


def as_passage(stored: StoredPassage) -> Passage:
    """A passage as searches find it."""
    return Passage(
        id=f"{stored.document_id}#{stored.position}",
        document_id=stored.document_id,
        source=stored.source,
        title=stored.title,
        title_path=tuple(stored.title_path),
        position=stored.position,
        page=stored.page,
        text=stored.text,
        num_tokens=stored.num_tokens,
        attributes=stored.attributes,
    )


def as_new(passage: Passage) -> NewPassage:
    """A passage as the store takes it."""
    passage = replace(
        passage,
        title=storable(passage.title),
        title_path=tuple(map(storable, passage.title_path)),
        text=storable(passage.text),
    )
    return NewPassage(
        position=passage.position,
        page=passage.page,
        title_path=passage.title_path,
        text=passage.text,
        num_tokens=passage.num_tokens,
        text_hash=hash_of(passage.embedded_text),
    )


def hash_of(embedded_text: str) -> str:
    """The first half of the SHA-256 of what is embedded: texts with the same one have the same vector."""
    return hashlib.sha256(embedded_text.encode()).hexdigest()[:_HASH_DIGITS]


def storable(text: str) -> str:
    """Without what no database takes: lone surrogates and zeros.

    >>> storable("a\\0b")
    'a\ufffdb'
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def as_bytes(vector_D: NDArray[np.float32]) -> bytes:
    """A vector as the store keeps it."""
    return vector_D.astype(_LITTLE_ENDIAN).tobytes()


def _vector(passage: StoredPassage, index: StoredIndex) -> NDArray[np.float32]:
    vector_D = np.frombuffer(passage.vector or b"", dtype=_LITTLE_ENDIAN)
    if len(vector_D) != index.num_dimensions:
        raise ValueError(f"passage {passage.number} has {len(vector_D)} of {index.num_dimensions} dimensions")
    return vector_D.astype(np.float32)
