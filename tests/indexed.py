"""Documents, an embedder of a few lines, and what an index of them holds."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from databases import skip_without_pgvector
from fettle.progress import SilentListener, Stage
from fettle.records import Action, Finding, Severity
from fettle.retrieval.indexing import IndexUpdate, index_for, update_index
from fettle.retrieval.records import AttributeValue, Document, PassageSettings, Section
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex, list_documents
from fettle.store.keys import DEFAULT_PROJECT, ensure_project
from fettle.store.passages import iterate_passages

SILENT = SilentListener()
PASSAGES = PassageSettings(max_tokens=32)


class WordEmbedder:
    """The words of a text, each thrown into one of some dimensions; remembers what it was asked."""

    name = "words"
    max_tokens = 64

    def __init__(self, num_dimensions: int = 16, revision: str = "first") -> None:
        self.num_dimensions, self.revision = num_dimensions, revision
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.extend(texts)
        vectors_ND = np.full((len(texts), self.num_dimensions), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors_ND[row, hashlib.sha256(word.encode()).digest()[0] % self.num_dimensions] += 1
        return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embed(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """So many that two sentences do not fit into one passage."""
        return [17 * max(1, text.count(".")) for text in texts]


class KilledListener:
    """Ends its process, as the system would, when it is told something for the n-th time; never where n is 0."""

    def __init__(self, num_left: int) -> None:
        self._num_left = num_left

    def on_stage(self, stage: Stage) -> None:
        self.on_message(stage.name)

    def on_message(self, text: str) -> None:
        self._num_left -= 1
        if self._num_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def document(name: str, *paragraphs: str, attributes: dict[str, AttributeValue] | None = None) -> Document:
    return Document(
        id=name,
        source=name,
        title="",
        sections=(Section(text="\n\n".join(paragraphs)),),
        sha256=hashlib.sha256(repr((name, paragraphs, attributes)).encode()).hexdigest(),
        attributes=attributes or {},
    )


def unread(file: str, line: int | None = None) -> Finding:
    return Finding(
        code="encrypted", severity=Severity.ERROR, action=Action.LEFT_OUT, message="", remedy="", file=file, line=line
    )


def project_of(store: Store) -> str:
    with store.writing() as connection:
        return ensure_project(connection, DEFAULT_PROJECT).id


def indexed(
    store: Store,
    documents: Iterable[Document | Finding],
    *,
    name: str = "handbook",
    embedder: WordEmbedder | None = None,
    passages: PassageSettings | None = PASSAGES,
    is_rebuilt: bool = False,
    listener: SilentListener | KilledListener = SILENT,
) -> IndexUpdate:
    """Do what `fettle index` does."""
    skip_without_pgvector(store)
    embedder = embedder or WordEmbedder()
    index = index_for(store, project_of(store), name, embedder=embedder, passages=passages, is_rebuilt=is_rebuilt)
    return update_index(store, index, documents, embedder=embedder, listener=listener)


def content_of(store: Store, index: StoredIndex) -> list[tuple[str, str, int, str, bytes | None]]:
    """Every document with its status and its passages, in an order that does not depend on when they came."""
    with store.reading() as connection:
        status = {one.number: one.status.value for one in list_documents(connection, index.id)}
    return sorted(
        (one.document_id, status[one.document_number], one.position, one.text, one.vector)
        for one in _passages(store, index)
    )


def texts_of(store: Store, index: StoredIndex) -> list[str]:
    """The texts that are in an index, each as often as it is."""
    return [text for _, _, _, text, _ in content_of(store, index)]


def _passages(store: Store, index: StoredIndex) -> Iterator:
    for batch in iterate_passages(store, index.id):
        yield from batch
