"""Indexes that are searched with files in FETTLE_HOME, a folder for each generation."""

from __future__ import annotations

import shutil
from pathlib import Path

from fettle.progress import Listener, Stage
from fettle.retrieval.backend import Generation
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.indexes.folder_files import holds_files
from fettle.retrieval.stored import StoredPassages, describe_index
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from fettle.store.passages import count_passages

_STAGE = "make search files"


class FolderBackend:
    """FAISS and bm25s, in `FETTLE_HOME/indexes/ID/GENERATION`."""

    def prepare(self, generation: Generation, listener: Listener) -> None:
        """Write the files of a generation into a folder of their own."""
        store, index = generation.store, generation.index
        with store.reading() as connection:
            num_passages = count_passages(connection, generation.kept_as.id)

        def on_progress(num_done: int) -> None:
            listener.on_stage(Stage(name=_STAGE, num_done=min(num_done, num_passages - 1), num_total=num_passages))

        if num_passages:
            on_progress(0)
        folder = _folder(store, index.id, generation.number)
        build_folder(
            folder, generation.passages(), num_dimensions=generation.kept_as.num_dimensions, on_progress=on_progress
        )
        listener.on_stage(Stage(name=_STAGE, num_done=num_passages, num_total=num_passages))

    def is_prepared(self, store: Store, index: StoredIndex) -> bool:
        """Whether the files of the present generation are there."""
        return holds_files(_folder(store, index.id, index.generation))

    def open(self, store: Store, index: StoredIndex) -> FolderIndex:
        """The present generation.

        Raises:
            ResourceError: Its files are not there, or damaged.
        """
        with store.reading() as connection:
            description = describe_index(connection, index)
        folder = _folder(store, index.id, index.generation)
        return FolderIndex(folder, description, StoredPassages(store, index.id))

    def discard(self, store: Store, index_id: str, *, keep: int | None) -> None:
        """Delete the files of all generations but one; who has them open can go on reading them."""
        folder = store.indexes / index_id
        for generation in folder.glob("*"):
            if keep is None or generation.name != str(keep):
                shutil.rmtree(generation, ignore_errors=True)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(store: Store, index_id: str, generation: int) -> Path:
    return store.indexes / index_id / str(generation)
