"""The database: made by its migrations, refused where it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select

from fettle.errors import ConfigError, ResourceError
from fettle.store.database import Store, epoch_now, now
from fettle.store.keys import DEFAULT_PROJECT, ensure_project
from fettle.store.tables import metadata, projects


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_databases_clock_is_this_machines(store: Store) -> None:
    with store.reading() as connection:
        assert abs(float(connection.execute(select(epoch_now())).scalar_one()) - now()) < 2


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            Store(tmp_path / "home").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_opening_waits_for_one_that_holds_a_database_which_does_not_write_ahead_yet(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    other = sqlite3.connect(home / "fettle.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE held (id INTEGER)")
    other.execute("BEGIN IMMEDIATE")  # SQLite itself refuses to change the journal at once then, without waiting
    letting_go = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
    letting_go.start()
    Store(home).close()
    letting_go.join()
    other.close()


def test_writers_wait_for_each_other_instead_of_failing(store: Store) -> None:
    def write(number: int) -> None:
        with store.writing() as connection:
            connection.execute(select(projects)).all()  # one that had begun by reading could not go on to write
            connection.execute(insert(projects).values(id=f"proj_{number}", name=f"{number}", created_at=1))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as connection:
        assert len(connection.execute(select(projects)).all()) == 12


@pytest.mark.parametrize("url", ["mysql://host/name", "nonsense", "postgresql+nothing://host/name"])
def test_a_url_of_no_database_that_is_supported_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Store(tmp_path, url)
    assert caught.value.where == "FETTLE_DATABASE_URL"


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        Store(tmp_path, "postgresql://somebody:secret-word@127.0.0.1:9/fettle")
    assert "127.0.0.1" in caught.value.describe()
    assert "secret-word" not in caught.value.describe()


def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "fettle.sqlite").write_bytes(b"this is no database, but long enough to be taken for one" * 30)
    with pytest.raises(ResourceError, match="damaged"):
        Store(tmp_path)


@pytest.mark.skipif(os.environ.get("FETTLE_TEST_DATABASE_URL") is not None, reason="about SQLite")
def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(ConfigError, match="newer version"):
        Store(tmp_path)


_KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from fettle.store.database import Store

left = int(sys.argv[2])

@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *rest):
    global left
    left -= statement.lstrip().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE"))
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Store(Path(sys.argv[1]))
"""


@pytest.mark.skipif(os.environ.get("FETTLE_TEST_DATABASE_URL") is not None, reason="about SQLite")
@pytest.mark.parametrize("num_statements", [1, 4, 20, 60])
def test_a_migration_that_is_killed_is_made_by_the_next_who_opens(tmp_path: Path, num_statements: int) -> None:
    command = [sys.executable, "-c", _KILLED, str(tmp_path), str(num_statements)]
    assert subprocess.run(command, check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode == -9
    opened = Store(tmp_path)
    assert opened.is_current
    with opened.writing() as connection:
        assert ensure_project(connection, DEFAULT_PROJECT).id
