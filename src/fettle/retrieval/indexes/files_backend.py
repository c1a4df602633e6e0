"""Indexes that are searched with files in FETTLE_HOME, a folder for each generation: those of FAISS and bm25s, or LanceDB's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from fettle.progress import Listener, Stage
from fettle.retrieval.backend import Generation
from fettle.retrieval.index import IndexDescription, PassageIndex
from fettle.retrieval.indexes.batches import PassageBatch, PassageReader
from fettle.retrieval.indexes.folder_files import holds_files
from fettle.retrieval.stored import StoredPassages, describe_index
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from fettle.store.passages import count_passages

_STAGE = "make search files"


class BuildFiles(Protocol):
    """Writes the files of one kind, as `folder.build_folder` does."""

    def __call__(
        self,
        folder: Path,
        batches: Iterable[PassageBatch],
        *,
        num_dimensions: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Have the files in a folder, all or none."""
        ...


OpenFiles = Callable[[Path, IndexDescription, PassageReader], PassageIndex]
"""Opens what was built."""


class FilesBackend:
    """Files in `FETTLE_HOME/indexes/ID/GENERATION`.

    Args:
        build: Writes them.
        open_files: Opens them.
    """

    def __init__(self, build: BuildFiles, open_files: OpenFiles) -> None:
        self._build, self._open = build, open_files

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
        self._build(
            folder, generation.passages(), num_dimensions=generation.kept_as.num_dimensions, on_progress=on_progress
        )
        listener.on_stage(Stage(name=_STAGE, num_done=num_passages, num_total=num_passages))

    def is_prepared(self, store: Store, index: StoredIndex) -> bool:
        """Whether the files of the present generation are there."""
        return holds_files(_folder(store, index.id, index.generation))

    def open(self, store: Store, index: StoredIndex) -> PassageIndex:
        """The present generation.

        Raises:
            ResourceError: Its files are not there, or damaged.
        """
        with store.reading() as connection:
            description = describe_index(connection, index)
        folder = _folder(store, index.id, index.generation)
        return self._open(folder, description, StoredPassages(store, index.id))

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
