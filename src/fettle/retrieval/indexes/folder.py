"""An index in a folder: FAISS for vectors, bm25s for words, made from the store and replaced as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.retrieval.filters import Filter
from fettle.retrieval.index import IndexDescription
from fettle.retrieval.indexes.batches import AllowedRows, PassageBatch, PassageReader, checked_batches
from fettle.retrieval.indexes.folder_files import Manifest, new_content, open_content, publish
from fettle.retrieval.indexes.top import best_of
from fettle.retrieval.indexes.vector_files import VectorFiles, VectorForm, write_vectors
from fettle.retrieval.indexes.word_files import WordFiles, WordFilesBuilder
from fettle.retrieval.records import Passage, Ranked

_WORDS = "words"
"""The folder of what full-text search reads; not there where no text has a word."""


def build_folder(
    folder: Path,
    batches: Iterable[PassageBatch],
    *,
    num_dimensions: int,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Make the search files of an index in a folder; those that are there can be searched until the new ones are whole.

    Args:
        folder: Of this index alone; made where it does not exist.
        batches: All passages, in the order of their keys. Looked at once, and never all in memory.
        num_dimensions: Of every vector.
        on_progress: Told the number of passages whose vectors are in codes or a graph (none where there are few).

    Raises:
        StudyConflictError: Another process is building here.
        DiskFullError: No space is left; the old files are untouched.
        ValueError: Keys do not rise, or a batch has vectors of another shape.
    """
    with new_content(folder) as content, tempfile.TemporaryFile(dir=content) as raw:
        keys: list[int] = []
        words = WordFilesBuilder()
        for batch in checked_batches(batches, num_dimensions):
            keys.extend(batch.keys)
            words.add(batch.texts)
            raw.write(np.asarray(batch.vectors_ND, dtype=np.float32).tobytes())
        raw.flush()
        keys_N = np.array(keys, dtype=np.int64)
        np.save(content / "keys.npy", keys_N, allow_pickle=False)
        language = words.write(content / _WORDS)
        del words
        shape = (len(keys), num_dimensions)
        raw_ND = np.memmap(raw, dtype=np.float32, mode="r", shape=shape) if keys else np.zeros(shape, dtype=np.float32)
        form = write_vectors(raw_ND, content, on_progress)
        publish(content, num_passages=len(keys), num_dimensions=num_dimensions, vectors=form, language=language)


class FolderIndex:
    """The files of a folder as they were when it was opened, whatever is built there since; safe to use from several threads.

    Args:
        folder: What `build_folder` has written.
        description: What the index was made with.
        reader: Where texts and attributes are.

    Raises:
        ResourceError: The files are missing or damaged, or of vectors of another length.
    """

    def __init__(self, folder: Path, description: IndexDescription, reader: PassageReader) -> None:
        self.description = description
        self._reader = reader
        self._keys_N, self._vectors, self._words = open_content(folder, _open_files(description))
        self._allowed = AllowedRows(self._keys_N, reader)

    def nearest(self, query_D: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages with the most similar vectors, the most similar first; equally similar ones by key.

        Exact among `vector_files.EXACT_UP_TO` passages, and where a filter leaves as few.
        """
        if len(self._keys_N) == 0:
            return []
        rows_M, scores_M = self._vectors.nearest(query_D, k, self._allowed.of(where))
        return best_of(scores_M, self._keys_N[rows_M], k)

    def matching(self, query: str, k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages with the highest BM25 scores, equal ones by key, among those that have a telling word."""
        scores_N = self._words.scores(query)
        if scores_N is None:
            return []
        is_found_N = scores_N > 0
        allowed_N = self._allowed.of(where)
        rows_M = np.flatnonzero(is_found_N if allowed_N is None else is_found_N & allowed_N)
        return best_of(scores_N[rows_M], self._keys_N[rows_M], k)

    def share_of_words(self, query: str, key: int) -> float:
        """Which share of the query's telling words a passage has, rare words counting more; those of no passage do not count."""
        return self._words.share_of_words(query, int(np.searchsorted(self._keys_N, key)))

    def passages(self, keys: Sequence[int]) -> list[Passage]:
        """The passages of these keys, in this order, without those that were deleted since the index was opened."""
        found = self._reader.find(keys)
        return [found[key] for key in keys if key in found]

    def close(self) -> None:
        """Nothing has to be done: files are let go of with the last search."""


def _open_files(
    description: IndexDescription,
) -> Callable[[Path, Manifest], tuple[NDArray[np.int64], VectorFiles, WordFiles]]:
    def open_files(content: Path, manifest: Manifest) -> tuple[NDArray[np.int64], VectorFiles, WordFiles]:
        keys_N = np.load(content / "keys.npy", allow_pickle=False)
        vectors = VectorFiles(content, VectorForm(manifest.vectors))
        if vectors.shape != (len(keys_N), description.num_dimensions):
            raise ValueError(
                f"expected {len(keys_N)} vectors of {description.num_dimensions} dimensions, not {vectors.shape}"
            )
        words = content / _WORDS if any(name.startswith(f"{_WORDS}/") for name in manifest.files) else None
        return keys_N, vectors, WordFiles(words, manifest.language)

    return open_files
