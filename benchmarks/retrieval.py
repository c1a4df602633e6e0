"""Searching 100,000 passages and a million vectors on disk: this project beside LanceDB, Chroma and exact search with numpy.

*passages*: texts of real sentences, by vector and by words; *vectors*: mixed of real ones, with noise that is spread as they are;
*uniform*: spread evenly over all directions, as no embedder's are. Every engine builds its own in a process of its own, and
searches it in further ones, in turn, with the first of its settings that finds 95 % of the ten nearest; what counts is the median
over the rounds. Chroma has its own environment.

    .venv/bin/python benchmarks/retrieval.py --shared ../shared --work /tmp/retrieval --peer-python .venv-peers/bin/python --json

What was built stays in the folder of `--work` and is not built again there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fettle.retrieval.fusion import fuse
from fettle.retrieval.index import IndexDescription
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.records import Passage, PassageSettings, SearchSettings
from retrieval_data import make_passages, make_vectors
from retrieval_measure import Data, Engine, HybridSearch, K, Search, run

COLUMNS = (
    "p50_ms",
    "p95_ms",
    "cpu_p50_ms",
    "recall",
    "hybrid_p50_ms",
    "hybrid_cpu_p50_ms",
    "search_peak_mib",
    "build_seconds",
    "build_peak_mib",
    "disk_mib",
)


@dataclass(frozen=True, slots=True)
class Batch:
    """As the store gives passages."""

    keys: range
    texts: list[str]
    vectors_ND: NDArray[np.float32]


class NothingStored:
    """Texts are not read here: what is measured is the search."""

    def find(self, keys: object) -> dict[int, Passage]:
        """None of them."""
        return {}

    def keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """No filter asks."""
        raise NotImplementedError

    def attributes(self) -> Mapping[int, Mapping[str, str | float | bool]]:
        """No filter asks."""
        raise NotImplementedError


class Fettle:
    """A folder of FAISS and bm25s files, as it comes."""

    def build(self, data: Data, place: Path) -> None:
        """Vectors and words."""
        build_folder(place, self._batches(data), num_dimensions=data.vectors_ND.shape[1])

    def searches(self, place: Path, data: Data) -> Mapping[str, Search]:
        """There is one."""
        index = self._opened(place, data)
        return {"as it comes": lambda query_D: [ranked.key for ranked in index.nearest(query_D, K)]}

    def hybrid(self, place: Path, data: Data) -> HybridSearch | None:
        """Both searches and their fusion, with as many candidates as by default."""
        if not data.has_texts:
            return None
        index, num_candidates = self._opened(place, data), SearchSettings().num_candidates

        def search(query_D: NDArray[np.float32], question: str) -> list[int]:
            nearest, matching = index.nearest(query_D, num_candidates), index.matching(question, num_candidates)
            share = index.share_of_words(question, matching[0].key) if matching else 0.0
            return [ranked.key for ranked in fuse(nearest, matching, share)[:K]]

        return search

    def _batches(self, data: Data) -> Iterator[Batch]:
        texts = data.texts() if data.has_texts else None
        for start, vectors_ND in data.batches():
            keys = range(start, start + len(vectors_ND))
            yield Batch(keys, texts[start : keys.stop] if texts else [""] * len(keys), vectors_ND)

    def _opened(self, place: Path, data: Data) -> FolderIndex:
        num_rows, num_dimensions = data.vectors_ND.shape
        described = IndexDescription(
            id="vs_benchmark",
            name=None,
            embedder="",
            embedder_revision="",
            num_dimensions=num_dimensions,
            passages=PassageSettings(),
            backend="folder",
            generation=1,
            num_documents=num_rows,
            num_passages=num_rows,
            sha256="",
        )
        return FolderIndex(place, described, NothingStored())


class Numpy:
    """Every vector compared, in memory."""

    def build(self, data: Data, place: Path) -> None:
        """A copy of the vectors."""
        np.save(place / "vectors.npy", data.vectors_ND)

    def searches(self, place: Path, data: Data) -> Mapping[str, Search]:
        """There is one."""
        vectors_ND = np.load(place / "vectors.npy")

        def search(query_D: NDArray[np.float32]) -> list[int]:
            similarities_N = vectors_ND @ query_D
            best_K = np.argpartition(-similarities_N, K)[:K]
            return best_K[np.argsort(-similarities_N[best_K])].tolist()

        return {"exact": search}

    def hybrid(self, place: Path, data: Data) -> HybridSearch | None:
        """There is none."""
        return None


class LanceDB:
    """A local table with an IVF_HNSW_SQ index, compared again by the whole vectors, and Lance's own full-text index."""

    def build(self, data: Data, place: Path) -> None:
        """As many links as this project's own graph; words as Lance cuts and stems them."""
        import lancedb
        import pyarrow as pa
        from lancedb.index import FTS, IvfHnswSq

        num_dimensions = data.vectors_ND.shape[1]
        texts = data.texts() if data.has_texts else None
        fields = [("id", pa.int64()), ("vector", pa.list_(pa.float32(), num_dimensions)), ("text", pa.string())]
        table = lancedb.connect(place).create_table("passages", schema=pa.schema(fields))
        for start, vectors_ND in data.batches():
            ids = np.arange(start, start + len(vectors_ND))
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), num_dimensions)
            said = texts[start : start + len(ids)] if texts else [""] * len(ids)
            table.add(pa.table({"id": ids, "vector": vectors, "text": said}, schema=table.schema))
        table.create_index("vector", config=IvfHnswSq(distance_type="dot", m=16, ef_construction=100))
        if texts:
            table.create_index("text", config=FTS())

    def searches(self, place: Path, data: Data) -> Mapping[str, Search]:
        """By how many parts are searched, and how many candidates are looked at in each."""
        import lancedb

        table = lancedb.connect(place).open_table("passages")

        def search_of(probes: int, width: int) -> Search:
            def search(query_D: NDArray[np.float32]) -> list[int]:
                query: Any = table.search(query_D)
                query = query.distance_type("dot").nprobes(probes).ef(width).refine_factor(3)
                return query.select(["id", "_distance"]).limit(K).to_arrow()["id"].to_pylist()

            return search

        settings = [(1, 100), (1, 200), (4, 100), (8, 100), (16, 100), (32, 200)]
        return {f"nprobes {probes}, ef {width}": search_of(probes, width) for probes, width in settings}

    def hybrid(self, place: Path, data: Data) -> HybridSearch | None:
        """Lance's own, with its reciprocal-rank fusion."""
        import lancedb

        if not data.has_texts:
            return None
        table = lancedb.connect(place).open_table("passages")

        def search(query_D: NDArray[np.float32], question: str) -> list[int]:
            query: Any = table.search(query_type="hybrid")
            query = query.vector(query_D).text(question).distance_type("dot")
            return query.select(["id"]).limit(K).to_arrow()["id"].to_pylist()

        return search


