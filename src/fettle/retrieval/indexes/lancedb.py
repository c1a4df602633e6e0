"""An index larger than memory: LanceDB, which reads vectors and words from disk as it needs them.

The words are cut and stemmed by `retrieval.words`, as everywhere else; Lance sees them with spaces between. Filters that leave few
passages are searched exactly among these; others are applied to what was found, and more is looked for until enough fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ConfigError
from fettle.retrieval.filters import Filter
from fettle.retrieval.index import IndexDescription
from fettle.retrieval.indexes.batches import AllowedRows, PassageBatch, PassageReader, checked_batches
from fettle.retrieval.indexes.folder_files import Manifest, new_content, open_content, publish
from fettle.retrieval.indexes.top import best_of
from fettle.retrieval.records import Passage, Ranked
from fettle.retrieval.words import FREQUENT_COUNT, AskedWords, asked_words, language_of, share_found, stems_of, words_of

if TYPE_CHECKING:
    import pyarrow as pa

_TABLE = "passages"
_EXACT_UP_TO = 10_000
_NUM_BEFORE_LANGUAGE = 5_000
"""Passages by whose words the language is told."""
_NUM_LINKS = 16
_NUM_LOOKED_AT_BUILDING = 100
_NUM_LOOKED_AT = 192
_NUM_PROBES = 40
"""Parts of the graph that are walked."""
_NUM_COMPARED_AGAIN = 5
"""Times as many as are asked for, by their whole vectors."""
_MOST_TIES = 10_000
"""That are put in the order of their keys."""


def build_lance(
    folder: Path,
    batches: Iterable[PassageBatch],
    *,
    num_dimensions: int,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """As `folder.build_folder`, in Lance's format.

    Raises:
        ConfigError: LanceDB is not installed.
        StudyConflictError: Another process is building here.
        DiskFullError: No space is left; the old files are untouched.
        ValueError: Keys do not rise, or a batch has vectors of another shape.
    """
    lancedb = _imported()
    import pyarrow as pa
    from lancedb.index import FTS, IvfHnswSq

    cut_already = FTS(
        base_tokenizer="whitespace",
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
        max_token_length=None,
    )
    graph = IvfHnswSq(distance_type="dot", m=_NUM_LINKS, ef_construction=_NUM_LOOKED_AT_BUILDING)
    fields = [("key", pa.int64()), ("vector", pa.list_(pa.float32(), num_dimensions)), ("words", pa.string())]
    with new_content(folder) as content:
        table = lancedb.connect(content).create_table(_TABLE, schema=pa.schema(fields))
        language: str | None = None
        keys: list[int] = []
        for batch, language in _with_language(checked_batches(batches, num_dimensions)):
            table.add(_rows(batch, language, table.schema))
            keys.extend(batch.keys)
            if on_progress:
                on_progress(len(keys))
        np.save(content / "keys.npy", np.array(keys, dtype=np.int64), allow_pickle=False)
        if len(keys) > _EXACT_UP_TO:
            table.create_index("vector", config=graph)
        if keys:
            table.create_index("words", config=cut_already)
        publish(
            content,
            num_passages=len(keys),
            num_dimensions=num_dimensions,
            vectors="lance",
            language=language,
            is_hashed=False,
        )


class LanceIndex:
    """What `build_lance` has written, as it was when it was opened; safe to use from several threads.

    Args:
        folder: Where it lies.
        description: What the index was made with.
        reader: Where texts and attributes are.

    Raises:
        ConfigError: LanceDB is not installed.
        ResourceError: The files are missing or damaged, or of vectors of another length.
    """

    def __init__(self, folder: Path, description: IndexDescription, reader: PassageReader) -> None:
        lancedb = _imported()
        self.description = description
        self._reader = reader

        def open_table(content: Path, manifest: Manifest) -> tuple[Any, str | None, NDArray[np.int64]]:
            if manifest.num_dimensions != description.num_dimensions:
                raise ValueError(f"expected {description.num_dimensions} dimensions, not {manifest.num_dimensions}")
            table = lancedb.connect(content).open_table(_TABLE)
            return table, manifest.language, np.load(content / "keys.npy", allow_pickle=False)

        self._table, self._language, self._keys_N = open_content(folder, open_table)
        self._allowed = AllowedRows(self._keys_N, reader)

    def nearest(self, query_D: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages with the most similar vectors, the most similar first; equally similar ones by key.

        Exact among 10,000 passages, and where a filter leaves as few.
        """

        def search(num_wanted: int, among: str | None) -> NDArray[Any]:
            num_looked_at = max(_NUM_LOOKED_AT, _NUM_COMPARED_AGAIN * num_wanted)
            query = self._table.search(query_D).distance_type("dot").nprobes(_NUM_PROBES).ef(num_looked_at)
            query = query.refine_factor(_NUM_COMPARED_AGAIN).select(["key", "_distance"]).limit(num_wanted)
            if among:
                query = query.bypass_vector_index().where(among, prefilter=True)
            found = query.to_arrow()
            return np.stack([found["key"].to_numpy(), 1 - found["_distance"].to_numpy()])

        return self._best(search, k, where)

    def matching(self, query: str, k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages with the highest BM25 scores, equal ones by key, among those that have a telling word."""
        asked = asked_words(query, self._language)
        if not asked.telling:
            return []
        wanted = _lance_query(asked)

        def search(num_wanted: int, among: str | None) -> NDArray[Any]:
            found = self._table.search(wanted, query_type="fts").select(["key", "_score"]).limit(num_wanted)
            if among:
                found = found.where(among, prefilter=True)
            table = found.to_arrow()
            return np.stack([table["key"].to_numpy(), table["_score"].to_numpy()])

        return self._best(search, k, where)

    def share_of_words(self, query: str, key: int) -> float:
        """Which share of the query's telling words a passage has, rare words counting more; those of no passage do not count.

        Lance does not say in how many passages a word is. The score of the passage that it fits best is about as telling.
        """
        rarity_by_word: dict[str, float] = {}
        for word in asked_words(query, self._language).telling:
            best = self._table.search(word, query_type="fts").select(["_score"]).limit(1).to_arrow()
            rarity_by_word[word] = sum(best["_score"].to_pylist())  # 0 where no passage has it
        row = self._table.search().where(f"key = {key}").select(["words"]).limit(1).to_arrow()
        return share_found(rarity_by_word, " ".join(row["words"].to_pylist()).split(" "))

    def passages(self, keys: Sequence[int]) -> list[Passage]:
        """The passages of these keys, in this order, without those that were deleted since the index was opened."""
        found = self._reader.find(keys)
        return [found[key] for key in keys if key in found]

    def close(self) -> None:
        """Nothing has to be done: files are let go of with the last search."""

    def _best(self, search: Callable[[int, str | None], NDArray[Any]], k: int, where: Filter | None) -> list[Ranked]:
        """The best `k` that fit.

        Args:
            search: The keys and scores, [2, M], of at most so many passages, among those that a condition in Lance's terms lets
                through (None: all).
            k: How many.
            where: What has to be fulfilled.
        """
        allowed_N = self._allowed.of(where)
        if len(self._keys_N) == 0:
            return []
        if allowed_N is None:
            return _with_ties(lambda num_wanted: search(num_wanted, None), k)
        allowed_M = self._keys_N[allowed_N]
        if len(allowed_M) == 0:
            return []
        if len(allowed_M) <= _EXACT_UP_TO:
            among = f"key IN ({', '.join(map(str, allowed_M.tolist()))})"
            return _with_ties(lambda num_wanted: search(num_wanted, among), k)
        return _with_ties(lambda num_wanted: search(num_wanted, None), k, allowed_M)


def _lance_query(asked: AskedWords) -> Any:
    """Passages with a word that tells; the frequent ones count less."""
    from lancedb import query

    match_query: Any = query.MatchQuery  # a dataclass of pydantic, whose defaults pyright does not see
    telling = match_query(" ".join(asked.telling), "words")
    if not asked.frequent:
        return telling
    frequent = match_query(" ".join(asked.frequent), "words", boost=FREQUENT_COUNT)
    return query.BooleanQuery([(query.Occur.MUST, telling), (query.Occur.SHOULD, frequent)])


def _with_ties(
    search: Callable[[int], NDArray[Any]], k: int, allowed_M: NDArray[np.int64] | None = None
) -> list[Ranked]:
    """The best `k`. Of equally good ones Lance gives any, so more are asked for until one is worse, or none is left.

    Args:
        search: The keys and scores, [2, M], of the best so many.
        k: How many.
        allowed_M: Keys that count; None: all.
    """
    num_wanted = k + 1
    while True:
        found_2M = search(num_wanted)
        fitting_2M = found_2M if allowed_M is None else found_2M[:, np.isin(found_2M[0], allowed_M)]
        ranked = _ranked(fitting_2M, k)
        if found_2M.shape[1] < num_wanted:
            return ranked
        if len(ranked) == k and (num_wanted > _MOST_TIES or _worst(found_2M) < ranked[-1].score):
            return ranked
        num_wanted *= 4


def _worst(found_2M: NDArray[Any]) -> float:
    return _ranked(found_2M, found_2M.shape[1])[-1].score


def _ranked(found_2M: NDArray[Any], k: int) -> list[Ranked]:
    return best_of(found_2M[1].astype(np.float32), found_2M[0].astype(np.int64), k)


def _with_language(batches: Iterable[PassageBatch]) -> Iterator[tuple[PassageBatch, str | None]]:
    """The batches, each with the language of the first few."""
    waiting: list[PassageBatch] = []
    num_by_word: Counter[str] = Counter()
    language: str | None = None
    is_told = False
    for batch in batches:
        if is_told:
            yield batch, language
            continue
        waiting.append(batch)
        num_by_word.update(word for text in batch.texts for word in words_of(text))
        is_told = sum(len(one.keys) for one in waiting) >= _NUM_BEFORE_LANGUAGE
        if is_told:
            language = language_of(num_by_word)
            yield from ((one, language) for one in waiting)
    if not is_told:
        yield from ((one, language_of(num_by_word)) for one in waiting)


def _rows(batch: PassageBatch, language: str | None, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    vectors_ND = np.ascontiguousarray(batch.vectors_ND, dtype=np.float32)
    columns = {
        "key": pa.array(batch.keys, pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), vectors_ND.shape[1]),
        "words": pa.array([" ".join(stems_of(words_of(text), language)) for text in batch.texts]),
    }
    return pa.table(columns, schema=schema)


def _imported() -> Any:
    if find_spec("lancedb") is None:
        raise ConfigError(
            "LanceDB is not installed",
            where="backend lancedb",
            remedy="pip install 'fettle-llm[lancedb]', or use the backend folder",
        )
    import lancedb

    return lancedb
