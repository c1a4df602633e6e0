"""Indexes with files that were attached over the API, and what becomes of them."""

from __future__ import annotations

import hashlib

from fettle.retrieval.indexing import new_index
from fettle.retrieval.records import PassageSettings
from fettle.retrieval.vector_stores import open_searchable
from fettle.store.attached_files import IndexedFile, attach_file, find_file_of_index
from fettle.store.database import Store, now
from fettle.store.files import StoredFile, incoming_place, keep_file
from fettle.store.ids import new_id
from fettle.store.indexes import StoredIndex, add_index, find_index
from indexed import WordEmbedder, project_of

TEXTS = [
    f"# Part {number}\n\nPart {number} is about {word}.\n" for number, word in enumerate(("storms", "roads", "ice"))
]
CUT = PassageSettings(max_tokens=40)


def empty_index(store: Store) -> StoredIndex:
    index = new_index(
        store,
        project_of(store),
        embedder=WordEmbedder(),
        passages=CUT,
        name=None,
        expires_after_days=None,
        metadata=None,
    )
    with store.writing() as connection:
        add_index(connection, index)
    return index


def attached(store: Store, index: StoredIndex, *texts: str, name: str = "a.md") -> list[str]:
    """Files with these texts, attached; their ids."""
    ids = []
    for text in texts:
        content = text.encode()
        place = incoming_place(store)
        place.write_bytes(content)
        file = StoredFile(
            id=new_id("file-"),
            project_id=index.project_id,
            filename=name,
            purpose="assistants",
            num_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            created_at=now(),
        )
        keep_file(store, place, file)
        with store.writing() as connection:
            attach_file(connection, index.id, file, {"kind": "part"})
        ids.append(file.id)
    return ids


def state_of(store: Store, index: StoredIndex, file_id: str) -> IndexedFile:
    with store.reading() as connection:
        return find_file_of_index(connection, index.id, file_id)


def searched(store: Store, index: StoredIndex, word: str) -> list[str]:
    with store.reading() as connection:
        current = find_index(connection, index.project_id, index.id)
    opened = open_searchable(store, current)
    return [passage.document_id for passage in opened.passages([one.key for one in opened.matching(word, 5)])]