ENGINES: dict[str, type[Engine]] = {"fettle": Fettle, "lancedb": LanceDB, "numpy": Numpy}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="folder with data/rag_squad2")
    parser.add_argument("--work", type=Path, help="folder for data and indexes: 10 GB for a million vectors")
    parser.add_argument("--peer-python", type=Path, help="Python with chromadb; left out: it does not run")
    parser.add_argument(
        "--workloads", nargs="+", choices=["passages", "vectors", "uniform"], default=["passages", "vectors"]
    )
    parser.add_argument("--engines", nargs="+", choices=[*ENGINES, "chroma"], default=[*ENGINES, "chroma"])
    parser.add_argument("--rows", type=int, nargs=3, default=[100_000, 1_000_000, 100_000], metavar=("P", "V", "U"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--own-run", nargs=4, metavar=("ENGINE", "PHASE", "DATA", "PLACE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def run_once(engine: str, phase: str, data: Data, place: Path, peer_python: Path | None) -> dict[str, float | str]:
    """One phase in a process of its own."""
    if engine == "chroma":
        command = [str(peer_python), str(Path(__file__).with_name("retrieval_peer.py")), phase]
    else:
        command = [sys.executable, __file__, "--own-run", engine, phase]
    quiet = os.environ | {"LANCE_LOG": "error"}  # it warns of every search
    done = subprocess.run(
        [*command, str(data.folder), str(place)], check=False, capture_output=True, text=True, env=quiet
    )
    if done.returncode:
        sys.exit(f"{engine} {phase} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(workload: str, data: Data, arguments: argparse.Namespace) -> dict[str, dict[str, float | str]]:
    """The medians of every engine on one workload."""
    engines = [name for name in arguments.engines if name != "chroma" or arguments.peer_python]
    found: dict[str, dict[str, float | str]] = {}
    for engine in engines:
        place = data.folder / engine
        kept = data.folder / f"{engine}.build.json"
        if not kept.exists():
            print(f"{workload:9} builds {engine} ...", file=sys.stderr, flush=True)
            kept.write_text(json.dumps(run_once(engine, "build", data, place, arguments.peer_python)))
        found[engine] = json.loads(kept.read_text())
    rounds: dict[str, list[dict[str, float | str]]] = {engine: [] for engine in engines}
    for number in range(1, arguments.rounds + 1):
        for engine in engines:
            load = psutil.cpu_percent(interval=1)  # this process sleeps meanwhile
            rounds[engine].append(run_once(engine, "search", data, data.folder / engine, arguments.peer_python))
            p50 = rounds[engine][-1]["p50_ms"]
            line = f"{workload:9} round {number}  {engine:8} p50 {p50:8.3f} ms"
            print(f"{line}  (others used {load:.0f} % of the processor before it)", file=sys.stderr, flush=True)
    for engine, results in rounds.items():
        for name in results[0]:
            values = [result[name] for result in results]
            found[engine][name] = values[0] if name == "setting" else statistics.median(map(float, values))
    return found


def main() -> None:
    """Make the data, run all of them in turn and print a table."""
    arguments = parse_arguments()
    if arguments.own_run:
        engine, phase, data, place = arguments.own_run
        run(ENGINES[engine](), phase, Data(Path(data)), Path(place))
        return
    if arguments.shared is None or arguments.work is None:
        sys.exit("retrieval.py: give --shared, the folder with the data, and --work, a folder to build in")
    num_passages, num_vectors, num_uniform = arguments.rows
    found: dict[str, dict[str, dict[str, float | str]]] = {}
    for workload in arguments.workloads:
        place = arguments.work / workload
        if workload == "passages":
            data = make_passages(arguments.shared, place, num_passages)
        else:
            is_uniform = workload == "uniform"
            num_rows = num_uniform if is_uniform else num_vectors
            data = make_vectors(arguments.shared, place, num_rows, is_uniform=is_uniform)
        found[workload] = measured(workload, data, arguments)
        print(f"\n{workload}: {len(data.vectors_ND):,} rows\n{'':8}" + "".join(f"{column:>18}" for column in COLUMNS))
        for engine, figures in found[workload].items():
            cells = [f"{figures[column]:18,.3f}" if column in figures else f"{'':18}" for column in COLUMNS]
            print(f"{engine:8}" + "".join(cells) + f"  {figures['setting']}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
