"""What each way of searching finds: recall, reciprocal rank and nDCG with 95 % intervals, of SQuAD's paragraphs or another set.

Of SQuAD, questions count that the paragraph they were asked about answers; it is the only right document. Documents are cut as
`fettle index` cuts them. Intervals are for other questions about other paragraphs of such articles: questions about one paragraph
go together. Other sets are made by `retrieval_sets.py`.

    .venv/bin/python benchmarks/retrieval_quality.py --shared ../shared --split test --json
    .venv/bin/python benchmarks/retrieval_quality.py --data sets/boolq --split all

Choices are made on train and valid, never on test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.records import Interval
from fettle.retrieval.documents import read_documents
from fettle.retrieval.embedder import MiniLMEmbedder
from fettle.retrieval.index import IndexDescription
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.measures import documents_of, measure
from fettle.retrieval.passages import cut
from fettle.retrieval.records import AttributeValue, Document, Passage, PassageSettings, SearchMethod, SearchSettings
from fettle.retrieval.rerankers.late_interaction import LateInteraction
from fettle.retrieval.search import IndexSearch
from fettle.statistics.intervals import mean_interval

_NUM_FOUND = 20
_MEASURES = {"recall@1": 1, "recall@5": 5, "recall@20": 20, "mrr@20": 20, "ndcg@10": 10}


@dataclass(frozen=True, slots=True)
class Batch:
    """As the store gives passages."""

    keys: Sequence[int]
    texts: Sequence[str]
    vectors_ND: NDArray[np.float32]


class Passages:
    """As the store knows them."""

    def __init__(self, by_key: dict[int, Passage]) -> None:
        self.by_key = by_key

    def find(self, keys: Sequence[int]) -> dict[int, Passage]:
        """All of these keys."""
        return {key: self.by_key[key] for key in keys}

    def keys(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """No filter asks."""
        raise NotImplementedError

    def attributes(self) -> dict[int, dict[str, AttributeValue]]:
        """No filter asks."""
        raise NotImplementedError


class RememberingEmbedder(MiniLMEmbedder):
    """Computes the token vectors of each text once: many questions have the same candidates."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens_by_text: dict[str, NDArray[np.float32]] = {}

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """As that of the class above."""
        unseen = list(dict.fromkeys(text for text in texts if text not in self._tokens_by_text))
        if unseen:
            self._tokens_by_text.update(zip(unseen, super().embed_tokens(unseen), strict=True))
        return [self._tokens_by_text[text] for text in texts]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--shared", type=Path, help="folder with data/rag_squad2")
    place.add_argument("--data", type=Path, help="folder with docs.jsonl and questions.jsonl")
    parser.add_argument("--split", choices=["train", "valid", "test", "all"], default="test")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    return parser.parse_args()


def index_of(documents: Path, embedder: MiniLMEmbedder, folder: Path) -> FolderIndex:
    """All documents, cut, embedded and searchable."""
    settings = PassageSettings()
    read = [one for one in read_documents(str(documents)) if isinstance(one, Document)]
    passages = [passage for document in read for passage in cut(document, settings, embedder.count_tokens)]
    texts = [passage.embedded_text for passage in passages]
    build_folder(
        folder, [Batch(range(len(texts)), texts, embedder.embed(texts))], num_dimensions=embedder.num_dimensions
    )
    described = IndexDescription(
        id="vs_benchmark",
        name=None,
        embedder=embedder.name,
        embedder_revision=embedder.revision,
        num_dimensions=embedder.num_dimensions,
        passages=settings,
        backend="folder",
        generation=1,
        num_documents=len(read),
        num_passages=len(passages),
        sha256="",
    )
    return FolderIndex(folder, described, Passages(dict(enumerate(passages))))


def measured(search: IndexSearch, asked: Sequence[dict[str, object]]) -> dict[str, Interval]:
    """The means over all questions."""
    found = search.search_all([str(row["question"]) for row in asked])
    right = [tuple(map(str, row["doc_ids"])) for row in asked]  # pyright: ignore[reportArgumentType] (a list of texts)
    number_by_document = {ids: number for number, ids in enumerate(dict.fromkeys(right))}
    clusters = [number_by_document[ids] for ids in right]
    means: dict[str, Interval] = {}
    for name, k in _MEASURES.items():
        all_measures = [measure(documents_of(one), ids, k=k) for one, ids in zip(found, right, strict=True)]
        values = {
            "recall": [one.recall for one in all_measures],
            "mrr": [one.reciprocal_rank for one in all_measures],
            "ndcg": [min(one.ndcg, 1.0) for one in all_measures],
        }[name.partition("@")[0]]
        means[name] = mean_interval(values, clusters)
    return means


def _shown(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f}-{100 * interval.high:.1f})"


def main() -> None:
    """Search in every way and print a table."""
    arguments = parse_arguments()
    data = arguments.data or arguments.shared / "data" / "rag_squad2"
    rows = [json.loads(line) for line in (data / "questions.jsonl").open()]
    asked = [row for row in rows if row["split"] == arguments.split and row["answerable"]]
    embedder = RememberingEmbedder()
    results: dict[str, dict[str, Interval]] = {}
    with tempfile.TemporaryDirectory() as folder:
        index = index_of(data / "docs.jsonl", embedder, Path(folder))
        size = f"{index.description.num_passages} passages of {index.description.num_documents} documents"
        print(f"{len(asked)} questions of {arguments.split}, {size}")
        print(f"{'':12}" + "".join(f"{name:>24}" for name in _MEASURES))
        for name in [*SearchMethod, "reranked"]:
            method = SearchMethod.HYBRID if name == "reranked" else SearchMethod(name)
            reranker = LateInteraction(embedder) if name == "reranked" else None
            settings = SearchSettings(method=method, num_passages=_NUM_FOUND)
            results[name] = measured(IndexSearch(index, embedder, settings, reranker=reranker), asked)
            cells = [f"{_shown(one):>24}" for one in results[name].values()]
            print(f"{name:12}" + "".join(cells), flush=True)
    if arguments.json:
        print(
            json.dumps(
                {
                    name: {key: [one.estimate, one.low, one.high] for key, one in means.items()}
                    for name, means in results.items()
                }
            )
        )


if __name__ == "__main__":
    main()
