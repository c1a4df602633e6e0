"""What every engine of retrieval.py goes through: the data, the clock, recall. Needs numpy and nothing of this project.

Rows are numbered from 0; a passage's key is its row.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

K = 10
WANTED_RECALL = 0.95
_NUM_TRIED = 200
"""Questions that a setting of an engine is tried on."""
_NUM_AT_ONCE = 5_000

Search = Callable[[NDArray[np.float32]], list[int]]
HybridSearch = Callable[[NDArray[np.float32], str], list[int]]


@dataclass(frozen=True, slots=True)
class Data:
    """What is searched, in a folder."""

    folder: Path

    @property
    def vectors_ND(self) -> NDArray[np.float32]:  # noqa: N802 (shape suffix)
        """Of unit length, on disk."""
        return np.load(self.folder / "vectors.npy", mmap_mode="r")

    @property
    def queries_QD(self) -> NDArray[np.float32]:  # noqa: N802 (shape suffix)
        """Of unit length."""
        return np.load(self.folder / "queries.npy")

    @property
    def truth_QK(self) -> NDArray[np.int64]:  # noqa: N802 (shape suffix)
        """The `K` most similar rows of each query."""
        return np.load(self.folder / "truth.npy")

    @property
    def has_texts(self) -> bool:
        """Whether there are words to search."""
        return (self.folder / "texts.json").exists()

    def texts(self) -> list[str]:
        """One a row."""
        return json.loads((self.folder / "texts.json").read_text())

    def questions(self) -> list[str]:
        """One a query."""
        return json.loads((self.folder / "questions.json").read_text())

    def batches(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The rows in order: the first one's number and their vectors."""
        vectors_ND = self.vectors_ND
        for start in range(0, len(vectors_ND), _NUM_AT_ONCE):
            yield start, np.array(vectors_ND[start : start + _NUM_AT_ONCE])


class Engine(Protocol):
    """One of what is compared."""

    def build(self, data: Data, place: Path) -> None:
        """Write all that a search needs into a folder."""
        ...

    def searches(self, place: Path, data: Data) -> Mapping[str, Search]:
        """Ways to search by vector by what they set, the fastest first; the first that finds enough is measured."""
        ...

    def hybrid(self, place: Path, data: Data) -> HybridSearch | None:
        """The search by vector and words; None where there is none."""
        ...


def measure_build(engine: Engine, data: Data, place: Path) -> dict[str, float]:
    """Seconds, peak memory and bytes on disk of building."""
    place.mkdir(parents=True)
    started = time.perf_counter()
    engine.build(data, place)
    seconds = time.perf_counter() - started
    num_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return {"build_seconds": seconds, "build_peak_mib": peak_mib(), "disk_mib": num_bytes / 2**20}


def measure_search(engine: Engine, data: Data, place: Path) -> dict[str, float | str]:
    """Milliseconds of one search after another, in this process and warm, recall, and peak memory."""
    queries_QD, truth_QK = data.queries_QD, data.truth_QK
    measured: dict[str, float | str] = {}
    for setting, search in engine.searches(place, data).items():
        recall, _ = timed(search, queries_QD[:_NUM_TRIED], truth_QK)
        measured = {"setting": setting}
        if recall >= WANTED_RECALL:
            break
    recall, milliseconds = timed(search, queries_QD, truth_QK)
    measured |= {"recall": recall} | percentiles(milliseconds)
    hybrid = engine.hybrid(place, data)
    if hybrid:
        questions = data.questions()
        for number in range(20):
            hybrid(queries_QD[number], questions[number])
        spent: list[float] = []
        for query_D, question in zip(queries_QD, questions, strict=True):
            started = time.perf_counter()
            hybrid(query_D, question)
            spent.append(1000 * (time.perf_counter() - started))
        measured |= {f"hybrid_{name}": value for name, value in percentiles(spent).items()}
    return measured | {"search_peak_mib": peak_mib()}


def timed(search: Search, queries_QD: NDArray[np.float32], truth_QK: NDArray[np.int64]) -> tuple[float, list[float]]:
    """Recall of the right `K`, and the milliseconds of each search."""
    spent: list[float] = []
    num_right = 0
    for query_D, right_K in zip(queries_QD, truth_QK, strict=False):
        started = time.perf_counter()
        found = search(query_D)
        spent.append(1000 * (time.perf_counter() - started))
        num_right += len(set(found[:K]) & set(right_K.tolist()))
    return num_right / (K * len(spent)), spent


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"p50_ms": float(np.median(milliseconds)), "p95_ms": float(np.percentile(milliseconds, 95))}


def peak_mib() -> float:
    """What this process has held at most, pages of files that it has mapped included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(engine: Engine, phase: str, data: Data, place: Path) -> None:
    """One phase in this process; prints what it took as a line of JSON."""
    print(json.dumps(measure_build(engine, data, place) if phase == "build" else measure_search(engine, data, place)))
