"""Uploads: parts become one file, once."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from sqlalchemy import update

from fettle.store.database import Store, now
from fettle.store.files import content_of, find_file, incoming_place, list_files
from fettle.store.ids import new_id
from fettle.store.keys import ensure_project
from fettle.store.pages import PageRequest
from fettle.store.tables import uploads
from fettle.store.uploads import (
    NoSuchUploadError,
    Upload,
    UploadError,
    UploadStatus,
    add_part,
    add_upload,
    cancel_upload,
    complete_upload,
    expire_uploads,
    file_of,
    find_upload,
)


def new_upload(store: Store, num_bytes: int, *, lives: int | None = None) -> Upload:
    with store.writing() as connection:
        upload = Upload(
            id=new_id("upload_"), project_id=ensure_project(connection, "default").id, filename="rows.jsonl",
            purpose="fine-tune", mime_type="text/jsonl", num_bytes=num_bytes, status=UploadStatus.PENDING,
            created_at=now(), expires_at=now() + 3600, file_lives_seconds=lives,
        )  # fmt: skip
        add_upload(connection, upload)
    return upload


def sent(store: Store, upload: Upload, content: bytes, *, most_bytes: int = 1000) -> str:
    written = incoming_place(store)
    written.write_bytes(content)
    return add_part(store, upload, written, num_bytes=len(content), most_bytes=most_bytes).id


def let_run_out(store: Store, upload: Upload) -> None:
    with store.writing() as connection:
        connection.execute(update(uploads).where(uploads.c.id == upload.id).values(expires_at=now() - 1))


def status_of(store: Store, upload: Upload) -> UploadStatus:
    with store.reading() as connection:
        return find_upload(connection, upload.project_id, upload.id).status


def contents(store: Store) -> list[Path]:
    return sorted(store.files.iterdir())


def test_the_order_of_the_ids_decides_and_parts_that_are_not_named_are_left_out(store: Store) -> None:
    upload = new_upload(store, 6, lives=7200)
    last, first, _unused = (sent(store, upload, content) for content in (b"def", b"abc", b"xyz"))
    done = complete_upload(store, upload, [first, last], hashlib.md5(b"abcdef").hexdigest().upper())
    assert done.status is UploadStatus.COMPLETED
    with store.reading() as connection:
        file = file_of(connection, done)
    assert file is not None
    assert (file.num_bytes, file.sha256, file.filename) == (6, hashlib.sha256(b"abcdef").hexdigest(), "rows.jsonl")
    assert file.expires_at == file.created_at + 7200
    assert content_of(store, file).read_bytes() == b"abcdef"
    assert contents(store) == [content_of(store, file)]


@pytest.mark.parametrize(
    ("num_bytes", "names", "md5", "problem"),
    [
        (7, ["one", "two"], None, "6 bytes together, and 7 bytes were announced"),
        (3, ["one", "two"], None, "6 bytes together, and 3 bytes were announced"),
        (6, ["one", "two"], "0" * 32, "have the MD5 e80b5017098950fc58aad83c8c14978e"),
        (6, ["one", "one"], None, "named twice"),
        (3, ["part_of_nobody"], None, "has no part part_of_nobody"),
    ],
)
def test_parts_that_are_not_what_was_announced_change_nothing(
    store: Store, num_bytes: int, names: list[str], md5: str | None, problem: str
) -> None:
    upload = new_upload(store, num_bytes)
    known = {"one": sent(store, upload, b"abc"), "two": sent(store, upload, b"def")}
    before = contents(store)
    with pytest.raises(UploadError, match=problem):
        complete_upload(store, upload, [known.get(name, name) for name in names], md5)
    assert status_of(store, upload) is UploadStatus.PENDING
    assert contents(store) == before


def test_a_part_of_another_upload_is_unknown(store: Store) -> None:
    upload, other = new_upload(store, 3), new_upload(store, 3)
    with pytest.raises(UploadError, match="has no part"):
        complete_upload(store, upload, [sent(store, other, b"abc")], None)


def test_completed_by_many_at_once_it_is_one_file(store: Store) -> None:
    upload = new_upload(store, 3)
    parts = [sent(store, upload, b"abc")]
    found: list[Upload | BaseException] = []
    together = threading.Barrier(6)

    def complete() -> None:
        together.wait()
        try:
            found.append(complete_upload(store, upload, parts, None))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({upload.file_id for upload in found if isinstance(upload, Upload)}) == 1
    assert all(isinstance(upload, Upload) for upload in found), found
    with store.reading() as connection:
        files = list_files(connection, upload.project_id, PageRequest(limit=10)).items
    assert contents(store) == [content_of(store, file) for file in files]
    assert len(files) == 1


def test_a_cancelled_upload_frees_its_parts_and_takes_no_more(store: Store) -> None:
    upload = new_upload(store, 3)
    part = sent(store, upload, b"abc")
    assert cancel_upload(store, upload).status is UploadStatus.CANCELLED
    assert contents(store) == []
    for attempt in (
        lambda: sent(store, upload, b"abc"),
        lambda: complete_upload(store, upload, [part], None),
        lambda: cancel_upload(store, upload),
    ):
        with pytest.raises(UploadError, match="is cancelled"):
            attempt()
    assert contents(store) == []


def test_after_its_hour_an_upload_is_expired_and_its_parts_are_swept(store: Store) -> None:
    upload, other = new_upload(store, 3), new_upload(store, 3)
    part, kept = sent(store, upload, b"abc"), sent(store, other, b"abc")
    let_run_out(store, upload)
    assert status_of(store, upload) is UploadStatus.EXPIRED
    with pytest.raises(UploadError, match="is expired"):
        complete_upload(store, upload, [part], None)
    assert expire_uploads(store) == 1
    assert contents(store) == [store.files / kept]
    assert expire_uploads(store) == 0


def test_parts_together_are_bounded(store: Store) -> None:
    upload = new_upload(store, 3)
    sent(store, upload, b"abc", most_bytes=5)
    with pytest.raises(UploadError, match="more than 5 bytes"):
        sent(store, upload, b"abc", most_bytes=5)
    assert len(contents(store)) == 1


def test_parts_that_are_missing_from_the_disk_are_said_to_be(store: Store) -> None:
    upload = new_upload(store, 3)
    part = sent(store, upload, b"abc")
    (store.files / part).unlink()
    with pytest.raises(UploadError, match="send the file again"):
        complete_upload(store, upload, [part], None)


def test_another_projects_upload_is_not_there(store: Store) -> None:
    upload = new_upload(store, 3)
    with store.reading() as connection, pytest.raises(NoSuchUploadError):
        find_upload(connection, "proj_other", upload.id)


def test_a_file_that_was_deleted_since_is_not_shown(store: Store) -> None:
    from fettle.store.files import remove_file

    upload = new_upload(store, 3)
    done = complete_upload(store, upload, [sent(store, upload, b"abc")], None)
    assert done.file_id is not None
    with store.reading() as connection:
        assert find_file(connection, upload.project_id, done.file_id).num_bytes == 3
    remove_file(store, upload.project_id, done.file_id)
    with store.reading() as connection:
        assert file_of(connection, done) is None
