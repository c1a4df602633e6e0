"""What a large index has of its own in PostgreSQL: a graph of its vectors (HNSW) and an inverted list of its words (GIN).

Each covers the rows of one index and no others: neighbours of other indexes do not crowd the graph, and a word that is frequent
elsewhere costs nothing here. Small indexes are searched row by row, exactly.

Source: Malkov and Yashunin 2018, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs", as pgvector has it.
"""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import Connection, func, select, text

from fettle.retrieval.indexes.pgvector_tables import passage_vectors, passage_words

EXACT_UP_TO = 10_000
"""Passages that are compared one by one."""

_HALF_SINCE, _HALF_MOST_DIMENSIONS = (0, 7), 4_000
_GRAPH_SINCE, _GRAPH_MOST_DIMENSIONS = (0, 5), 2_000
_NUM_LOOKED_AT_BUILDING = 100
_BUILT_WITHIN = "512MB"  # beyond, building goes on, several times slower


def vector_type(version: tuple[int, ...], num_dimensions: int) -> HALFVEC | VECTOR | None:
    """As what vectors stand in a graph: in half precision where pgvector has it; None: they are too long, or it has no graphs.

    >>> vector_type((0, 8, 0), 384).get_col_spec(), vector_type((0, 6, 1), 384).get_col_spec(), vector_type((0, 6, 1), 3072)
    ('HALFVEC(384)', 'VECTOR(384)', None)
    """
    if version >= _HALF_SINCE and num_dimensions <= _HALF_MOST_DIMENSIONS:
        return HALFVEC(num_dimensions)
    if version >= _GRAPH_SINCE and num_dimensions <= _GRAPH_MOST_DIMENSIONS:
        return VECTOR(num_dimensions)
    return None


def has_graph(connection: Connection, index_id: str, num_dimensions: int) -> bool:
    """Whether there is a graph of these vectors."""
    return _graph_name(index_id, num_dimensions) in _names(connection, index_id)


def make_large(
    connection: Connection, index_id: str, kind: HALFVEC | VECTOR | None, num_dimensions: int, language: str
) -> None:
    """Make what a large index is searched with, where it is not there yet.

    Whoever changes an index waits until it is done; whoever searches does not. One process builds: the memory that several would
    share is 64 MB in a container, unless somebody has thought of it.

    Args:
        connection: In a transaction.
        index_id: Which index.
        kind: What `vector_type` says; None: its vectors have no graph.
        num_dimensions: Of its vectors.
        language: Of its words.
    """
    known = _names(connection, index_id)
    if kind is not None and (name := _graph_name(index_id, num_dimensions)) not in known:
        connection.execute(select(func.set_config("max_parallel_maintenance_workers", "0", True)))
        connection.execute(select(func.set_config("maintenance_work_mem", _BUILT_WITHIN, True)))
        spec = kind.get_col_spec()
        operators = "halfvec_ip_ops" if isinstance(kind, HALFVEC) else "vector_ip_ops"
        connection.execute(
            text(
                f'CREATE INDEX "{name}" ON {passage_vectors.name} USING hnsw ((CAST(vector AS {spec})) {operators}) '
                f"WITH (ef_construction = {_NUM_LOOKED_AT_BUILDING}) "
                f"WHERE index_id = '{index_id}' AND num_dimensions = {num_dimensions}"
            )
        )
    if (name := _words_name(index_id, language)) not in known:
        connection.execute(
            text(
                f'CREATE INDEX "{name}" ON {passage_words.name} USING gin (words) '
                f"WHERE index_id = '{index_id}' AND language = '{language}'"
            )
        )


def drop_large(connection: Connection, index_id: str, *, num_dimensions: int | None, language: str | None) -> None:
    """Drop what an index has of its own, but for vectors of these dimensions and words of this language; None: these, too."""
    kept = {
        _graph_name(index_id, num_dimensions) if num_dimensions is not None else None,
        _words_name(index_id, language) if language is not None else None,
    }
    for name in _names(connection, index_id) - kept:
        connection.execute(text(f'DROP INDEX IF EXISTS "{name}"'))


def _graph_name(index_id: str, num_dimensions: int) -> str:
    return f"graph_{index_id}_{num_dimensions}"


def _words_name(index_id: str, language: str) -> str:
    return f"words_{index_id}_{language}"


def _names(connection: Connection, index_id: str) -> set[str]:
    tables = (passage_vectors.name, passage_words.name)
    wanted = text(
        "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ANY(:tables) "
        "AND (starts_with(indexname, :graph) OR starts_with(indexname, :words))"
    )
    named = {"tables": list(tables), "graph": f"graph_{index_id}_", "words": f"words_{index_id}_"}
    return set(connection.execute(wanted, named).scalars())
