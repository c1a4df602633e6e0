"""The database behind the store: SQLite in one file by default, PostgreSQL by URL; brought to the newest form when it is opened."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from fettle.errors import ConfigError, ResourceError, disk_errors_explained

_MIGRATIONS = Path(__file__).parent / "migrations"
_WAIT_SECONDS = 30
"""How long a writer waits for another one before it gives up."""
_MIGRATION_LOCK = (
    0x6665_7474  # an advisory lock of PostgreSQL: processes that start together migrate one after the other
)


_GIVES_UP_AFTER = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""To PostgreSQL: a machine that is gone is noticed in half a minute, not in the two hours of the system's default."""


class DatabaseAwayError(ResourceError):
    """The database does not answer, is full, or has been locked for too long. It may answer again a little later."""


_MILLISECONDS_FOR_READERS = 250
"""For which the log of SQLite waits for readers to be emptied; nobody can write meanwhile."""


class Store:
    """Where everything is kept that outlives a process: a database, and folders beside it.

    Args:
        home: FETTLE_HOME.
        url: Of the database; None: SQLite in `home`.

    Raises:
        ConfigError: The URL cannot be used, or the database is of a newer version.
        ResourceError: The database does not answer.
    """

    def __init__(self, home: Path, url: str | None = None) -> None:
        self.home = home
        with disk_errors_explained(home):
            home.mkdir(parents=True, exist_ok=True)
        self._engine = _engine(url or f"sqlite:///{home / 'fettle.sqlite'}")
        with _database_errors_explained(self._engine):
            _migrate(self._engine, home)

    @property
    def files(self) -> Path:
        """Folder of the contents of files, by their ids."""
        return self.home / "files"

    @property
    def jobs(self) -> Path:
        """Folder in which jobs work, by their ids."""
        return self.home / "jobs"

    @property
    def models(self) -> Path:
        """Folder of what was tuned."""
        return self.home / "models"

    @property
    def indexes(self) -> Path:
        """Folder of what indexes of passages are searched with, by their ids; it can be made anew at any time."""
        return self.home / "indexes"

    @property
    def is_postgresql(self) -> bool:
        """Whether the database is PostgreSQL; else it is SQLite."""
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A look at the database as it is at one moment."""
        with _database_errors_explained(self._engine), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of it happens, or nothing. Writers of SQLite take turns."""
        with _database_errors_explained(self._engine), self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # one that begins by reading might not be let write later
            with connection.begin() if not connection.in_transaction() else connection.get_transaction():  # type: ignore[union-attr]
                yield connection

    @contextmanager
    def erasing(self) -> Iterator[Connection]:
        """As `writing`; of what is deleted, nothing stays in the files of SQLite, and PostgreSQL frees it when it vacuums."""
        if self.is_postgresql:
            with self.writing() as connection:
                yield connection
            return
        with _database_errors_explained(self._engine), self._engine.connect() as connection:
            before = connection.exec_driver_sql("PRAGMA secure_delete").scalar()
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
            connection.commit()
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
                _empty_log(connection)
            finally:
                connection.rollback()
                connection.exec_driver_sql(f"PRAGMA secure_delete = {before}")

    def empty_log(self) -> bool:
        """Empty the log of SQLite, which holds what was deleted; False: somebody reads an older state, and it is not empty."""
        if self.is_postgresql:
            return True
        with _database_errors_explained(self._engine), self._engine.connect() as connection:
            return _empty_log(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A look at the database in which all that is read is of the same moment."""
        with _database_errors_explained(self._engine), self._engine.connect() as connection:
            if self._engine.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901 (the same one)
            else:
                connection.exec_driver_sql("BEGIN")
            yield connection
            connection.rollback()

    @property
    def version(self) -> str:
        """Which tables there are, as the migrations count."""
        with _database_errors_explained(self._engine), self._engine.connect() as connection:
            return _version(connection) or ""

    def knows_version(self, version: str) -> bool:
        """Whether tables of that version can be made and brought to the newest form."""
        return version in {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}

    def migrate(self) -> None:
        """Bring the tables to the newest form."""
        with _database_errors_explained(self._engine):
            _migrate(self._engine, self.home)

    def make_anew(self, version: str) -> None:
        """Have empty tables of an earlier version. All rows are lost."""
        config = _alembic()
        with _database_errors_explained(self._engine), _alone(self._engine, self.home) as connection:
            config.attributes["connection"] = connection
            _begin(connection)
            command.downgrade(config, "base")
            command.upgrade(config, version)
            connection.commit()

    @property
    def is_current(self) -> bool:
        """Whether the tables are those that this version knows; a newer one may have changed them meanwhile."""
        return self.version == _newest_version()

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()


class epoch_now(FunctionElement[float]):  # noqa: N801 (reads as the SQL function that it is)
    """The database's own clock, Unix seconds: leases are compared across machines, whose clocks differ."""

    type = Float(53)
    inherit_cache = True


def _empty_log(connection: Connection) -> bool:
    before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {_MILLISECONDS_FOR_READERS}")
    try:
        return not connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
    finally:
        connection.rollback()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {before}")
        connection.rollback()


@compiles(epoch_now, "sqlite")
def _epoch_in_sqlite(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch_now, "postgresql")
def _epoch_in_postgresql(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ConfigError(
                f"the database is {parsed.get_backend_name()!r}, and SQLite and PostgreSQL are supported",
                where="FETTLE_DATABASE_URL",
                remedy="give postgresql://user:password@host/name, or unset it for SQLite in FETTLE_HOME",
            )
        options = {"timeout": _WAIT_SECONDS} if parsed.get_backend_name() == "sqlite" else _GIVES_UP_AFTER
        engine = create_engine(parsed, pool_pre_ping=True, pool_size=10, max_overflow=40, connect_args=options)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"this is no URL of a database ({error})",
            where="FETTLE_DATABASE_URL",
            remedy="give postgresql://user:password@host/name, or unset it for SQLite in FETTLE_HOME",
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            "PostgreSQL wants the package psycopg, which is not installed",
            where="FETTLE_DATABASE_URL",
            remedy="pip install 'fettle-llm[postgres]'",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `Store.writing` says, not where the driver thinks
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # what was answered for is there after a power cut, too
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Have SQLite write ahead, once no other connection begins this, or ends it as the last one; SQLite itself would not wait."""
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _migrate(engine: Engine, home: Path) -> None:
    """Bring the tables to the newest form, one process at a time."""
    with _alone(engine, home) as connection:
        if _version(connection) == _newest_version():
            return
        config = _alembic()
        config.attributes["connection"] = connection
        _begin(connection)
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigError(
                f"the database was written by a newer version of Fettle ({error})",
                where=str(engine.url),
                remedy="install that version again, or restore a backup",
            ) from error
        connection.commit()


def _begin(connection: Connection) -> None:
    """Have all of what follows done, or nothing: half a migration, left by a kill or a full disk, could not be gone on with."""
    if connection.dialect.name == "sqlite":  # which would otherwise commit each statement by itself
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _newest_version() -> str | None:
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def _version(connection: Connection) -> str | None:
    from alembic.migration import MigrationContext

    version = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return version


@contextmanager
def _alone(engine: Engine, home: Path) -> Iterator[Connection]:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_lock({_MIGRATION_LOCK})"))
            connection.commit()
            try:
                yield connection
            finally:
                connection.rollback()
                connection.execute(text(f"SELECT pg_advisory_unlock({_MIGRATION_LOCK})"))
                connection.commit()
        else:
            with disk_errors_explained(home), (home / ".migration-lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield connection


@contextmanager
def _database_errors_explained(engine: Engine) -> Iterator[None]:
    """Turn the database's own errors that a user can mend into messages.

    Raises:
        DatabaseAwayError: It does not answer, is full, or has been locked for too long.
        ResourceError: It is damaged.
    """
    try:
        yield
    except (OperationalError, InterfaceError, NoConnectionError) as error:
        raise DatabaseAwayError(
            f"the database does not answer ({_first_line(error)})",
            where=engine.url.render_as_string(hide_password=True),
            remedy="see that it runs, that its disk has room, and that FETTLE_DATABASE_URL is right; what was finished is kept",
        ) from error
    except DatabaseError as error:
        if "malformed" not in str(error) and "not a database" not in str(error):
            raise
        raise ResourceError(
            f"the database is damaged ({_first_line(error)})",
            where=engine.url.render_as_string(hide_password=True),
            remedy="restore a backup with `fettle restore`",
        ) from error


def _first_line(error: Exception) -> str:
    said = error.orig if isinstance(error, DBAPIError) else error
    return next(iter(str(said).strip().splitlines()), type(said).__name__)


def now() -> int:
    """Unix seconds, as answers give them."""
    return int(time.time())
