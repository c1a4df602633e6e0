"""What is particular to indexes in PostgreSQL: graphs, many servers, databases that lack something."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from numpy.typing import NDArray
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url

from databases import fresh_database, skip_without_pgvector
from fettle.errors import ConfigError
from fettle.progress import SilentListener
from fettle.retrieval.backend import Generation
from fettle.retrieval.filters import Condition, Operator
from fettle.retrieval.indexes import pgvector, pgvector_backend
from fettle.retrieval.indexes.pgvector import PgVectorIndex
from fettle.retrieval.indexes.pgvector_backend import PgVectorBackend
from fettle.retrieval.indexes.registry import backend_of, open_index
from fettle.store.database import Store
from fettle.store.indexes import StoredIndex, find_index, list_documents, publish, remove_index, take_place
from fettle.store.tables import metadata
from searched import unit_vectors
from stored_indexes import Written, keys_by_document, new_index, prepare, put, stage

_NUM_DIMENSIONS = 8
_FEW, _MANY = 50, 120


@pytest.fixture
def database() -> Iterator[str]:
    with fresh_database() as url:
        if url is None:
            pytest.skip("about PostgreSQL (`make test-postgres`)")
        yield url


@pytest.fixture
def store(database: str, tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home", database)
    skip_without_pgvector(store)
    yield store
    store.close()


@pytest.fixture
def few_are_many(store: Store, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred passages are searched as a hundred thousand are, which the planner would not think worth it."""
    for module in (pgvector, pgvector_backend):
        monkeypatch.setattr(module, "EXACT_UP_TO", _FEW)
    with _administrator(database) as connection:
        for way in ("seqscan", "sort"):
            connection.execute(text(f'ALTER DATABASE "{make_url(database).database}" SET enable_{way} = off'))
    store.close()  # its next connections know


