"""An index in PostgreSQL: pgvector for vectors, its full-text search for words, shared by all servers of the store.

Words are weighed as BM25 weighs them, for PostgreSQL's own ranks know nothing of how rare a word is: recall@5 on SQuAD is 0.948 in
this way, 0.937 by its best (docs/design/023-postgres.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from fettle.errors import ResourceError
from fettle.retrieval.filters import Filter
from fettle.retrieval.index import IndexDescription
from fettle.retrieval.indexes.pgvector_large import EXACT_UP_TO, has_graph, vector_type
from fettle.retrieval.indexes.pgvector_tables import (
    index_generations,
    index_words,
    is_found,
    passage_vectors,
    passage_words,
    pgvector_version,
)
from fettle.retrieval.indexes.pgvector_words import as_tsquery, words_asked_for
from fettle.retrieval.records import Passage, Ranked
from fettle.retrieval.stored import StoredPassages
from fettle.retrieval.words import FREQUENT_COUNT, rarity, share_found
from fettle.store.database import Store
from fettle.store.tables import indexes

_NUM_COMPARED_AGAIN = 2
"""Times as many as are asked for, found in half precision, are compared in full."""
_FEWEST_LOOKED_AT, _MOST_LOOKED_AT = 100, 1_000
"""Vectors on the way through the graph (`hnsw.ef_search`); the latter is the most that pgvector takes."""
_WALKS_ON_SINCE = (0, 8)
"""Older versions of pgvector refuse a setting that they do not know, and may lead to fewer than are asked for."""

_LENGTH_COUNTS = 0.3
"""b of BM25. Tried on SQuAD: 0, 0.3, 0.4, 0.5, 0.75."""
_MOST_WEIGHED = 5_000
"""Passages whose words are weighed, unless a single word is in more."""
_MOST_WORDS = 64
"""Of a question, the rarest ones."""
_EVERY_PLACE_COUNTS = literal_column("'{1,1,1,1}'::real[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What the words of an index are weighed by."""

    generation: int
    language: str
    """Whose endings are cut off; "": of none."""
    num_passages: int
    num_words: int
    """In all passages."""


