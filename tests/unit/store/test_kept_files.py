"""Files and their contents: there together, gone together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from fettle.store.database import Store, now
from fettle.store.files import (
    NoSuchFileError,
    StoredFile,
    content_of,
    find_file,
    incoming_place,
    keep_file,
    list_files,
    remove_abandoned_contents,
    remove_expired_files,
    remove_file,
)
from fettle.store.ids import new_id
from fettle.store.keys import ensure_project
from fettle.store.pages import PageRequest
from fettle.store.tables import files

EVERYTHING = PageRequest(limit=100)


def kept(store: Store, *, project: str = "default", expires_at: int | None = None) -> StoredFile:
    with store.writing() as connection:
        owner = ensure_project(connection, project)
    written = incoming_place(store)
    written.write_bytes(b"rows")
    file = StoredFile(
        id=new_id("file-"), project_id=owner.id, filename="../a/b.jsonl", purpose="fine-tune", num_bytes=4,
        sha256="", created_at=now(), expires_at=expires_at,
    )  # fmt: skip
    keep_file(store, written, file)
    return file


def contents(store: Store) -> list[Path]:
    return sorted(store.files.iterdir())


def test_a_content_lies_under_the_files_id_and_goes_with_it(store: Store) -> None:
    file = kept(store)
    assert contents(store) == [content_of(store, file)]
    remove_file(store, file.project_id, file.id)
    assert contents(store) == []
    with store.reading() as connection, pytest.raises(NoSuchFileError, match=f"No such File object: {file.id}"):
        find_file(connection, file.project_id, file.id)


def test_a_file_that_the_database_refuses_leaves_no_content(store: Store) -> None:
    written = incoming_place(store)
    written.write_bytes(b"rows")
    of_nobody = StoredFile(
        id="file-1", project_id="proj_none", filename="a", purpose="fine-tune", num_bytes=4, sha256="", created_at=1
    )
    with pytest.raises(IntegrityError):
        keep_file(store, written, of_nobody)
    assert contents(store) == []


def test_another_project_neither_sees_nor_deletes_it(store: Store) -> None:
    file, other = kept(store), kept(store, project="other")
    with store.reading() as connection:
        assert [found.id for found in list_files(connection, file.project_id, EVERYTHING).items] == [file.id]
    with pytest.raises(NoSuchFileError):
        remove_file(store, file.project_id, other.id)
    assert content_of(store, other).exists()


def test_what_has_expired_is_not_there_any_more_and_is_swept(store: Store) -> None:
    file, lasting = kept(store, expires_at=now() + 3600), kept(store)
    with store.writing() as connection:
        connection.execute(update(files).where(files.c.id == file.id).values(expires_at=now() - 1))
    with store.reading() as connection, pytest.raises(NoSuchFileError):
        find_file(connection, file.project_id, file.id)
    assert remove_expired_files(store) == 1
    assert contents(store) == [content_of(store, lasting)]


def test_what_a_killed_server_left_is_swept_a_day_later(store: Store) -> None:
    file, fresh, old = kept(store), incoming_place(store), incoming_place(store)
    old_part = store.files / "part_1"
    for place in (fresh, old, old_part):
        place.write_bytes(b"half")
    long_ago = now() - 25 * 3600
    for place in (old, old_part, content_of(store, file)):
        os.utime(place, (long_ago, long_ago))
    remove_abandoned_contents(store)
    assert contents(store) == sorted([fresh, content_of(store, file)])
