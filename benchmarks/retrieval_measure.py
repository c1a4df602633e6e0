"""What every engine of retrieval.py goes through: the data, the clock, recall. Needs numpy and nothing of this project.

Rows are numbered from 0; a passage's key is its row.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    searches = list(engine.searches(place, data).items())
    tried = (one for one in searches if searched(one[1], queries_QD[:_NUM_TRIED], truth_QK)[0] >= WANTED_RECALL)
    setting, search = next(tried, searches[-1])
    recall, spent = searched(search, queries_QD, truth_QK)
    measured: dict[str, float | str] = {"setting": setting, "recall": recall, **spent.figures()}
    hybrid = engine.hybrid(place, data)
    if hybrid:
        questions = data.questions()
        for number in range(20):
            hybrid(queries_QD[number], questions[number])
        spent = Spent()
        for query_D, question in zip(queries_QD, questions, strict=True):
            with spent.one():
                hybrid(query_D, question)
        measured |= {f"hybrid_{name}": value for name, value in spent.figures().items()}
    return measured | {"search_peak_mib": peak_mib()}


class Spent:
    """Milliseconds of searches: on the clock, and of processor time in all threads, which other programs change least."""

    def __init__(self) -> None:
        self._on_the_clock: list[float] = []
        self._of_the_processor: list[float] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        """Measure one search."""
        started, started_cpu = time.perf_counter(), time.process_time()
        yield
        self._of_the_processor.append(1000 * (time.process_time() - started_cpu))
        self._on_the_clock.append(1000 * (time.perf_counter() - started))

    def figures(self) -> dict[str, float]:
        """Median and 95th percentile on the clock, median of the processor's time."""
        return {
            "p50_ms": float(np.median(self._on_the_clock)),
            "p95_ms": float(np.percentile(self._on_the_clock, 95)),
            "cpu_p50_ms": float(np.median(self._of_the_processor)),
        }


def searched(search: Search, queries_QD: NDArray[np.float32], truth_QK: NDArray[np.int64]) -> tuple[float, Spent]:
    """The share of the right `K` that is found, and what each search took."""
    spent = Spent()
    num_right = 0
    for query_D, right_K in zip(queries_QD, truth_QK, strict=False):
        with spent.one():
            found = search(query_D)
        num_right += len(set(found[:K]) & set(right_K.tolist()))
    return num_right / (K * len(queries_QD)), spent


def peak_mib() -> float:
    """What this process has held at most, pages of files that it has mapped included.

    Linux counts it from the start of the program (`VmHWM`); `ru_maxrss` would have that of the process which started this one.
    """
    [kib] = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kib) / 1024


def run(engine: Engine, phase: str, data: Data, place: Path) -> None:
    """One phase in this process; prints what it took as a line of JSON."""
    print(json.dumps(measure_build(engine, data, place) if phase == "build" else measure_search(engine, data, place)))
