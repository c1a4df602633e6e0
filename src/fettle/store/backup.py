"""A copy of everything that the store keeps, made while servers and workers go on.

**Consistent**, because rows come first: they are read in one snapshot, and what they name is copied then. A file or a model lies in
its place before its row does and is gone after its row is, so everything that the snapshot names is there, but for what users
delete meanwhile; the rows of that are left out, as if the backup had been made a moment later. The folder of a job that trains is
copied with its checkpoints before its events, which is how a kill leaves it too: the job goes on from there.

Not in it: base models (`source` says where they come from), uploads that were not completed, the workers' signs of life and claims,
and what indexes are searched with, which is made anew from their passages and vectors.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from fettle.errors import disk_errors_explained
from fettle.files import iter_files
from fettle.progress import Listener, Stage
from fettle.store.archive import FILES, JOBS, MODELS, TABLES, ArchiveWriter, new_archive
from fettle.store.database import Store
from fettle.store.jobs import JobStatus
from fettle.store.tables import files, jobs, metadata, models, upload_parts, uploads, workers

_MIB = 1 << 20
_LEFT_OUT = (workers, upload_parts)
_RESULT = "result.json"  # holds paths of this machine; a training that is done writes it again
_EVENTS = "events.jsonl"
_MOST_LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupResult:
    """What was backed up."""

    num_rows: int
    num_files: int
    """Contents of files, jobs and models."""
    num_bytes: int
    """Of these, before compression."""
    base_models: Mapping[str, str]
    """Not in it: by id, where they come from."""


def back_up(store: Store, path: Path, listener: Listener) -> BackupResult:
    """Write a backup.

    Raises:
        ConfigError: The name says no compression that we have, or there is a file already.
        DiskFullError: No space is left; nothing of the backup stays.
        ResourceError: The database does not answer.
    """
    meter = _Meter(listener)
    with new_archive(path, meter.on_bytes) as archive, tempfile.TemporaryDirectory(dir=path.absolute().parent) as room:
        with store.snapshot() as connection:
            version = store.version
            num_rows = _dump(connection, Path(room))
            named = _Named.of(connection)
        meter.expect(named.num_bytes(store))
        copying = _Copying(store, archive)
        for job_id, is_over in named.jobs.items():
            copying.add_job(job_id, is_over=is_over)
        gone_models = [folder for folder in named.model_folders if not copying.add_model(folder)]
        gone_files = [file_id for file_id in named.files if not copying.add_file(file_id)]
        num_files, num_bytes = copying.num_files, meter.num_bytes
        _without(Path(room) / f"{models.name}.jsonl", "folder", gone_models)
        _without(Path(room) / f"{files.name}.jsonl", "id", gone_files)
        for table in sorted(Path(room).iterdir()):
            archive.add(f"{TABLES}/{table.name}", table)
        archive.finish(version)
    meter.end()
    return BackupResult(num_rows=num_rows, num_files=num_files, num_bytes=num_bytes, base_models=named.base_models)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """What the rows say that lies on the disk."""

    files: tuple[str, ...]
    model_folders: tuple[str, ...]
    jobs: dict[str, bool]
    """By id, whether it is over."""
    base_models: dict[str, str]

    @classmethod
    def of(cls, connection: Connection) -> _Named:
        base_models = metadata.tables["base_models"]
        return cls(
            files=tuple(connection.execute(select(files.c.id)).scalars()),
            model_folders=tuple(connection.execute(select(models.c.folder)).scalars()),
            jobs={
                row.id: JobStatus(row.status).is_final for row in connection.execute(select(jobs.c.id, jobs.c.status))
            },
            base_models={row.id: row.source for row in connection.execute(select(base_models))},
        )

    def num_bytes(self, store: Store) -> int:
        """About so many will be copied."""
        folders = [store.jobs / job for job in self.jobs] + [store.models / folder for folder in self.model_folders]
        paths = [store.files / file for file in self.files] + [
            path for folder in folders for path in iter_files(folder)
        ]
        return sum(path.stat().st_size for path in paths if path.exists())


class _Copying:
    """Copies what lies beside the database."""

    def __init__(self, store: Store, archive: ArchiveWriter) -> None:
        self._store, self._archive = store, archive
        self.num_files = 0

    def add_file(self, file_id: str) -> bool:
        """The content of a file; False: it was deleted meanwhile."""
        return self._add(f"{FILES}/{file_id}", self._store.files / file_id)

    def add_model(self, folder: str) -> bool:
        """The folder of a model; False: it was deleted meanwhile."""
        paths = list(iter_files(self._store.models / folder))
        name = f"{MODELS}/{folder}"
        is_whole = bool(paths) and all(
            self._add(f"{name}/{path.relative_to(self._store.models / folder).as_posix()}", path) for path in paths
        )
        if not is_whole:
            self._archive.forget(name)
        return is_whole

    def add_job(self, job_id: str, *, is_over: bool) -> None:
        """The folder of a job. Where it trains, checkpoints that have left meanwhile have a later one to look for."""
        folder, known = self._store.jobs / job_id, set[Path]()
        for _ in range(_MOST_LOOKS):
            new = [path for path in sorted(iter_files(folder), key=_after_checkpoints) if path not in known]
            known.update(new)
            wanted = [path for path in new if is_over or path.name != _RESULT]
            names = [f"{JOBS}/{job_id}/{path.relative_to(folder).as_posix()}" for path in wanted]
            num_gone = sum(not self._add(name, path) for name, path in zip(names, wanted, strict=True))
            if not num_gone:
                return

    def _add(self, name: str, path: Path) -> bool:
        try:
            self._archive.add(name, path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self.num_files += 1
        return True


def _after_checkpoints(path: Path) -> tuple[bool, Path]:
    return path.name == _EVENTS, path


def _dump(connection: Connection, folder: Path) -> int:
    """Write the rows of all tables; how many they are."""
    num_rows = 0
    with disk_errors_explained(folder):
        for table in metadata.sorted_tables:
            if table in _LEFT_OUT:
                continue
            with (folder / f"{table.name}.jsonl").open("w", encoding="utf-8") as file:
                for row in _rows(connection, table):
                    file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                    num_rows += 1
    return num_rows


def _rows(connection: Connection, table: Table) -> Iterator[dict[str, Any]]:
    for row in connection.execution_options(yield_per=1000).execute(_wanted(table)):
        values = {name: _as_json(value) for name, value in row._mapping.items()}
        if table is jobs:
            values |= {"lease_owner": None, "lease_expires_at": None}
        yield values


def _as_json(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _wanted(table: Table) -> Select[Any]:
    wanted = select(table).order_by(*table.primary_key.columns)
    return wanted.where(uploads.c.status != "pending") if table is uploads else wanted


def _without(table: Path, column: str, gone: list[str]) -> None:
    """Leave out the rows of what is gone."""
    if not gone:
        return
    lines = [line for line in table.read_text(encoding="utf-8").split("\n") if line]
    kept = [line for line in lines if json.loads(line)[column] not in gone]
    table.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


class _Meter:
    """Tells how far it is, in MiB."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._total = listener, 0
        self.num_bytes = 0

    def expect(self, num_bytes: int) -> None:
        self._total = num_bytes // _MIB + 1
        self.on_bytes(0)

    def on_bytes(self, count: int) -> None:
        self.num_bytes += count
        done = min(self.num_bytes // _MIB, self._total - 1)
        self._listener.on_stage(Stage(name="copy (MiB)", num_done=done, num_total=self._total))

    def end(self) -> None:
        self._listener.on_stage(Stage(name="copy (MiB)", num_done=self._total, num_total=self._total))
