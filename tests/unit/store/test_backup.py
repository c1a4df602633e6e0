"""A backup holds all that the store keeps, and only a whole one is restored, into an empty store."""

from __future__ import annotations

import gzip
import io
import json
import resource
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from databases import fresh_store
from fettle.errors import ConfigError, DataError, DiskFullError, ResourceError
from fettle.jobs.control import create_job
from fettle.jobs.fine_tuning import FineTuningRequest, Hyperparameters
from fettle.progress import SilentListener, Stage
from fettle.store.archive import new_archive
from fettle.store.backup import back_up
from fettle.store.database import Store, now
from fettle.store.files import StoredFile, add_file, list_files, remove_file
from fettle.store.indexes import NewDocument, StoredIndex, add_document, add_index, change_index
from fettle.store.jobs import JobStatus, change_status, claim, list_jobs
from fettle.store.keys import DEFAULT_PROJECT, create_key, ensure_project, owner_of
from fettle.store.models import TunedModel, add_tuned_model, list_tuned_models, put_base_model, remove_tuned_model
from fettle.store.pages import PageRequest
from fettle.store.passages import NewPassage, add_passages, set_vectors
from fettle.store.restore import restore
from fettle.store.tables import metadata, upload_parts, uploads, workers
from fettle.store.workers import give_sign

SILENT = SilentListener()
ALL = PageRequest(limit=100)


def add_content(store: Store, project: str, file_id: str, content: bytes) -> None:
    store.files.mkdir(exist_ok=True)
    (store.files / file_id).write_bytes(content)
    with store.writing() as connection:
        add_file(
            connection,
            StoredFile(
                id=file_id, project_id=project, filename="ünïcode\u2028.jsonl", purpose="fine-tune",
                num_bytes=len(content), sha256="0" * 64, created_at=now(),
            ),
        )  # fmt: skip


def add_model(store: Store, project: str, name: str, folder: str) -> None:
    (store.models / folder).mkdir(parents=True)
    (store.models / folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 40)
    (store.models / folder / "adapter_config.json").write_text("{}")
    with store.writing() as connection:
        add_tuned_model(
            connection,
            TunedModel(
                id=name, project_id=project, base="tiny", base_sha256="1" * 64, template_sha256="2" * 64,
                folder=folder, is_adapter=True, job_id=None, step=None, created_at=now(),
            ),
        )  # fmt: skip


def add_an_index(connection: Connection, project: str) -> None:
    backend = "pgvector" if connection.dialect.name == "postgresql" else "folder"
    index = StoredIndex(
        id="vs_1", project_id=project, name="handbook", backend=backend, embedder="e", embedder_revision="r",
        num_dimensions=2, passage_tokens=200, overlap_tokens=0, created_at=1, last_active_at=2, metadata={"team": "Zürich"},
    )  # fmt: skip
    add_index(connection, index)
    read = NewDocument(
        document_id="a.md", source="a.md", title="A", sha256="0" * 64, attributes={"year": 2026}, num_bytes=1
    )
    number = add_document(connection, index.id, read)
    cut = [
        NewPassage(
            position=position, page=None, title_path=["A"], text="ünïcode\u2028", num_tokens=1, text_hash=str(position)
        )
        for position in range(2)
    ]
    add_passages(connection, index.id, number, cut)
    set_vectors(connection, index.id, {"0": bytes(range(8))})


