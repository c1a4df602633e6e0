"""What the routers of a name may spend in a day, counted for all processes together.

An amount is reserved before the large model is asked, in a transaction that no other process can be in at the same time, and
settled when it has answered. The reservation of a process that was killed expires: its amount then counts as spent, since the
request was probably sent. Days are those of UTC, by the clock of who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from fettle.store.database import epoch_now
from fettle.store.release_tables import router_days, router_reservations

_DAYS_KEPT = 400
"""Sums of earlier days are deleted then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterDay:
    """A day of a name's routers."""

    project_id: str
    name: str
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What has become of a day's budget, in the user's currency."""

    spent: float
    reserved: float
    """By requests that are under way."""

    @property
    def taken(self) -> float:
        """What is not to be had any more."""
        return self.spent + self.reserved


def reserve(
    connection: Connection, of: RouterDay, amount: float, *, per_day: float, expires_after_seconds: float
) -> int | None:
    """Set an amount aside; the reservation's number, or None: not so much is left of the day's budget.

    Args:
        connection: In a transaction that writes.
        of: The day.
        amount: What the request may cost.
        per_day: The whole budget.
        expires_after_seconds: When nobody can be at work on it any more.
    """
    _hold(connection, of)
    expired = _reserved(of) & (router_reservations.c.expires_at < epoch_now())
    if lost := _sum(connection, expired):
        connection.execute(delete(router_reservations).where(expired))
        _spend(connection, of, lost)
    taken = read_spending(connection, of).taken
    if taken >= per_day or taken + amount > per_day * (1 + 1e-12):
        return None
    made = connection.execute(
        insert(router_reservations).values(
            project_id=of.project_id,
            name=of.name,
            day=of.day.isoformat(),
            amount=amount,
            expires_at=epoch_now() + expires_after_seconds,
        )
    )
    [number] = made.inserted_primary_key or (None,)
    return number


def settle(connection: Connection, of: RouterDay, number: int, spent: float) -> None:
    """Say what a request has cost. One that was settled, or has expired, stays as it is.

    Args:
        connection: In a transaction that writes.
        of: The day on which it was reserved.
        number: Of the reservation.
        spent: 0 for a request that was never sent.
    """
    _hold(connection, of)
    if connection.execute(delete(router_reservations).where(router_reservations.c.number == number)).rowcount:
        _spend(connection, of, spent)


def read_spending(connection: Connection, of: RouterDay) -> Spending:
    """What was spent and is reserved on a day."""
    spent = connection.execute(select(router_days.c.spent).where(*_is(router_days, of))).scalar()
    return Spending(spent=spent or 0.0, reserved=_sum(connection, _reserved(of)))


def _hold(connection: Connection, of: RouterDay) -> None:
    """Have the day's row to ourselves until the transaction ends, made where there is none; a new one clears away the oldest."""
    values = {"project_id": of.project_id, "name": of.name, "day": of.day.isoformat(), "spent": 0.0}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    made = connection.execute(dialect.insert(router_days).values(**values).on_conflict_do_nothing()).rowcount
    connection.execute(select(router_days.c.spent).where(*_is(router_days, of)).with_for_update())
    if made:
        last = (of.day - timedelta(days=_DAYS_KEPT)).isoformat()
        for table in (router_days, router_reservations):
            same = (table.c.project_id == of.project_id, table.c.name == of.name)
            connection.execute(delete(table).where(*same, table.c.day < last))


def _spend(connection: Connection, of: RouterDay, amount: float) -> None:
    grown: dict[str, Any] = {"spent": router_days.c.spent + amount}
    connection.execute(update(router_days).where(*_is(router_days, of)).values(grown))


def _reserved(of: RouterDay) -> ColumnElement[bool]:
    project, name, day = _is(router_reservations, of)
    return project & name & day


def _is(table: Table, of: RouterDay) -> tuple[ColumnElement[bool], ...]:
    return table.c.project_id == of.project_id, table.c.name == of.name, table.c.day == of.day.isoformat()


def _sum(connection: Connection, where: ColumnElement[bool]) -> float:
    return connection.execute(select(func.sum(router_reservations.c.amount)).where(where)).scalar() or 0.0
