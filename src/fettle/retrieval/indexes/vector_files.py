"""Nearest vectors over files: exact for few, by a graph of neighbours for many.

Up to `EXACT_UP_TO` rows every vector is looked at. Beyond, FAISS walks an HNSW graph whose vectors are rounded to one byte a
dimension, and three times as many as are asked for are compared again by their half-precision vectors on disk. Both files are
read where they lie: a million vectors of 384 dimensions take 1.3 GB of disk, and no more of memory however long they are searched.

The graph is built by one thread, which makes the same graph of the same vectors each time.

Source: Malkov and Yashunin 2018, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs"; M, efConstruction and efSearch were chosen by measurement (docs/design/022-search.md).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import faiss

EXACT_UP_TO = 10_000
"""Rows that are compared one by one; a search takes a millisecond at most."""

_NUM_LINKS = 16
_NUM_LOOKED_AT_BUILDING = 100
_NUM_LOOKED_AT = 192
_NUM_COMPARED_AGAIN = 3
"""Times as many as are asked for."""
_NUM_TRAINED_ON = 65_536
"""Vectors whose range the rounding is fitted to."""
_NUM_AT_ONCE = 8_192
_EXACT_SHARE = 0.05
"""Where a filter leaves fewer of the rows than this, looking at each of them is faster than walking past the others."""


class VectorForm(StrEnum):
    """How the vectors of a folder are searched."""

    EXACT = "exact"
    GRAPH = "graph"


def write_vectors(
    raw_ND: NDArray[np.float32], folder: Path, on_progress: Callable[[int], None] | None = None
) -> VectorForm:
    """Write what finds these vectors into an existing folder.

    Args:
        raw_ND: Vectors of unit length, in the order of their rows; may lie on disk.
        folder: Where `vectors.npy` and, for many, `graph.faiss` are written.
        on_progress: Told the number of vectors that are in the graph.
    """
    num_rows, num_dimensions = raw_ND.shape
    form = VectorForm.EXACT if num_rows <= EXACT_UP_TO else VectorForm.GRAPH
    dtype = np.float32 if form is VectorForm.EXACT else np.float16
    path = folder / "vectors.npy"
    if num_rows == 0:
        np.save(path, np.zeros((0, num_dimensions), dtype=dtype), allow_pickle=False)
        return form
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": raw_ND.shape}
    with path.open(
        "wb"
    ) as file:  # not through mapped memory: where the disk is full, that ends the process without a word
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_rows, _NUM_AT_ONCE):
            file.write(raw_ND[start : start + _NUM_AT_ONCE].astype(dtype).tobytes())
    if form is VectorForm.GRAPH:
        _write_graph(raw_ND, folder / "graph.faiss", on_progress)
    return form


def _write_graph(raw_ND: NDArray[np.float32], path: Path, on_progress: Callable[[int], None] | None) -> None:
    import faiss

    num_rows, num_dimensions = raw_ND.shape
    rounding = faiss.ScalarQuantizer.QT_8bit
    inner_product = faiss.METRIC_INNER_PRODUCT
    graph = faiss.IndexHNSWSQ(num_dimensions, rounding, _NUM_LINKS, inner_product)  # pyright: ignore[reportArgumentType] (stub)
    graph.hnsw.efConstruction = _NUM_LOOKED_AT_BUILDING
    num_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        sample = np.sort(np.random.default_rng(0).choice(num_rows, min(num_rows, _NUM_TRAINED_ON), replace=False))
        graph.train(np.ascontiguousarray(raw_ND[sample]))
        for start in range(0, num_rows, _NUM_AT_ONCE):
            graph.add(np.ascontiguousarray(raw_ND[start : start + _NUM_AT_ONCE]))
            if on_progress:
                on_progress(graph.ntotal)
    finally:
        faiss.omp_set_num_threads(num_threads)
    faiss.write_index(graph, str(path))


class VectorFiles:
    """The files of a folder, searched; safe to use from several threads.

    Args:
        folder: What `write_vectors` has written.
        form: What it returned.

    Raises:
        ValueError, OSError, RuntimeError: The files are damaged.
    """

    def __init__(self, folder: Path, form: VectorForm) -> None:
        in_memory = form is VectorForm.EXACT
        self._vectors_ND = np.load(folder / "vectors.npy", allow_pickle=False, mmap_mode=None if in_memory else "r")
        self._graph: faiss.Index | None = None
        if form is VectorForm.GRAPH:
            import faiss

            self._graph = faiss.read_index(str(folder / "graph.faiss"), faiss.IO_FLAG_MMAP_IFC)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self._vectors_ND.shape

    def nearest(
        self, query_D: NDArray[np.float32], k: int, allowed_N: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Rows that have the `k` most similar vectors among them, in no order, with their cosine similarities.

        Args:
            query_D: Of unit length.
            k: How many, at least 1.
            allowed_N: Which rows may be found; None: all.
        """
        num_rows = len(self._vectors_ND)
        num_allowed = num_rows if allowed_N is None else int(np.count_nonzero(allowed_N))
        if self._graph is None or num_allowed <= max(EXACT_UP_TO, int(_EXACT_SHARE * num_rows)):
            rows_M = np.arange(num_rows) if allowed_N is None else np.flatnonzero(allowed_N)
            return rows_M, self._similarities(rows_M, query_D)
        rows_M = self._walked(query_D, k, allowed_N, num_allowed / num_rows)
        return rows_M, self._similarities(rows_M, query_D)

    def _walked(
        self, query_D: NDArray[np.float32], k: int, allowed_N: NDArray[np.bool_] | None, share: float
    ) -> NDArray[np.intp]:
        import faiss

        assert self._graph is not None
        num_compared = min(_NUM_COMPARED_AGAIN * k, len(self._vectors_ND))
        num_looked_at = int(
            max(_NUM_LOOKED_AT, 2 * num_compared) / share
        )  # those that may not be found are walked past
        selected: Any = None
        if allowed_N is not None:
            bits = np.packbits(allowed_N, bitorder="little")
            selected = faiss.IDSelectorBitmap(bits)  # pyright: ignore[reportCallIssue] (stub)
        parameters: Any = faiss.SearchParametersHNSW(  # pyright: ignore[reportAttributeAccessIssue] (stub)
            efSearch=num_looked_at, sel=selected
        )
        query_1D = np.ascontiguousarray(query_D, dtype=np.float32)[None]
        _, rows_1M = self._graph.search(query_1D, num_compared, params=parameters)
        return rows_1M[0][rows_1M[0] >= 0]

    def _similarities(self, rows_M: NDArray[np.intp], query_D: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(rows_M) == len(self._vectors_ND) and self._vectors_ND.dtype == np.float32:
            return self._vectors_ND @ query_D
        found_M = np.empty(len(rows_M), dtype=np.float32)
        for start in range(0, len(rows_M), _NUM_AT_ONCE):
            chosen = rows_M[start : start + _NUM_AT_ONCE]
            found_M[start : start + _NUM_AT_ONCE] = self._vectors_ND[chosen].astype(np.float32) @ query_D
        return found_M