@contextmanager
def _administrator(database: str) -> Iterator[Connection]:
    engine = create_engine(make_url(database), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _documents(vectors_ND: NDArray[np.float32], prefix: str = "d") -> list[Written]:
    return [
        Written(
            id=f"{prefix}{row}",
            text=f"The {prefix} number{row} of group{row % 7}.",
            vector=vector.tolist(),
            attributes={"row": row, "half": row % 2 == 0},
        )
        for row, vector in enumerate(vectors_ND)
    ]


def _opened(store: Store, index: StoredIndex) -> PgVectorIndex:
    return PgVectorBackend().open(store, index)


def _exact(vectors_ND: NDArray[np.float32], query_D: NDArray[np.float32], rows: list[int], k: int) -> list[str]:
    similarities = vectors_ND[rows] @ query_D
    return [f"d{rows[place]}" for place in np.argsort(-similarities, kind="stable")[:k]]


def _names(store: Store, index: StoredIndex, keys: list[int]) -> list[str]:
    name_by_key = {key: name for name, key in keys_by_document(store, index).items()}
    return [name_by_key[key] for key in keys]


def _num_scans(store: Store) -> dict[str, int]:
    with store.reading() as connection:  # the one connection that there is
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
        rows = connection.execute(text("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes"))
        return {row.indexrelname: row.idx_scan for row in rows}


def test_a_large_index_is_searched_by_its_graph_and_finds_what_exact_search_finds(
    store: Store, few_are_many: None
) -> None:
    vectors_ND = unit_vectors(_MANY, _NUM_DIMENSIONS)
    index = put(store, new_index(store, num_dimensions=_NUM_DIMENSIONS), _documents(vectors_ND))
    opened = _opened(store, index)
    for query_D in unit_vectors(5, _NUM_DIMENSIONS, seed=1):
        found = opened.nearest(query_D, 10)
        assert _names(store, index, [one.key for one in found]) == _exact(vectors_ND, query_D, list(range(_MANY)), 10)
    assert _num_scans(store)[f"graph_{index.id}_{_NUM_DIMENSIONS}"] == 5
    with store.writing() as connection:  # good enough for a hundred passages
        connection.execute(text("DROP INDEX ix_passage_words_index_document"))
    assert len(opened.matching("number7", 3)) == 1
    assert _num_scans(store)[f"words_{index.id}_english"] == 1


@pytest.mark.parametrize("share", ["few", "half", "none"])
def test_a_filter_over_a_large_index_leaves_all_that_fulfil_it(store: Store, few_are_many: None, share: str) -> None:
    vectors_ND = unit_vectors(_MANY, _NUM_DIMENSIONS)
    index = put(store, new_index(store, num_dimensions=_NUM_DIMENSIONS), _documents(vectors_ND))
    where = {
        "few": Condition(key="row", operator=Operator.LESS, value=20),
        "half": Condition(key="half", operator=Operator.EQUAL, value=True),
        "none": Condition(key="row", operator=Operator.GREATER, value=1000),
    }[share]
    rows = {"few": list(range(20)), "half": list(range(0, _MANY, 2)), "none": []}[share]
    opened, query_D = _opened(store, index), unit_vectors(1, _NUM_DIMENSIONS, seed=2)[0]
    found = opened.nearest(query_D, 10, where)
    assert _names(store, index, [one.key for one in found]) == _exact(vectors_ND, query_D, rows, 10)
    matching = opened.matching("number7 group3 number8 number31", _MANY, where)
    named = set(_names(store, index, [one.key for one in matching]))
    assert named == {f"d{row}" for row in rows if row % 7 == 3 or row in (7, 8)}


def test_the_graph_grows_with_the_index_and_goes_with_it(store: Store, few_are_many: None) -> None:
    vectors_ND = unit_vectors(120, _NUM_DIMENSIONS)
    written = _documents(vectors_ND)
    index = put(store, new_index(store, num_dimensions=_NUM_DIMENSIONS), written[:60])
    index = put(store, index, written[60:])
    query_D = unit_vectors(1, _NUM_DIMENSIONS, seed=3)[0]
    found = _opened(store, index).nearest(query_D, 10)
    assert _names(store, index, [one.key for one in found]) == _exact(vectors_ND, query_D, list(range(120)), 10)
    with store.writing() as connection:
        remove_index(connection, index.id)
    PgVectorBackend().discard(store, index.id, keep=None)
    with store.reading() as connection:
        for table in ("passage_vectors", "passage_words", "index_generations", "index_words"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0
        left = text("SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%' || :index_id || '%'")
        assert connection.execute(left, {"index_id": index.id}).scalar() == 0


def test_frequent_words_alone_find_what_rare_ones_do_not_fill(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgvector, "_MOST_WEIGHED", 3)
    index = put(store, new_index(store, num_dimensions=_NUM_DIMENSIONS), _documents(unit_vectors(40, _NUM_DIMENSIONS)))
    found = _opened(store, index).matching("number7 group3", 40)
    names = _names(store, index, [one.key for one in found])
    assert names[0] == "d7"
    assert set(names[1:]) == {f"d{row}" for row in range(40) if row % 7 == 3}


def test_vectors_of_another_length_are_refused(store: Store) -> None:
    index = put(store, new_index(store), [Written(id="a", text="a", vector=(1, 0, 0, 0))])
    with pytest.raises(ValueError, match="expected a vector of 4 dimensions"):
        _opened(store, index).nearest(np.ones(3, dtype=np.float32), 1)


def test_an_index_made_anew_with_longer_vectors_takes_the_place_of_the_old_one(
    store: Store, few_are_many: None
) -> None:
    old = put(store, new_index(store), _documents(unit_vectors(60, 4)))
    made = new_index(store, num_dimensions=_NUM_DIMENSIONS, replaces=old.id)
    vectors_ND = unit_vectors(70, _NUM_DIMENSIONS)
    new = stage(store, made, _documents(vectors_ND))
    backend = PgVectorBackend()
    generation = Generation(store, old, number=old.generation + 1, kept_as=made, documents=frozenset(new))
    backend.prepare(generation, SilentListener())
    assert len(_opened(store, old).nearest(unit_vectors(1, 4)[0], 100)) == 60
    with store.writing() as connection:
        take_place(connection, made, old)
        publish(connection, old, new=new, gone=())
    backend.discard(store, old.id, keep=old.generation + 1)
    with store.reading() as connection:
        row = connection.execute(text("SELECT id, num_dimensions, generation FROM indexes")).one()
        assert tuple(row) == (old.id, _NUM_DIMENSIONS, old.generation + 1)
        names = connection.execute(text("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'graph%'")).scalars()
        assert set(names) == {f"graph_{old.id}_{_NUM_DIMENSIONS}"}
    query_D = unit_vectors(1, _NUM_DIMENSIONS, seed=4)[0]
    with store.reading() as connection:
        old = find_index(connection, old.project_id, old.id)
    found = _opened(store, old).nearest(query_D, 10)
    assert _names(store, old, [one.key for one in found]) == _exact(vectors_ND, query_D, list(range(70)), 10)


def test_another_language_is_noticed_when_an_index_has_grown(store: Store) -> None:
    english = [
        Written(id=f"e{row}", text="The house of the man is on the hill.", vector=(1, 0, 0, 0)) for row in range(3)
    ]
    german = [
        Written(id=f"g{row}", text="Das Haus und die Häuser sind nicht auf dem Berg.", vector=(0, 1, 0, 0))
        for row in range(20)
    ]
    index = put(store, new_index(store), english)
    before = _opened(store, index)
    assert len(before.matching("houses", 9)) == 3
    index = put(store, index, german)
    assert len(_opened(store, index).matching("Hause", 30)) == 20
    assert len(before.matching("Hause", 30)) == 20, "whoever opened it before sees the update as well"


def test_other_servers_see_all_of_an_update_or_nothing(store: Store, database: str, tmp_path: Path) -> None:
    """One writes generations in which every text has the same number; two others read all the while."""
    index = new_index(store)
    index = put(store, index, [Written(id=f"d{row}", text="parcel 0", vector=(1, row, 0, 0)) for row in range(6)])
    is_over, wrong = threading.Event(), list[object]()

    def read() -> None:
        other = Store(tmp_path / "home", database)
        opened = open_index(other, index)
        try:
            while not is_over.is_set():
                for keys in (opened.nearest(np.array([1, 0, 0, 0], np.float32), 20), opened.matching("parcel", 20)):
                    texts = {passage.text for passage in opened.passages([one.key for one in keys])}
                    if len(keys) != 6 or len(texts) > 1:
                        wrong.append((len(keys), texts))
        except BaseException as error:
            wrong.append(error)
        finally:
            other.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 12):
        with store.reading() as connection:
            gone = [one.number for one in list_documents(connection, index.id)]
        written = [Written(id=f"{number}-{row}", text=f"parcel {number}", vector=(1, row, 0, 0)) for row in range(6)]
        index = put(store, index, written, gone=gone)
    is_over.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_writers_of_two_indexes_do_not_hinder_each_other(
    store: Store, database: str, tmp_path: Path, few_are_many: None
) -> None:
    """The first index of a database at that: both make the tables, and both make a graph."""
    indexes = [new_index(store, num_dimensions=_NUM_DIMENSIONS) for _ in range(3)]
    failures: list[BaseException] = []

    def write(index: StoredIndex) -> None:
        other = Store(tmp_path / "home", database)
        try:
            for number in range(3):
                index = put(other, index, _documents(unit_vectors(40, _NUM_DIMENSIONS, seed=number), f"{number}-"))
            assert len(open_index(other, index).nearest(unit_vectors(1, _NUM_DIMENSIONS)[0], 200)) == 120
        except BaseException as error:
            failures.append(error)
        finally:
            other.close()

    writers = [threading.Thread(target=write, args=(index,)) for index in indexes]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []


def test_a_killed_preparation_is_gone_on_with(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pgvector_backend, "_AT_ONCE", 10)
    index = new_index(store, num_dimensions=_NUM_DIMENSIONS)
    vectors_ND = unit_vectors(45, _NUM_DIMENSIONS)
    new = stage(store, index, _documents(vectors_ND))
    write, num_batches = pgvector_backend._write_vectors, 0

    def killed_in_the_third_batch(*arguments: object) -> None:
        nonlocal num_batches
        num_batches += 1
        if num_batches == 3:
            raise KeyboardInterrupt
        write(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(pgvector_backend, "_write_vectors", killed_in_the_third_batch)
    with pytest.raises(KeyboardInterrupt):
        prepare(store, index, new=new)
    monkeypatch.setattr(pgvector_backend, "_write_vectors", write)
    prepare(store, index, new=new)
    with store.writing() as connection:
        index = publish(connection, index, new=new, gone=())
    assert len(_opened(store, index).nearest(vectors_ND[0], 100)) == 45


def test_a_server_without_pgvector_is_told_what_to_install_and_serves_the_rest(
    store: Store, database: str, tmp_path: Path
) -> None:
    name = make_url(database).database
    with _administrator(database) as connection:
        connection.execute(text("CREATE SCHEMA without"))
        connection.execute(
            text(
                "CREATE VIEW without.pg_available_extensions AS "
                "SELECT * FROM pg_catalog.pg_available_extensions WHERE name <> 'vector'"
            )
        )
        connection.execute(text(f'ALTER DATABASE "{name}" SET search_path = without, pg_catalog, public'))
    other = Store(tmp_path / "home", database)
    try:
        index = new_index(other)
        with pytest.raises(ConfigError, match="apt-get install postgresql-17-pgvector"):
            put(other, index, [])
        assert not PgVectorBackend().is_prepared(other, index)
        with other.writing() as connection:
            remove_index(connection, index.id)
        PgVectorBackend().discard(other, index.id, keep=None)
    finally:
        other.close()


def test_a_user_who_may_not_create_the_extension_is_told_what_to_ask_for(
    store: Store, database: str, tmp_path: Path
) -> None:
    url = make_url(database)
    user = f"user_{url.database}"
    with _administrator(database) as connection:
        connection.execute(text(f'CREATE ROLE "{user}" LOGIN'))
        for kind in ("TABLES", "SEQUENCES"):
            connection.execute(text(f'GRANT ALL ON ALL {kind} IN SCHEMA public TO "{user}"'))
        theirs = Store(tmp_path / "home", url.set(username=user).render_as_string(hide_password=False))
        try:
            with pytest.raises(ConfigError, match="CREATE EXTENSION vector; once in this database"):
                put(theirs, new_index(theirs), [])
        finally:
            theirs.close()
            connection.execute(text(f'DROP OWNED BY "{user}"'))
            connection.execute(text(f'DROP ROLE "{user}"'))


def test_the_stores_own_tables_are_as_they_were_and_can_be_made_anew(store: Store) -> None:
    put(store, new_index(store), [Written(id="a", text="a", vector=(1, 0, 0, 0))])
    with store.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []
    store.make_anew("0003")
    store.migrate()
    index = put(store, new_index(store), [Written(id="a", text="alpha", vector=(1, 0, 0, 0))])
    assert len(_opened(store, index).matching("alpha", 3)) == 1


def test_postgresql_is_searched_where_the_store_is(store: Store) -> None:
    assert backend_of(store) == "pgvector"
