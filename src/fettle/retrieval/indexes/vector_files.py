"""Nearest vectors over files: exact for few, by short codes for more, by a graph of neighbours for very many.

Up to `EXACT_UP_TO` rows every vector is looked at. Up to `SCANNED_UP_TO` numbers FAISS looks at a code of every vector, 4 bits for
two dimensions of it, in registers of the processor; beyond, it walks an HNSW graph whose vectors are rounded to one byte a
dimension. What either finds is compared again by half-precision vectors on disk, several times as many as are asked for. These and
the graph are read where they lie: a million vectors of 384 dimensions take 1.3 GB of disk, and no more of memory however long they
are searched.

Codes and graph are made by one thread, which makes the same of the same vectors each time.

Source: André, Kermarrec and Le Scouarnec 2017, "Accelerated Nearest Neighbor Search with Quick ADC" (codes); Malkov and Yashunin
2018, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs". What is chosen was
measured (docs/design/022-search.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import faiss

EXACT_UP_TO = 10_000
"""Rows that are compared one by one; a search takes a millisecond at most."""
SCANNED_UP_TO = 64_000_000
"""Rows times dimensions, up to which all codes are looked at: half a millisecond for 100,000 vectors of 384 dimensions."""

_NUM_BITS = 4
_NUM_SCANNED_AND_COMPARED = 4
"""Times as many as are asked for that the codes find are compared again, ..."""
_LEAST_COMPARED = 150
"""... and at least so many."""
_NUM_LINKS = 16
_NUM_LOOKED_AT_BUILDING = 100
_NUM_LOOKED_AT = 192
_NUM_WALKED_AND_COMPARED = 3
"""Times as many as are asked for that the graph leads to are compared again."""
_NUM_TRAINED_ON = 65_536
"""Vectors that codes and rounding are fitted to."""
_NUM_AT_ONCE = 8_192
_EXACT_SHARE = 0.05
"""Where a filter leaves fewer of the rows than this, looking at each of them is faster than walking past the others."""


class VectorForm(StrEnum):
    """How the vectors of a folder are searched."""

    EXACT = "exact"
    CODES = "codes"
    GRAPH = "graph"


def write_vectors(
    raw_ND: NDArray[np.float32], folder: Path, on_progress: Callable[[int], None] | None = None
) -> VectorForm:
    """Write what finds these vectors into an existing folder.

    Args:
        raw_ND: Vectors of unit length, in the order of their rows; may lie on disk.
        folder: Where `vectors.npy` and, for many, `codes.faiss` or `graph.faiss` are written.
        on_progress: Told the number of vectors that are in either.
    """
    num_rows, num_dimensions = raw_ND.shape
    form = _form_of(num_rows, num_dimensions)
    dtype = np.float32 if form is VectorForm.EXACT else np.float16
    path = folder / "vectors.npy"
    if num_rows == 0:
        np.save(path, np.zeros((0, num_dimensions), dtype=dtype), allow_pickle=False)
        return form
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": raw_ND.shape}
    with path.open("wb") as file:  # not through mapped memory, where a full disk ends the process without a word
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_rows, _NUM_AT_ONCE):
            file.write(raw_ND[start : start + _NUM_AT_ONCE].astype(dtype).tobytes())
    if form is not VectorForm.EXACT:
        _write_faiss(raw_ND, form, folder / f"{form}.faiss", on_progress)
    return form


def _form_of(num_rows: int, num_dimensions: int) -> VectorForm:
    if num_rows <= EXACT_UP_TO:
        return VectorForm.EXACT
    return VectorForm.CODES if num_rows * num_dimensions <= SCANNED_UP_TO else VectorForm.GRAPH


def _write_faiss(
    raw_ND: NDArray[np.float32], form: VectorForm, path: Path, on_progress: Callable[[int], None] | None
) -> None:
    import faiss

    num_rows, num_dimensions = raw_ND.shape
    index = _empty_codes(num_dimensions) if form is VectorForm.CODES else _empty_graph(num_dimensions)
    num_threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        sample = np.sort(np.random.default_rng(0).choice(num_rows, min(num_rows, _NUM_TRAINED_ON), replace=False))
        index.train(np.ascontiguousarray(raw_ND[sample]))
        for start in range(0, num_rows, _NUM_AT_ONCE):
            index.add(np.ascontiguousarray(raw_ND[start : start + _NUM_AT_ONCE]))
            if on_progress:
                on_progress(index.ntotal)
    finally:
        faiss.omp_set_num_threads(num_threads)
    with path.open("wb") as file:  # by Python, for FAISS does not tell that the last bytes found no room
        writer = faiss.PyCallbackIOWriter(file.write)  # pyright: ignore[reportAttributeAccessIssue] (stub)
        faiss.write_index(index, writer)


def _empty_codes(num_dimensions: int) -> Any:
    """Codes of the vectors turned at random, so that no two dimensions hold more of them than others do."""
    import faiss

    num_pairs = (num_dimensions + 1) // 2
    codes = faiss.IndexPQFastScan(2 * num_pairs, num_pairs, _NUM_BITS, faiss.METRIC_INNER_PRODUCT)
    turned = faiss.RandomRotationMatrix(num_dimensions, 2 * num_pairs)
    turned.init(0)
    return faiss.IndexPreTransform(turned, codes)


def _empty_graph(num_dimensions: int) -> Any:
    import faiss

    rounding, inner_product = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    graph = faiss.IndexHNSWSQ(num_dimensions, rounding, _NUM_LINKS, inner_product)  # pyright: ignore[reportArgumentType] (stub)
    graph.hnsw.efConstruction = _NUM_LOOKED_AT_BUILDING
    return graph


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is looked for among many vectors."""

    query_D: NDArray[np.float32]
    k: int
    allowed_N: NDArray[np.bool_] | None
    num_allowed: int

    @property
    def query_1D(self) -> NDArray[np.float32]:  # noqa: N802 (shape suffix)
        """The query as FAISS takes it."""
        return np.ascontiguousarray(self.query_D, dtype=np.float32)[None]


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
        self._form = form
        self._index: faiss.Index | None = None
        if form is not VectorForm.EXACT:
            import faiss

            self._index = faiss.read_index(str(folder / f"{form}.faiss"), faiss.IO_FLAG_MMAP_IFC)

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
        if self._index is None or num_allowed <= max(EXACT_UP_TO, int(_EXACT_SHARE * num_rows)):
            rows_M = np.arange(num_rows) if allowed_N is None else np.flatnonzero(allowed_N)
        elif self._form is VectorForm.CODES:
            rows_M = self._scanned(self._index, _Wanted(query_D, k, allowed_N, num_allowed))
        else:
            rows_M = self._walked(self._index, _Wanted(query_D, k, allowed_N, num_allowed))
        return rows_M, self._similarities(rows_M, query_D)

    def _scanned(self, codes: faiss.Index, wanted: _Wanted) -> NDArray[np.intp]:
        """The rows with the best codes. FAISS knows no filter here: more are asked for until enough of them are allowed."""
        num_rows, allowed_N = len(self._vectors_ND), wanted.allowed_N
        num_compared = min(max(_NUM_SCANNED_AND_COMPARED * wanted.k, _LEAST_COMPARED), wanted.num_allowed)
        num_asked = num_compared if allowed_N is None else int(1.5 * num_compared * num_rows / wanted.num_allowed)
        while True:
            _, rows_1M = codes.search(wanted.query_1D, min(num_asked, num_rows))
            rows_M = rows_1M[0][rows_1M[0] >= 0]  # those that are as far as can be are not told
            rows_M = rows_M if allowed_N is None else rows_M[allowed_N[rows_M]]
            if len(rows_M) >= num_compared or num_asked >= num_rows:
                return rows_M[:num_compared]
            num_asked *= 2

    def _walked(self, graph: faiss.Index, wanted: _Wanted) -> NDArray[np.intp]:
        """The rows that the graph leads to; those that may not be found are walked past."""
        import faiss

        num_rows, allowed_N = len(self._vectors_ND), wanted.allowed_N
        num_compared = min(_NUM_WALKED_AND_COMPARED * wanted.k, num_rows)
        num_looked_at = int(max(_NUM_LOOKED_AT, 2 * num_compared) * num_rows / wanted.num_allowed)
        selected: Any = None
        if allowed_N is not None:
            bits = np.packbits(allowed_N, bitorder="little")
            selected = faiss.IDSelectorBitmap(bits)  # pyright: ignore[reportCallIssue] (stub)
        parameters: Any = faiss.SearchParametersHNSW(  # pyright: ignore[reportAttributeAccessIssue] (stub)
            efSearch=num_looked_at, sel=selected
        )
        _, rows_1M = graph.search(wanted.query_1D, num_compared, params=parameters)
        return rows_1M[0][rows_1M[0] >= 0]

    def _similarities(self, rows_M: NDArray[np.intp], query_D: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(rows_M) == len(self._vectors_ND) and self._vectors_ND.dtype == np.float32:
            return self._vectors_ND @ query_D
        found_M = np.empty(len(rows_M), dtype=np.float32)
        for start in range(0, len(rows_M), _NUM_AT_ONCE):
            chosen = rows_M[start : start + _NUM_AT_ONCE]
            found_M[start : start + _NUM_AT_ONCE] = self._vectors_ND[chosen].astype(np.float32) @ query_D
        return found_M
