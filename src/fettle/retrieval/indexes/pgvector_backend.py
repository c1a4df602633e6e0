"""Indexes that are searched in the PostgreSQL database in which the store is, by every server that uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
from pgvector.psycopg import register_vector
from psycopg import Connection as DriverConnection
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Table,
    any_,
    delete,
    func,
    insert,
    literal,
    select,
    text,
)

from fettle.progress import Listener, Stage
from fettle.retrieval.backend import Generation
from fettle.retrieval.indexes.pgvector import PgVectorIndex, not_ready
from fettle.retrieval.indexes.pgvector_large import EXACT_UP_TO, drop_large, make_large, vector_type
from fettle.retrieval.indexes.pgvector_tables import (
    have_tables,
    index_generations,
    index_words,
    make_tables,
    passage_vectors,
    passage_words,
    pgvector_version,
)
from fettle.retrieval.indexes.pgvector_words import as_tsvector, stems_in
from fettle.retrieval.stored import as_passage, describe_index
from fettle.retrieval.words import language_of, words_of
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex
from fettle.store.passages import StoredPassage, find_passages, hold_passages
from fettle.store.tables import indexes, passages

_STAGE = "make search files"  # as the folder calls it
_AT_ONCE = 1_000
_DECIDED_ON = 20
"""Batches of passages by which the language is decided."""
_DECIDED_AGAIN_AT = 2
"""Times as many passages as there were when the language was decided."""


class PgVectorBackend:
    """pgvector and the full-text search of PostgreSQL, in tables beside the store's own."""

    def prepare(self, generation: Generation, listener: Listener) -> None:
        """Fill in the rows that are missing, and count words. Nobody finds the rows before their documents.

        Raises:
            ConfigError: The server has no pgvector, or the user may not create it.
        """
        store, index, made_as = generation.store, generation.index, generation.kept_as
        make_tables(store)
        language, num_decided_on = _language(generation)
        num_new = _fill(generation, passage_vectors, [], _write_vectors, listener)
        _fill(generation, passage_words, [passage_words.c.language == language], _words_writer(language), listener)
        with store.writing() as connection:
            num_passages = _count_words(connection, generation, language, num_decided_on)
            if num_passages > EXACT_UP_TO:
                kind = vector_type(pgvector_version(connection) or (), made_as.num_dimensions)
                make_large(connection, index.id, kind, made_as.num_dimensions, language)
            if num_new > _AT_ONCE:  # sooner than the database itself would notice how the tables have grown
                connection.execute(text(f"ANALYZE {passage_vectors.name}, {passage_words.name}, {index_words.name}"))

    def is_prepared(self, store: Store, index: StoredIndex) -> bool:
        """Whether the rows and the counts of the present generation are there."""
        with store.reading() as connection:
            return have_tables(connection) and _find_language(connection, index.id, index.generation) is not None

    def open(self, store: Store, index: StoredIndex) -> PgVectorIndex:
        """The index, which shows the present generation at every moment.

        Raises:
            ResourceError: What it is searched with is not there.
        """
        if not self.is_prepared(store, index):
            raise not_ready(index.name or index.id)
        with store.reading() as connection:
            description = describe_index(connection, index)
        return PgVectorIndex(store, description)

    def discard(self, store: Store, index_id: str, *, keep: int | None) -> None:
        """Delete what other generations were searched with; rows of passages have gone with their passages."""
        with store.reading() as connection:
            if not have_tables(connection):
                return
        with store.writing() as connection:
            language = None if keep is None else _find_language(connection, index_id, keep)
            of_index = [index_generations.c.index_id == index_id]
            connection.execute(
                delete(index_generations).where(
                    *of_index, index_generations.c.generation != (-1 if keep is None else keep)
                )
            )
            connection.execute(
                delete(passage_words).where(
                    passage_words.c.index_id == index_id, passage_words.c.language.is_distinct_from(language)
                )
            )
            num_dimensions = connection.execute(
                select(passage_vectors.c.num_dimensions).where(passage_vectors.c.index_id == index_id).limit(1)
            ).scalar()
            drop_large(connection, index_id, num_dimensions=None if keep is None else num_dimensions, language=language)


def _language(generation: Generation) -> tuple[str, int]:
    """Whose endings are cut off the words, "" for none, and of how many passages that was decided.

    It stays as it is until there are twice as many passages: with another one, the words of all passages are cut anew.
    """
    index, made_as = generation.index, generation.kept_as
    with generation.store.reading() as connection:
        wanted = [passages.c.index_id == made_as.id, _is_one_of(passages.c.document_number, generation.documents)]
        num_passages = connection.execute(select(func.count()).select_from(passages).where(*wanted)).scalar_one()
        before = connection.execute(
            select(index_generations.c.language, index_generations.c.num_decided_on)
            .where(index_generations.c.index_id == index.id)
            .order_by(index_generations.c.generation.desc())
        ).first()
    is_same_index = made_as.id == index.id
    if before is not None and is_same_index and num_passages < _DECIDED_AGAIN_AT * before.num_decided_on:
        return before.language, before.num_decided_on
    num_by_word: Counter[str] = Counter()
    for batch in islice(generation.passages(), _DECIDED_ON):
        for some in batch.texts:
            num_by_word.update(words_of(some))
    return language_of(num_by_word) or "", num_passages