def fill(store: Store) -> str:
    """Something of everything; the key."""
    secret, _ = create_key(store, "first")
    with store.writing() as connection:
        project = ensure_project(connection, DEFAULT_PROJECT).id
        put_base_model(connection, "tiny", "/somewhere/tiny")
        give_sign(connection, "host/1/a")
        upload = {
            "filename": "x", "purpose": "fine-tune", "mime_type": "text/plain", "num_bytes": 1, "created_at": 1,
            "expires_at": 2, "project_id": project,
        }  # fmt: skip
        connection.execute(insert(uploads).values(id="upload_done", status="completed", **upload))
        connection.execute(insert(uploads).values(id="upload_open", status="pending", **upload))
        connection.execute(insert(upload_parts).values(id="part_1", upload_id="upload_open", num_bytes=1, created_at=1))
    add_content(store, project, "file-1", b'{"messages": []}\n' * 100)
    add_content(store, project, "file-2", b"")
    add_model(store, project, "ft:tiny:fettle::abcdefgh", "ftjob-x/final")
    with store.writing() as connection:
        job = create_job(
            connection, project_id=project, model="tiny",
            request=FineTuningRequest(
                base="tiny", continues=None, seed=1, suffix=None, hyperparameters=Hyperparameters()
            ),
            training_file="file-1", validation_file=None, metadata={"team": "Zürich"},
        )  # fmt: skip
        change_status(connection, job.id, from_=[job.status], to=JobStatus.QUEUED)
        assert claim(connection, statuses=[JobStatus.QUEUED], owner="host/1/a", seconds=60)
        add_an_index(connection, project)
    folder = store.jobs / job.id / "training"
    (folder / "step-0000002").mkdir(parents=True)
    (folder / "step-0000002" / "state.json").write_text("{}")
    (folder / ".step-0000003").mkdir()
    (folder / ".step-0000003" / "half").write_text("written")
    (folder / "events.jsonl").write_text('{"step": 1}\n')
    (folder.parent / "result.json").write_text("{}")
    return secret


