"""The forms in which many vectors are kept: which one it is, that it is the same each time, and that filters are kept to."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fettle.retrieval.indexes import vector_files
from fettle.retrieval.indexes.vector_files import EXACT_UP_TO, VectorFiles, VectorForm, write_vectors
from searched import unit_vectors

NUM_ROWS = EXACT_UP_TO + 500
K = 10


def written(folder: Path, vectors_ND: NDArray[np.float32]) -> VectorFiles:
    folder.mkdir()
    return VectorFiles(folder, write_vectors(vectors_ND, folder))


def unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


def best(rows_M: NDArray[np.intp], scores_M: NDArray[np.float32]) -> set[int]:
    return {int(row) for row in rows_M[np.argsort(-scores_M)[:K]]}


@pytest.mark.parametrize(
    ("num_rows", "num_dimensions", "form"),
    [(200, 8, VectorForm.EXACT), (NUM_ROWS, 8, VectorForm.CODES), (NUM_ROWS, 9, VectorForm.GRAPH)],
)
def test_the_form_depends_on_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_rows: int, num_dimensions: int, form: VectorForm
) -> None:
    monkeypatch.setattr(vector_files, "SCANNED_UP_TO", NUM_ROWS * 8)
    told: list[int] = []
    assert write_vectors(unit_vectors(num_rows, num_dimensions), tmp_path, told.append) is form
    assert told[-1:] == ([] if form is VectorForm.EXACT else [num_rows])


def test_the_same_vectors_make_the_same_files(tmp_path: Path) -> None:
    vectors_ND = unit_vectors(NUM_ROWS, 12)
    for name in "ab":
        written(tmp_path / name, vectors_ND)
    assert (tmp_path / "a" / "codes.faiss").read_bytes() == (tmp_path / "b" / "codes.faiss").read_bytes()


@pytest.mark.parametrize("num_dimensions", [1, 3, 16])
def test_no_row_is_found_twice_however_many_are_asked_for(tmp_path: Path, num_dimensions: int) -> None:
    files = written(tmp_path / "files", unit_vectors(NUM_ROWS, num_dimensions))
    for k in (1, NUM_ROWS // 2, NUM_ROWS + 5):
        rows_M, _ = files.nearest(unit_vectors(1, num_dimensions, seed=3)[0], k)
        assert rows_M.min() >= 0
        assert len(set(rows_M.tolist())) == len(rows_M)


@pytest.mark.parametrize("num_missing", [1, 5_000, 30_000])
def test_a_full_disk_is_told_wherever_writing_ends(tmp_path: Path, num_missing: int) -> None:
    vectors_ND = unit_vectors(NUM_ROWS, 16)
    (tmp_path / "whole").mkdir()
    vector_files._write_faiss(vectors_ND, VectorForm.CODES, tmp_path / "whole" / "codes.faiss", None)
    room = (tmp_path / "whole" / "codes.faiss").stat().st_size - num_missing
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            vector_files._write_faiss(vectors_ND, VectorForm.CODES, tmp_path / "codes.faiss", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("num_dimensions", [96, 127])
def test_codes_find_what_is_nearest_also_where_few_dimensions_hold_most(tmp_path: Path, num_dimensions: int) -> None:
    spread_D = (1 / np.sqrt(np.arange(1, num_dimensions + 1))).astype(np.float32)
    vectors_ND = unit(unit_vectors(NUM_ROWS, num_dimensions) * spread_D)
    queries_QD = unit(unit_vectors(30, num_dimensions, seed=1) * spread_D)
    files = written(tmp_path / "files", vectors_ND)
    num_right = 0
    for query_D in queries_QD:
        truth = np.argsort(-(vectors_ND @ query_D))[:K]
        num_right += len(best(*files.nearest(query_D, K)) & set(truth.tolist()))
    assert num_right >= 0.97 * 30 * K


@pytest.mark.parametrize("form", [VectorForm.CODES, VectorForm.GRAPH])
@pytest.mark.parametrize("side", ["any", "far"])
def test_filters_are_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: VectorForm, side: str) -> None:
    if form is VectorForm.GRAPH:
        monkeypatch.setattr(vector_files, "SCANNED_UP_TO", 0)
    vectors_ND = unit_vectors(NUM_ROWS, 64)
    files = written(tmp_path / "files", vectors_ND)
    monkeypatch.setattr(vector_files, "EXACT_UP_TO", 100)  # so that the filter does not make it exact
    num_right = 0
    for query_D in unit_vectors(10, 64, seed=2):
        similarities_N = vectors_ND @ query_D
        is_far_N = similarities_N < np.quantile(similarities_N, 0.2)
        allowed_N = is_far_N if side == "far" else np.arange(NUM_ROWS) % 5 == 0
        rows_M, scores_M = files.nearest(query_D, K, allowed_N)
        assert allowed_N[rows_M].all()
        assert len(rows_M) >= K
        truth = np.argsort(-np.where(allowed_N, similarities_N, -np.inf))[:K]
        num_right += len(best(rows_M, scores_M) & set(truth.tolist()))
    assert side == "far" or num_right >= 0.9 * 10 * K
