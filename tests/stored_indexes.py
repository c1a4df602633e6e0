"""Indexes in a store, filled without documents being read or embedded: what is found where, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import insert

from fettle.progress import SilentListener
from fettle.retrieval.backend import Generation
from fettle.retrieval.indexes.registry import backend_named, backend_of
from fettle.retrieval.records import AttributeValue
from fettle.retrieval.stored import as_bytes, hash_of
from fettle.store.database import Store
from fettle.store.indexes import (
    DocumentStatus,
    NewDocument,
    StoredIndex,
    add_document,
    add_index,
    list_documents,
    new_index_id,
    publish,
)
from fettle.store.passages import NewPassage, add_passages, list_passage_numbers, set_vectors
from fettle.store.tables import projects

PROJECT = "proj_1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A document of one passage."""

    id: str
    text: str
    vector: Sequence[float]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


def new_index(store: Store, *, num_dimensions: int = 4, replaces: str | None = None) -> StoredIndex:
    """An index with nothing in it, in the way that the store's indexes are searched."""
    index = StoredIndex(
        id=new_index_id(),
        project_id=PROJECT,
        name=None,
        backend=backend_of(store),
        embedder="numbered",
        embedder_revision="first",
        num_dimensions=num_dimensions,
        passage_tokens=200,
        overlap_tokens=0,
        created_at=1,
        last_active_at=1,
        replaces=replaces,
    )
    with store.writing() as connection:
        if not connection.execute(projects.select()).first():
            connection.execute(insert(projects).values(id=PROJECT, name="team", created_at=1))
        add_index(connection, index)
    return index


def stage(store: Store, index: StoredIndex, written: Sequence[Written]) -> list[int]:
    """Have documents in progress, with passages and vectors; their numbers."""
    numbers: list[int] = []
    with store.writing() as connection:
        for one in written:
            document = NewDocument(
                document_id=one.id,
                source=one.id,
                title="",
                sha256="0" * 64,
                attributes=one.attributes,
                num_bytes=len(one.text),
            )
            numbers.append(add_document(connection, index.id, document))
            text_hash = hash_of(f"{one.id}\n{one.text}")  # its own, so that each passage has its own vector
            passage = NewPassage(
                position=0,
                page=None,
                title_path=(),
                text=one.text,
                num_tokens=len(one.text.split()),
                text_hash=text_hash,
            )
            add_passages(connection, index.id, numbers[-1], [passage])
            vector_D = np.asarray(one.vector, dtype=np.float32)
            unit_D = (vector_D / np.linalg.norm(vector_D)).astype(np.float32)
            set_vectors(connection, index.id, {text_hash: as_bytes(unit_D)})
    return numbers


def prepare(store: Store, index: StoredIndex, *, new: Sequence[int], gone: Sequence[int] = ()) -> None:
    """Have what the next generation is searched with."""
    with store.reading() as connection:
        found = {one.number for one in list_documents(connection, index.id, status=DocumentStatus.COMPLETED)}
    documents = frozenset((found | set(new)) - set(gone))
    generation = Generation(store, index, number=index.generation + 1, kept_as=index, documents=documents)
    backend_named(index.backend).prepare(generation, SilentListener())


def put(store: Store, index: StoredIndex, written: Sequence[Written], *, gone: Sequence[int] = ()) -> StoredIndex:
    """Let documents be found, and others no longer; the index in its next generation."""
    new = stage(store, index, written)
    prepare(store, index, new=new, gone=gone)
    with store.writing() as connection:
        index = publish(connection, index, new=new, gone=gone)
    backend_named(index.backend).discard(store, index.id, keep=index.generation)
    return index


def keys_by_document(store: Store, index: StoredIndex) -> dict[str, int]:
    """The key of the one passage of each document that can be found."""
    with store.reading() as connection:
        ids = {one.number: one.document_id for one in list_documents(connection, index.id)}
        return {ids[document]: number for number, document in list_passage_numbers(connection, index.id)}