def rows_of(store: Store) -> dict[str, list[dict[str, Any]]]:
    with store.reading() as connection:
        return {
            table.name: [
                dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }


def tree_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("files", "jobs", "models")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def kept(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What a backup keeps of the rows."""
    rows = {name: list(values) for name, values in rows.items()}
    rows[workers.name] = rows[upload_parts.name] = []
    rows[uploads.name] = [row for row in rows[uploads.name] if row["status"] != "pending"]
    rows["jobs"] = [row | {"lease_owner": None, "lease_expires_at": None} for row in rows["jobs"]]
    return rows


@pytest.mark.parametrize("searched_by", ["folder", "pgvector"])
def test_a_restored_index_is_searched_in_the_way_of_its_database(
    store: Store, tmp_path: Path, searched_by: str
) -> None:
    fill(store)
    with store.writing() as connection:
        change_index(connection, "vs_1", backend=searched_by)
    back_up(store, tmp_path / "backup.tar.gz", SILENT)
    with fresh_store(tmp_path / "other") as other:
        restore(other, tmp_path / "backup.tar.gz", SILENT)
        (index,) = rows_of(other)["indexes"]
        assert index["backend"] == ("pgvector" if other.is_postgresql else "folder")


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_what_was_backed_up_is_restored(store: Store, tmp_path: Path, suffix: str) -> None:
    secret = fill(store)
    result = back_up(store, tmp_path / f"backup.tar.{suffix}", SILENT)
    assert result.base_models == {"tiny": "/somewhere/tiny"}
    assert not [path for path in tmp_path.iterdir() if path.name not in ("home", f"backup.tar.{suffix}")]
    assert (tmp_path / f"backup.tar.{suffix}").stat().st_mode & 0o077 == 0
    with fresh_store(tmp_path / "other") as other:
        assert restore(other, tmp_path / f"backup.tar.{suffix}", SILENT).num_files == result.num_files
        assert rows_of(other) == kept(rows_of(store))
        assert other.is_current
        expected = tree_of(store.home)
        hidden = [name for name in expected if "/." in name or name.endswith("result.json")]
        assert len(hidden) == 2  # of a checkpoint that is being written, and of this machine
        for name in hidden:
            del expected[name]
        assert tree_of(other.home) == expected
        owner = owner_of(other, secret)
        assert owner is not None
        add_content(other, owner.project_id, "file-new", b"x")  # numbers go on from where they were
        with other.writing() as connection:
            assert list_files(connection, owner.project_id, ALL).items[0].id == "file-new"
            (job,) = list_jobs(connection, owner.project_id, ALL).items
            assert job.metadata == {"team": "Zürich"}
            assert claim(connection, statuses=[JobStatus.QUEUED], owner="somebody", seconds=60)


def test_sqlite_moves_to_whatever_database_there_is_and_back(tmp_path: Path, store: Store) -> None:
    sqlite = Store(tmp_path / "sqlite")
    fill(sqlite)
    back_up(sqlite, tmp_path / "first.tar.gz", SILENT)
    restore(store, tmp_path / "first.tar.gz", SILENT)
    back_up(store, tmp_path / "second.tar.gz", SILENT)
    again = Store(tmp_path / "again")
    restore(again, tmp_path / "second.tar.gz", SILENT)
    assert rows_of(again) == kept(rows_of(sqlite))
    sqlite.close()
    again.close()


def test_a_backup_of_older_tables_is_brought_to_the_newest_form(store: Store, tmp_path: Path) -> None:
    store.make_anew("0001")
    secret, _ = create_key(store, "old")
    with store.snapshot() as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(metadata.tables["projects"]))]
        keys = [dict(row._mapping) for row in connection.execute(select(metadata.tables["keys"]))]
    store.migrate()
    for name, values in (("projects", rows), ("keys", keys)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    with new_archive(tmp_path / "old.tar.gz", lambda _: None) as archive:
        archive.add("tables/projects.jsonl", tmp_path / "projects.jsonl")
        archive.add("tables/keys.jsonl", tmp_path / "keys.jsonl")
        archive.finish("0001")
    with fresh_store(tmp_path / "other") as other:
        restore(other, tmp_path / "old.tar.gz", SILENT)
        assert other.is_current
        assert owner_of(other, secret) is not None


def test_a_backup_of_newer_tables_names_the_version_that_is_wanted(store: Store, tmp_path: Path) -> None:
    with new_archive(tmp_path / "new.tar.gz", lambda _: None) as archive:
        archive.finish("9999")
    with pytest.raises(DataError, match="tables this version does not know"):
        restore(store, tmp_path / "new.tar.gz", SILENT)


class Deleting:
    """Deletes as soon as the backup has begun to copy, as users may."""

    def __init__(self, store: Store) -> None:
        self._store, self._is_done = store, False

    def on_stage(self, stage: Stage) -> None:
        if not self._is_done:
            self._is_done = True
            with self._store.reading() as connection:
                project = connection.execute(select(metadata.tables["projects"].c.id)).scalar_one()
            add_content(self._store, project, "file-later", b"after the snapshot")
            remove_file(self._store, project, "file-1")
            remove_tuned_model(self._store, project, "ft:tiny:fettle::abcdefgh")

    def on_message(self, text: str) -> None:
        pass


def test_what_is_deleted_or_added_meanwhile_leaves_no_half_things(store: Store, tmp_path: Path) -> None:
    fill(store)
    back_up(store, tmp_path / "backup.tar.gz", Deleting(store))
    with fresh_store(tmp_path / "other") as other:
        restore(other, tmp_path / "backup.tar.gz", SILENT)
        with other.reading() as connection:
            project = connection.execute(select(metadata.tables["projects"].c.id)).scalar_one()
            assert [file.id for file in list_files(connection, project, ALL).items] == ["file-2"]
            assert list_tuned_models(connection, project) == ()
        assert [path.name for path in other.files.iterdir()] == ["file-2"]


def test_a_backup_beside_writers_is_of_one_moment(store: Store, tmp_path: Path) -> None:
    fill(store)
    with store.reading() as connection:
        project = connection.execute(select(metadata.tables["projects"].c.id)).scalar_one()
    stops = threading.Event()

    def write() -> None:
        number = 0
        while not stops.is_set():
            number += 1
            add_content(store, project, f"file-w{number}", b"x" * number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        back_up(store, tmp_path / "backup.tar.gz", SILENT)
    finally:
        stops.set()
        writer.join()
    with fresh_store(tmp_path / "other") as other:
        restore(other, tmp_path / "backup.tar.gz", SILENT)
        with other.reading() as connection:
            files = connection.execute(select(metadata.tables["files"])).all()
        for file in files:
            assert (other.files / file.id).stat().st_size == file.num_bytes


def damaged(path: Path, tmp_path: Path, how: str) -> Path:
    data = bytearray(path.read_bytes())
    other = tmp_path / f"{how}.tar.gz"
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "no archive":
        data = bytearray(b"nothing of the kind" * 20)
    elif how == "empty":
        data = bytearray()
    elif how == "only gzip":
        data = bytearray(gzip.compress(b"text"))
    else:
        plain = bytearray(gzip.decompress(bytes(data)))
        place = plain.index(b'{"messages"')
        plain[place + 2] ^= 1
        data = bytearray(gzip.compress(bytes(plain)))
    other.write_bytes(data)
    return other


@pytest.mark.parametrize("how", ["cut", "no archive", "empty", "only gzip", "a bit has changed"])
def test_a_damaged_backup_is_not_restored(store: Store, tmp_path: Path, how: str) -> None:
    fill(store)
    back_up(store, tmp_path / "backup.tar.gz", SILENT)
    path = damaged(tmp_path / "backup.tar.gz", tmp_path, how)
    with fresh_store(tmp_path / "other") as other:
        with pytest.raises(DataError, match="nothing was restored"):
            restore(other, path, SILENT)
        assert_is_empty(other)


def assert_is_empty(store: Store) -> None:
    assert not any(rows_of(store).values())
    assert not [path for path in store.home.iterdir() if path.name.startswith(".restore")]
    assert tree_of(store.home) == {}


def tar_with(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "planted",
    [
        member("../outside"),
        member("files/../../outside"),
        member("/outside/absolute"),
        member("files"),
        member("secrets/file"),
        member("files/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("files/link", tarfile.LNKTYPE, "../../outside"),
        member("models/device", tarfile.CHRTYPE),
        member("models/fifo", tarfile.FIFOTYPE),
        member("models/folder", tarfile.DIRTYPE),
    ],
    ids=lambda planted: f"{planted.name} {planted.type.decode()}",
)
def test_an_archive_that_reaches_outside_is_refused(store: Store, tmp_path: Path, planted: tarfile.TarInfo) -> None:
    with pytest.raises(DataError, match="no backup does"):
        restore(store, tar_with(tmp_path / "evil.tar.gz", planted), SILENT)
    assert not (tmp_path / "outside").exists()
    assert_is_empty(store)


def test_a_file_that_is_there_twice_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="twice"):
        restore(store, tar_with(tmp_path / "twice.tar.gz", member("files/a"), member("files/a")), SILENT)


def test_only_an_empty_store_is_restored_into(store: Store, tmp_path: Path) -> None:
    fill(store)
    back_up(store, tmp_path / "backup.tar.gz", SILENT)
    before = rows_of(store)
    with pytest.raises(ConfigError, match="not empty"):
        restore(store, tmp_path / "backup.tar.gz", SILENT)
    assert rows_of(store) == before
    with fresh_store(tmp_path / "other") as other:
        other.files.mkdir()
        (other.files / "something").write_text("of somebody")
        with pytest.raises(ConfigError, match="something in this folder"):
            restore(other, tmp_path / "backup.tar.gz", SILENT)
        assert (other.files / "something").exists()


def test_names_that_say_no_compression_and_files_that_are_there_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "there.tar.gz").write_text("an older one")
    for name, problem in (("backup.zip", "ends in"), ("there.tar.gz", "a file already")):
        with pytest.raises(ConfigError, match=problem):
            back_up(store, tmp_path / name, SILENT)
    assert (tmp_path / "there.tar.gz").read_text() == "an older one"
    with pytest.raises(ConfigError, match="cannot be read"):
        restore(store, tmp_path / "nowhere.tar.gz", SILENT)


@contextmanager
def disk_with(num_bytes: int) -> Iterator[None]:
    """No file may grow above `num_bytes`: the nearest to a full disk that needs no privilege."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_backup_into_a_folder_that_is_not_there_is_told_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write here") as caught:
        back_up(store, tmp_path / "nowhere" / "b.tar.zst", SilentListener())
    assert caught.value.remedy == "name a file in a folder that is there, and that you may write"


def test_a_full_disk_leaves_nothing_of_a_backup(store: Store, tmp_path: Path) -> None:
    fill(store)
    add_content(
        store, rows_of(store)["projects"][0]["id"], "file-big", (tmp_path / "home").as_posix().encode() * 99_999
    )
    with disk_with(600), pytest.raises((DiskFullError, ResourceError)):
        back_up(store, tmp_path / "backup.tar.gz", SILENT)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_full_disk_leaves_an_empty_store(store: Store, tmp_path: Path) -> None:
    fill(store)
    add_content(store, rows_of(store)["projects"][0]["id"], "file-big", b"x" * 3_000_000)
    back_up(store, tmp_path / "backup.tar.gz", SILENT)
    with fresh_store(tmp_path / "other") as other:
        with disk_with(1_000_000), pytest.raises(DiskFullError):
            restore(other, tmp_path / "backup.tar.gz", SILENT)
        assert_is_empty(other)