class PgVectorIndex:
    """What can be found in an index at each moment, whichever server has put it there; safe to use from several threads.

    Args:
        store: On PostgreSQL.
        description: What the index is made with, and what was in it when it was opened.
    """

    def __init__(self, store: Store, description: IndexDescription) -> None:
        self._store, self.description = store, description
        self._passages = StoredPassages(store, description.id)
        with store.reading() as connection:
            version = pgvector_version(connection) or ()
            is_large = has_graph(connection, description.id, description.num_dimensions)
        self._graph = vector_type(version, description.num_dimensions) if is_large else None
        self._walks_on = version >= _WALKS_ON_SINCE

    def nearest(self, query_D: NDArray[np.float32], k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages with the most similar vectors, the most similar first; equally similar ones by key.

        Exact among `EXACT_UP_TO` passages, and where a filter leaves as few.
        """
        if query_D.shape != (self.description.num_dimensions,):
            raise ValueError(f"expected a vector of {self.description.num_dimensions} dimensions, not {query_D.shape}")
        with self._store.snapshot() as connection:
            if self._graph is not None and not self._leaves_few(connection, where):
                found = self._nearest_by_graph(connection, self._graph, query_D, k, where)
                if len(found) == k:
                    return found
            return _ranked(connection, self._by_similarity(self._vectors_of(where), query_D, k))

    def matching(self, query: str, k: int, where: Filter | None = None) -> list[Ranked]:
        """The `k` passages whose words weigh most, equal ones by key; those that share no word with the query are left out.

        The most frequent words of the language are not looked for, unless the query has no others, and weigh half in passages that
        are found. Where the other ones are in more than `_MOST_WEIGHED` passages together, those that have the rarest of them are
        weighed, as many as are needed for `k`.

        Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond". For a word that occurs n
        times, n (k1 + 1) / (n + k1) is replaced by the sum of 1/i² up to n, of which `ts_rank` is a multiple: for k1 = 0.65 the
        same within 1 %.
        """
        with self._store.snapshot() as connection:
            state = self._state(connection)
            asked = words_asked_for(query, state.language)
            num_with = self._num_passages_with(connection, state, asked.telling)
            if not num_with:
                return []
            frequent = self._num_passages_with(connection, state, asked.frequent)
            weight_by_word = {word: rarity(state.num_passages, num) for word, num in num_with.items()}
            weight_by_word |= {word: FREQUENT_COUNT * rarity(state.num_passages, num) for word, num in frequent.items()}
            found: list[Ranked] = []
            num_sought, most = 0, _MOST_WEIGHED
            while num_sought < len(num_with) and len(found) < k:
                num_sought, most = max(num_sought + 1, _num_within(list(num_with.values()), most)), most * 10
                sought = list(num_with)[:num_sought]
                found = _ranked(connection, _by_weight(state, self._words_of(state, where), sought, weight_by_word, k))
            return found

    def share_of_words(self, query: str, key: int) -> float:
        """Which share of the query's telling words a passage has, rare words counting more; those of no passage do not count."""
        with self._store.snapshot() as connection:
            state = self._state(connection)
            num_with = self._num_passages_with(connection, state, words_asked_for(query, state.language).telling)
            wanted = select(func.tsvector_to_array(passage_words.c.words)).where(
                passage_words.c.passage_number == key, passage_words.c.language == state.language
            )
            found = connection.execute(wanted).scalar()
        rarity_by_word = {word: rarity(state.num_passages, num) for word, num in num_with.items()}
        return share_found(rarity_by_word, found or [])

    def passages(self, keys: Sequence[int]) -> list[Passage]:
        """The passages of these keys, in this order, without those that were deleted meanwhile."""
        found = self._passages.find(keys)
        return [found[key] for key in keys if key in found]

    def close(self) -> None:
        """Nothing has to be done: connections are the store's."""

    def _vectors_of(self, where: Filter | None) -> list[ColumnElement[bool]]:
        return [
            passage_vectors.c.index_id == _written_out("index", self.description.id),
            passage_vectors.c.num_dimensions == _written_out("dimensions", self.description.num_dimensions),
            is_found(passage_vectors, where),
        ]

    def _words_of(self, state: _State, where: Filter | None) -> list[ColumnElement[bool]]:
        return [
            passage_words.c.index_id == _written_out("index", self.description.id),
            passage_words.c.language == _written_out("language", state.language),
            is_found(passage_words, where),
        ]

    def _leaves_few(self, connection: Connection, where: Filter | None) -> bool:
        if where is None:
            return False
        some = select(literal(1)).select_from(passage_vectors).where(*self._vectors_of(where)).limit(EXACT_UP_TO + 1)
        return connection.execute(select(func.count()).select_from(some.subquery())).scalar_one() <= EXACT_UP_TO

    def _nearest_by_graph(
        self,
        connection: Connection,
        kind: HALFVEC | VECTOR,
        query_D: NDArray[np.float32],
        k: int,
        where: Filter | None,
    ) -> list[Ranked]:
        """As many of the nearest as the graph leads to, compared in full."""
        num_compared = _NUM_COMPARED_AGAIN * k
        num_looked_at = min(max(_FEWEST_LOOKED_AT, num_compared), _MOST_LOOKED_AT)
        connection.execute(select(func.set_config("hnsw.ef_search", str(num_looked_at), True)))
        if self._walks_on:
            connection.execute(select(func.set_config("hnsw.iterative_scan", "strict_order", True)))
        rounded = cast(passage_vectors.c.vector, kind)
        near = (
            select(passage_vectors.c.passage_number)
            .where(*self._vectors_of(where))
            .order_by(rounded.max_inner_product(query_D))
            .limit(num_compared)
        )
        numbers = connection.execute(near).scalars().all()
        return _ranked(connection, self._by_similarity([passage_vectors.c.passage_number.in_(numbers)], query_D, k))

    def _by_similarity(
        self, conditions: list[ColumnElement[bool]], query_D: NDArray[np.float32], k: int
    ) -> Select[Any, Any]:
        distance = passage_vectors.c.vector.max_inner_product(query_D)
        key = passage_vectors.c.passage_number
        return select(key, -distance).where(*conditions).order_by(distance, key).limit(k)

    def _state(self, connection: Connection) -> _State:
        """Language, passages and words of the present generation.

        Raises:
            ResourceError: It is not ready to be searched.
        """
        of_index = index_generations.c.index_id == indexes.c.id
        is_present = index_generations.c.generation == indexes.c.generation
        wanted = (
            select(*(index_generations.c[name] for name in _State.__dataclass_fields__))
            .join(indexes, of_index & is_present)
            .where(indexes.c.id == self.description.id)
        )
        state = connection.execute(wanted).first()
        if state is None:
            raise not_ready(self.description.name or self.description.id)
        return _State(**state._mapping)

    def _num_passages_with(self, connection: Connection, state: _State, stems: Sequence[str]) -> dict[str, int]:
        """In how many passages each of the words is that is in any, the rarest first."""
        if not stems:
            return {}
        wanted = (
            select(index_words.c.word, index_words.c.num_passages)
            .where(
                index_words.c.index_id == self.description.id,
                index_words.c.generation == state.generation,
                index_words.c.word.in_(stems),
            )
            .order_by(index_words.c.num_passages, index_words.c.word)
            .limit(_MOST_WORDS)
        )
        return {row.word: row.num_passages for row in connection.execute(wanted)}


def not_ready(name: str) -> ResourceError:
    """Nothing can be found in an index because what it is searched with was not made, or is gone."""
    return ResourceError(
        "what the index is searched with is not in the database",
        where=name,
        remedy="index the same documents again: nothing is embedded twice",
    )


def _by_weight(
    state: _State,
    conditions: list[ColumnElement[bool]],
    sought: Sequence[str],
    weight_by_word: Mapping[str, float],
    k: int,
) -> Select[Any, Any]:
    """Passages with at least one of the words that are sought, by the weight of all words."""
    words, key = passage_words.c.words, passage_words.c.passage_number
    weight = sum(
        (
            literal(weight) * func.ts_rank(_EVERY_PLACE_COUNTS, words, cast(as_tsquery([word]), TSQUERY))
            for word, weight in weight_by_word.items()
        ),
        start=literal(0.0),
    )
    mean_length = state.num_words / state.num_passages
    weight /= 1 - _LENGTH_COUNTS + _LENGTH_COUNTS * passage_words.c.num_words / mean_length
    has_any = words.op("@@")(cast(as_tsquery(sought), TSQUERY))
    return select(key, weight).where(*conditions, has_any).order_by(weight.desc(), key).limit(k)


def _num_within(counts: Sequence[int], most: int) -> int:
    """How many of the first counts are no more than `most` together.

    >>> _num_within([3, 4, 5], 7), _num_within([30, 4], 7)
    (2, 0)
    """
    return int(np.searchsorted(np.cumsum(counts), most, side="right"))


def _written_out(name: str, value: str | int) -> ColumnElement[object]:
    """A value that stands in the statement itself: indexes over a part of a table are used for nothing else."""
    return bindparam(name, value, literal_execute=True)


def _ranked(connection: Connection, found: Select[Any, Any]) -> list[Ranked]:
    return [Ranked(int(key), float(score)) for key, score in connection.execute(found)]