def _find_language(connection: Connection, index_id: str, generation: int) -> str | None:
    """The language of a generation that is ready; None: it is not."""
    wanted = select(index_generations.c.language).where(
        index_generations.c.index_id == index_id, index_generations.c.generation == generation
    )
    return connection.execute(wanted).scalar()


def _fill(
    generation: Generation,
    table: Table,
    conditions: list[ColumnElement[bool]],
    write: Callable[[DriverConnection, Generation, Sequence[StoredPassage]], None],
    listener: Listener,
) -> int:
    """Write the rows that a table lacks, in batches that stay after a kill; how many they are.

    Args:
        generation: Whose passages.
        table: Has a `passage_number`.
        conditions: What a row must fulfil to count.
        write: Writes the rows of some passages.
        listener: Told how many are written.
    """
    made_as = generation.kept_as
    has_row = select(literal(1)).where(table.c.passage_number == passages.c.number, *conditions).exists()
    wanted = [passages.c.index_id == made_as.id, _is_one_of(passages.c.document_number, generation.documents), ~has_row]
    with generation.store.reading() as connection:
        numbers = (
            connection.execute(select(passages.c.number).where(*wanted).order_by(passages.c.number)).scalars().all()
        )
    for start in range(0, len(numbers), _AT_ONCE):
        listener.on_stage(Stage(name=_STAGE, num_done=start, num_total=len(numbers)))
        with generation.store.writing() as connection:
            batch = numbers[start : start + _AT_ONCE]
            hold_passages(
                connection, made_as.id, batch
            )  # rows of passages that are deleted meanwhile could not be written
            some = find_passages(connection, made_as.id, batch)
            driver = connection.connection.driver_connection
            assert isinstance(driver, DriverConnection)
            write(driver, generation, list(some.values()))
    listener.on_stage(Stage(name=_STAGE, num_done=len(numbers), num_total=len(numbers)))
    return len(numbers)


def _write_vectors(driver: DriverConnection, generation: Generation, some: Sequence[StoredPassage]) -> None:
    register_vector(driver)
    index_id, num_dimensions = generation.index.id, generation.kept_as.num_dimensions
    into = "COPY passage_vectors (passage_number, index_id, document_number, num_dimensions, vector) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(f"{into} WITH (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "varchar", "int8", "int4", "vector"])
        for passage in some:
            vector_D = np.frombuffer(passage.vector or b"", dtype="<f4")
            if len(vector_D) != num_dimensions:
                raise ValueError(f"passage {passage.number} has {len(vector_D)} of {num_dimensions} dimensions")
            copy.write_row((passage.number, index_id, passage.document_number, num_dimensions, vector_D))


def _words_writer(language: str) -> Callable[[DriverConnection, Generation, Sequence[StoredPassage]], None]:
    def write(driver: DriverConnection, generation: Generation, some: Sequence[StoredPassage]) -> None:
        into = "COPY passage_words (passage_number, language, index_id, document_number, num_words, words) FROM STDIN"
        with driver.cursor() as cursor, cursor.copy(into) as copy:
            for passage in some:
                stems = stems_in(as_passage(passage).embedded_text, language)
                key = (passage.number, language, generation.index.id, passage.document_number)
                copy.write_row((*key, len(stems), as_tsvector(stems)))

    return write


def _count_words(connection: Connection, generation: Generation, language: str, num_decided_on: int) -> int:
    """Have in how many passages of a generation each word is, which says that it can be searched; how many passages it has."""
    index_id, number = generation.index.id, generation.number
    if not connection.execute(
        select(indexes.c.id).where(indexes.c.id == index_id).with_for_update(key_share=True, read=True)
    ).first():
        return 0  # deleted meanwhile, which publishing finds out
    connection.execute(
        text("CREATE TEMPORARY TABLE wanted_documents (document_number bigint PRIMARY KEY) ON COMMIT DROP")
    )
    documents = text("INSERT INTO wanted_documents SELECT unnest(CAST(:numbers AS bigint[]))")
    connection.execute(documents, {"numbers": sorted(generation.documents)})
    rows = (
        f"FROM {passage_words.name} JOIN wanted_documents USING (document_number) "
        f"WHERE index_id = '{index_id}' AND language = '{language}'"
    )
    connection.execute(
        delete(index_generations).where(
            index_generations.c.index_id == index_id, index_generations.c.generation == number
        )
    )
    num_passages, num_words = connection.execute(text(f"SELECT count(*), coalesce(sum(num_words), 0) {rows}")).one()
    connection.execute(
        insert(index_generations).values(
            index_id=index_id,
            generation=number,
            language=language,
            num_decided_on=num_decided_on,
            num_passages=num_passages,
            num_words=num_words,
        )
    )
    connection.execute(
        text(
            f"INSERT INTO {index_words.name} (index_id, generation, word, num_passages) "
            "SELECT :index_id, :generation, word, ndoc FROM ts_stat(:rows)"
        ),
        {"index_id": index_id, "generation": number, "rows": f"SELECT words {rows}"},
    )
    return num_passages


def _is_one_of(column: ColumnElement[int], numbers: frozenset[int]) -> ColumnElement[bool]:
    return column == any_(literal(sorted(numbers), ARRAY(BigInteger)))
