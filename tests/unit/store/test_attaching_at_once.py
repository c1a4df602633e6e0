"""Files of one index are attached, cancelled and taken out by many at once: nobody waits for ever, nothing is there twice."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attached import attached, empty_index
from databases import fresh_store
from fettle.jobs.taking_in import TakingIn
from fettle.progress import SilentListener
from fettle.retrieval.vector_stores import take_out_file
from fettle.store.attached_files import (
    NoSuchAttachedFileError,
    add_batch,
    attach_file,
    cancel_batch,
    find_file_of_index,
    set_attributes,
)
from fettle.store.database import Store
from fettle.store.files import find_file
from fettle.store.indexes import StoredIndex, list_documents
from indexed import WordEmbedder


def attach_some(store: Store, index: StoredIndex, ids: list[str], number: int) -> None:
    with store.writing() as connection:
        for file_id in ids:
            attach_file(connection, index.id, find_file(connection, index.project_id, file_id), {"number": number})


def cancel_some(store: Store, index: StoredIndex, ids: list[str], _number: int) -> None:
    with store.writing() as connection:
        cancel_batch(connection, add_batch(connection, index.id, ids))


def take_out_one(store: Store, index: StoredIndex, ids: list[str], _number: int) -> None:
    with store.reading() as connection:
        file = find_file_of_index(connection, index.id, ids[0])
    take_out_file(store, file)


def change_one(store: Store, index: StoredIndex, ids: list[str], number: int) -> None:
    with store.writing() as connection:
        set_attributes(connection, find_file_of_index(connection, index.id, ids[0]), {"number": number})


def test_nobody_is_in_anybodys_way(tmp_path: Path) -> None:
    with fresh_store(tmp_path / "home") as store:
        index = empty_index(store)
        ids = attached(store, index, *(f"# Part {number}\n\nAbout roads.\n" for number in range(8)))
        actions: list[Callable[[Store, StoredIndex, list[str], int], None]]
        actions = [attach_some, cancel_some, take_out_one, change_one]
        is_over = threading.Event()

        def act(number: int) -> None:
            chance = random.Random(number)
            for _ in range(10):
                some = chance.sample(ids, 5)
                try:
                    chance.choice(actions)(store, index, some, number)
                except NoSuchAttachedFileError:  # somebody has taken it out
                    continue

        def take_in() -> None:
            worker = TakingIn(store, lambda _: WordEmbedder(), SilentListener())
            while worker.do_next() or not is_over.is_set():
                pass

        with ThreadPoolExecutor(max_workers=5) as threads:
            worker = threads.submit(take_in)
            done = [threads.submit(act, number) for number in range(4)]
            try:
                for one in done:
                    one.result()
            finally:
                is_over.set()
            worker.result()
        with store.reading() as connection:
            documents = list_documents(connection, index.id)
        assert len({one.document_id for one in documents}) == len(documents)
        assert not {one.status.value for one in documents} - {"completed", "cancelled"}
