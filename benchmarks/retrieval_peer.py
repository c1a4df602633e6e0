"""Chroma, in an environment of its own (chromadb and numpy), for retrieval.py."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import chromadb  # pyright: ignore[reportMissingImports]

from retrieval_measure import Data, HybridSearch, K, Search, run

_NAME = "passages"
_WIDTHS = (100, 200, 400)


class Chroma:
    """A persistent client with its HNSW index; it has no ranking by words of its own on one machine."""

    def build(self, data: Data, place: Path) -> None:
        """As many links and as much looking as this project's own graph."""
        settings = {"space": "ip", "max_neighbors": 16, "ef_construction": 100, "num_threads": 1}
        collection = chromadb.PersistentClient(str(place)).create_collection(_NAME, configuration={"hnsw": settings})
        for start, vectors_ND in data.batches():
            ids = [str(row) for row in range(start, start + len(vectors_ND))]
            collection.add(ids=ids, embeddings=vectors_ND)

    def searches(self, place: Path, data: Data) -> Mapping[str, Search]:
        """By how many candidates are looked at."""
        collection = chromadb.PersistentClient(str(place)).get_collection(_NAME)

        def search_of(width: int) -> Search:
            def search(query_D) -> list[int]:
                if collection.configuration["hnsw"]["ef_search"] != width:
                    collection.modify(configuration={"hnsw": {"ef_search": width}})
                found = collection.query(query_embeddings=query_D[None], n_results=K, include=[])
                return [int(row) for row in found["ids"][0]]

            return search

        return {f"ef_search {width}": search_of(width) for width in _WIDTHS}

    def hybrid(self, place: Path, data: Data) -> HybridSearch | None:
        """There is none."""
        return None


if __name__ == "__main__":
    phase, data, place = sys.argv[1:]
    run(Chroma(), phase, Data(Path(data)), Path(place))
