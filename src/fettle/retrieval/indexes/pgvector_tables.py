"""The tables of PostgreSQL in which passages are searched. They hold nothing that the store's own tables do not say, and are made
when the first index is: a database without pgvector serves everything else.

A row stands for a passage, be it found already or not: what can be found is what `index_documents` calls completed, so that an
update of the store is seen by all servers at one moment. Rows go with the passages that they stand for.
"""

from __future__ import annotations

from typing import cast

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    exists,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.exc import ProgrammingError

from fettle.errors import ConfigError
from fettle.retrieval.filters import Filter
from fettle.retrieval.indexes.pgvector_filters import as_sql
from fettle.store.database import Store
from fettle.store.indexes import DocumentStatus
from fettle.store.tables import index_documents, indexes, passages

_ID = String(64)
_WHOLE_ROWS = {"toast_tuple_target": "8160"}  # vectors lie in their rows, not beside them
_LOCK = (
    0x6665_7476  # an advisory lock: processes that make the first index together make the tables one after the other
)

metadata = MetaData()

passage_vectors = Table(
    "passage_vectors",
    metadata,
    Column("passage_number", BigInteger, ForeignKey(passages.c.number, ondelete="CASCADE"), primary_key=True),
    Column("index_id", _ID, nullable=False),
    Column("document_number", BigInteger, nullable=False),
    Column("num_dimensions", Integer, nullable=False),
    Column("vector", VECTOR, nullable=False),
    postgresql_with=_WHOLE_ROWS,
)

passage_words = Table(
    "passage_words",
    metadata,
    Column("passage_number", BigInteger, ForeignKey(passages.c.number, ondelete="CASCADE"), primary_key=True),
    Column("language", String(16), primary_key=True),  # whose endings are cut off; "": of none
    Column("index_id", _ID, nullable=False),
    Column("document_number", BigInteger, nullable=False),
    Column("num_words", Integer, nullable=False),
    Column("words", TSVECTOR, nullable=False),
    postgresql_with=_WHOLE_ROWS,
)

index_generations = Table(  # what is ready to be searched
    "index_generations",
    metadata,
    Column("index_id", _ID, ForeignKey(indexes.c.id, ondelete="CASCADE"), primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("language", String(16), nullable=False),
    Column("num_decided_on", BigInteger, nullable=False),  # passages that there were when the language was decided
    Column("num_passages", BigInteger, nullable=False),
    Column("num_words", BigInteger, nullable=False),
)

index_words = Table(
    "index_words",
    metadata,
    Column("index_id", _ID, primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("word", String, primary_key=True),
    Column("num_passages", BigInteger, nullable=False),  # that have it
    ForeignKeyConstraint(
        ["index_id", "generation"], [index_generations.c.index_id, index_generations.c.generation], ondelete="CASCADE"
    ),
)

Index("ix_passage_vectors_index_document", passage_vectors.c.index_id, passage_vectors.c.document_number)
Index("ix_passage_words_index_document", passage_words.c.index_id, passage_words.c.document_number)


def make_tables(store: Store) -> None:
    """Have the tables, and the extension that they need, where they are not there yet.

    Raises:
        ConfigError: The server has no pgvector, or the user may not create it.
    """
    with store.writing() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        if pgvector_version(connection) is None:
            _create_extension(connection)
        metadata.create_all(connection)


def have_tables(connection: Connection) -> bool:
    """Whether there has been an index in this database."""
    return inspect(connection).has_table(index_words.name)


def pgvector_version(connection: Connection) -> tuple[int, ...] | None:
    """Which pgvector the database has, such as (0, 8, 0); None: none was created in it."""
    found = connection.execute(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).scalar()
    return None if found is None else tuple(int(part) for part in cast(str, found).split("."))


def is_found(table: Table, where: Filter | None, *, documents: Table = index_documents) -> ColumnElement[bool]:
    """Whether the document of a row can be found, and fulfils a filter."""
    conditions = [documents.c.number == table.c.document_number, documents.c.status == DocumentStatus.COMPLETED.value]
    if where is not None:
        conditions.append(as_sql(where, documents.c.attributes))
    return exists().where(*conditions)


def _create_extension(connection: Connection) -> None:
    where = connection.engine.url.render_as_string(hide_password=True)
    available = text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
    if not connection.execute(available).scalar():
        raise ConfigError(
            "passages are searched with pgvector, an extension of PostgreSQL that this server does not have",
            where=where,
            remedy="install it on the server (Debian: apt-get install postgresql-17-pgvector, with your version's number), "
            "or unset FETTLE_DATABASE_URL; everything else of Fettle works without it",
        )
    try:
        connection.execute(text("CREATE EXTENSION vector"))
    except ProgrammingError as error:
        raise ConfigError(
            "passages are searched with pgvector, and this user may not create the extension",
            where=where,
            remedy="have an administrator say CREATE EXTENSION vector; once in this database",
        ) from error
