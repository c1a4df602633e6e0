"""Signs of life of the workers, so that an operator sees whether anybody works."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from fettle.store.database import epoch_now
from fettle.store.tables import workers

SECONDS_BETWEEN_SIGNS = 5.0
_ALIVE_SECONDS = 20.0
_FORGOTTEN_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersSeen:
    """Who gives signs of life."""

    num_alive: int
    """Workers that gave one in the last 20 seconds."""
    seconds_since_last_sign: float | None
    """Of whichever worker gave the last one; None: none has in a day, or the last one has ended as it should."""


def give_sign(connection: Connection, name: str) -> None:
    """A worker lives. Those that have not for a day are forgotten."""
    if not connection.execute(update(workers).where(workers.c.name == name).values(seen_at=epoch_now())).rowcount:
        connection.execute(insert(workers).values(name=name, seen_at=epoch_now()))
    connection.execute(delete(workers).where(workers.c.seen_at < epoch_now() - _FORGOTTEN_SECONDS))


def leave(connection: Connection, name: str) -> None:
    """A worker ends as it should."""
    connection.execute(delete(workers).where(workers.c.name == name))


def read_workers(connection: Connection) -> WorkersSeen:
    """Who works."""
    age = epoch_now() - workers.c.seen_at
    num_alive = connection.execute(select(func.count()).select_from(workers).where(age < _ALIVE_SECONDS)).scalar_one()
    return WorkersSeen(num_alive=num_alive, seconds_since_last_sign=connection.execute(select(func.min(age))).scalar())
