"""Work that one process does at a time, whichever machine it is on; a process that dies lets go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import func, select

from fettle.errors import BusyError, StudyConflictError
from fettle.files import alone_with
from fettle.store.database import Store


@contextmanager
def alone_in_store(store: Store, name: str, *, doing: str, remedy: str) -> Iterator[None]:
    """Keep every other process of the store out for as long as it lasts.

    PostgreSQL keeps the claim with a connection of its own (an advisory lock), SQLite with a file in FETTLE_HOME.

    Args:
        store: Where.
        name: What is claimed, such as the id of an index.
        doing: What a process does that holds it, for the message.
        remedy: What to do while another one holds it.

    Raises:
        BusyError: Another process holds it.
    """
    if not store.is_postgresql:
        with _by_file(store, name, doing=doing, remedy=remedy):
            yield
        return
    number = int.from_bytes(_hashed(name)[:8], "big", signed=True)
    with store.reading() as connection:
        is_ours = connection.execute(select(func.pg_try_advisory_lock(number))).scalar_one()
        connection.commit()
        if not is_ours:
            raise BusyError(f"another process is {doing}", remedy=remedy)
        try:
            yield
        finally:
            connection.execute(select(func.pg_advisory_unlock(number)))
            connection.commit()


@contextmanager
def _by_file(store: Store, name: str, *, doing: str, remedy: str) -> Iterator[None]:
    with ExitStack() as claim:
        try:
            claim.enter_context(alone_with(store.home / "locks" / _hashed(name).hex()[:32], doing=doing, remedy=remedy))
        except StudyConflictError as error:
            raise BusyError(error.problem, remedy=remedy) from error
        yield


def _hashed(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()
