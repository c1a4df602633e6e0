"""Everything that a backup holds, put into an empty store: SQLite or PostgreSQL, whichever it was made of.

The archive is unpacked beside the store and proven first. Then the folders take their places, and the rows come last, in one
transaction: a restore that is killed leaves an empty database. A backup of older tables goes into tables of its own version, which
are then brought to the newest one, as those of a running store would be.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, LargeBinary, MetaData, Table, func, insert, null, select, text, update

from fettle.errors import ConfigError, DataError, disk_errors_explained
from fettle.progress import Listener, Stage
from fettle.store.archive import FILES, JOBS, MODELS, TABLES, unpack
from fettle.store.database import Store
from fettle.store.tables import indexes, metadata

_MIB = 1 << 20
_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What was restored."""

    num_rows: int
    num_files: int
    created_at: int
    """When the backup was made, Unix seconds."""


def restore(store: Store, path: Path, listener: Listener) -> RestoreResult:
    """Put a backup into an empty store.

    Raises:
        ConfigError: The store is not empty, or the file cannot be read.
        DataError: The file is damaged, no backup, or of a newer version.
        DiskFullError: No space is left; the store stays empty.
    """
    _require_empty(store)
    num_total = (path.stat().st_size if path.exists() else 0) // _MIB + 1
    num_read = 0

    def on_bytes(count: int) -> None:
        nonlocal num_read
        num_read += count
        listener.on_stage(Stage(name="read (MiB)", num_done=min(num_read // _MIB, num_total), num_total=num_total))

    with disk_errors_explained(store.home), tempfile.TemporaryDirectory(dir=store.home, prefix=".restore-") as room:
        unpacked = Path(room)
        contents = unpack(path, unpacked, on_bytes)
        if not store.knows_version(contents.tables_version):
            raise DataError(
                f"the backup was made by Fettle {contents.fettle}, whose tables this version does not know",
                where=str(path),
                remedy=f"install Fettle {contents.fettle}, or a newer one",
            )
        with _in_place(store, unpacked):
            num_rows = _fill(store, unpacked / TABLES, contents.tables_version)
    listener.on_stage(Stage(name="read (MiB)", num_done=num_total, num_total=num_total))
    num_files = sum(not name.startswith(f"{TABLES}/") for name in contents.entries)
    return RestoreResult(num_rows=num_rows, num_files=num_files, created_at=contents.created_at)


def _folders(store: Store) -> dict[str, Path]:
    return {FILES: store.files, JOBS: store.jobs, MODELS: store.models}


def _require_empty(store: Store) -> None:
    remedy = (
        "name an empty folder with FETTLE_HOME, and with FETTLE_DATABASE_URL an empty database where it is PostgreSQL"
    )
    with store.reading() as connection:
        for table in metadata.sorted_tables:
            if connection.execute(select(table).limit(1)).first() is not None:
                raise ConfigError(
                    f"the store is not empty: there are {table.name}", where=str(store.home), remedy=remedy
                )
    for folder in _folders(store).values():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                "the store is not empty: there is something in this folder", where=str(folder), remedy=remedy
            )


@contextmanager
def _in_place(store: Store, unpacked: Path) -> Iterator[None]:
    """Within it what was unpacked lies where it belongs; should what happens there fail, it does no longer."""
    placed: list[Path] = []
    try:
        for name, folder in _folders(store).items():
            if (unpacked / name).is_dir():
                if folder.exists():
                    folder.rmdir()
                (unpacked / name).rename(folder)
                placed.append(folder)
        yield
    except BaseException:
        for folder in placed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _fill(store: Store, folder: Path, version: str) -> int:
    """Write the rows of all tables; how many they are."""
    if version != store.version:
        store.make_anew(version)
    num_rows = 0
    with store.writing() as connection:
        found = MetaData()
        found.reflect(connection, only=lambda name, _: (folder / f"{name}.jsonl").is_file())
        for table in found.sorted_tables:
            num_rows += _fill_table(connection, table, folder / f"{table.name}.jsonl")
        if indexes.name in found.tables:
            _search_here(connection)
    store.migrate()
    return num_rows


def _search_here(connection: Connection) -> None:
    """Have indexes searched in the way of this database; what they are searched with is made anew in any case."""
    is_postgresql = connection.dialect.name == "postgresql"
    is_elsewhere = indexes.c.backend != "pgvector" if is_postgresql else indexes.c.backend == "pgvector"
    connection.execute(update(indexes).where(is_elsewhere).values(backend="pgvector" if is_postgresql else "folder"))


def _fill_table(connection: Connection, table: Table, file: Path) -> int:
    num_rows = 0
    absent = {column.name: null() for column in table.columns if isinstance(column.type, JSON)}
    binary = [column.name for column in table.columns if isinstance(column.type, LargeBinary)]
    with file.open(encoding="utf-8", newline="\n") as lines:
        rows = (json.loads(line) for line in lines)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            connection.execute(insert(table), [_with_sql_nulls(_with_bytes(row, binary), absent) for row in batch])
            num_rows += len(batch)
    if num_rows and "number" in table.c and connection.dialect.name == "postgresql":
        newest = select(func.max(table.c.number)).scalar_subquery()
        sequence = func.pg_get_serial_sequence(text("'" + table.name + "'"), text("'number'"))
        connection.execute(select(func.setval(sequence, newest)))
    return num_rows


def _with_bytes(row: dict[str, Any], binary: list[str]) -> dict[str, Any]:
    return row | {name: base64.b64decode(row[name]) for name in binary if row[name] is not None}


def _with_sql_nulls(row: dict[str, Any], absent: dict[str, Any]) -> dict[str, Any]:
    """A JSON column would take None for the JSON value null."""
    return {name: absent[name] if value is None and name in absent else value for name, value in row.items()}
