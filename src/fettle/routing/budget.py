"""What may be spent on the large model in a day: reserved before it is asked, settled when it has answered, never counted twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from fettle.errors import require_range
from fettle.store import router_budget
from fettle.store.database import Store


@dataclass(frozen=True, slots=True)
class Reservation:
    """A part of a day's budget that one request may use."""

    number: int
    day: date
    amount: float
    """In the user's currency."""


class Budget(Protocol):
    """Counts what is spent. An implementation over a store counts for all its processes together."""

    def reserve(self, amount: float) -> Reservation | None:
        """Set an amount aside; None: today's budget has not so much left."""
        ...

    def settle(self, reservation: Reservation, spent: float) -> None:
        """Say what the request has cost, 0 for one that was never sent. A second call about a reservation does nothing."""
        ...


def utc_today() -> date:
    """The day that is spent on; it changes at midnight UTC."""
    return datetime.now(UTC).date()


class DailyBudget:
    """The budget of one process, in memory; safe for threads.

    What is reserved counts as spent until it is settled, so that requests at the same time cannot overspend together. The last
    request may overspend by what it cost above its reservation.

    Args:
        per_day: In the user's currency; 0 forbids the large model.
        today: Tells the day.

    Raises:
        ConfigError: The budget is below 0, or no number.
    """

    def __init__(self, per_day: float, *, today: Callable[[], date] = utc_today) -> None:
        require_range("budget_per_day", per_day, low=0)
        self._per_day, self._today = per_day, today
        self._lock = threading.Lock()
        self._open: dict[int, Reservation] = {}
        self._spent, self._day, self._next = 0.0, today(), 0

    @property
    def spent_today(self) -> float:
        """What was spent today, with what is reserved."""
        with self._lock:
            self._turn_day()
            return self._spent + self._reserved()

    def reserve(self, amount: float) -> Reservation | None:
        """As `Budget.reserve`.

        Raises:
            ConfigError: The amount is below 0, or no number.
        """
        require_range("amount", amount, low=0)
        with self._lock:
            self._turn_day()
            taken = self._spent + self._reserved()
            if taken >= self._per_day or taken + amount > self._per_day * (1 + 1e-12):
                return None
            reservation = Reservation(self._next, self._day, amount)
            self._next += 1
            self._open[reservation.number] = reservation
            return reservation

    def settle(self, reservation: Reservation, spent: float) -> None:
        """As `Budget.settle`. A request that ends on the next day is spent on the day on which it began.

        Raises:
            ConfigError: The amount is below 0, or no number.
        """
        require_range("spent", spent, low=0)
        with self._lock:
            self._turn_day()
            if self._open.pop(reservation.number, None) is not None and reservation.day == self._day:
                self._spent += spent

    def _reserved(self) -> float:
        return sum(one.amount for one in self._open.values() if one.day == self._day)

    def _turn_day(self) -> None:
        if (today := self._today()) != self._day:
            self._day, self._spent = today, 0.0


class StoredBudget:
    """The budget of all processes over one store; see `fettle.store.router_budget`.

    Args:
        store: Where it is counted.
        project_id: Whose.
        name: What the routers answer to: a name's releases share one budget.
        per_day: In the user's currency; 0 forbids the large model.
        expires_after_seconds: When the reservation of a process that has not settled it counts as spent.
        today: Tells the day.

    Raises:
        ConfigError: The budget is below 0, or no number.
    """

    def __init__(
        self,
        store: Store,
        project_id: str,
        name: str,
        *,
        per_day: float,
        expires_after_seconds: float,
        today: Callable[[], date] = utc_today,
    ) -> None:
        require_range("budget_per_day", per_day, low=0)
        self._store, self._project_id, self._name = store, project_id, name
        self._per_day, self._expires_after, self._today = per_day, expires_after_seconds, today

    def reserve(self, amount: float) -> Reservation | None:
        """As `Budget.reserve`.

        Raises:
            ConfigError: The amount is below 0, or no number.
            DatabaseAwayError: It cannot be counted.
        """
        require_range("amount", amount, low=0)
        day = self._today()
        with self._store.writing() as connection:
            number = router_budget.reserve(
                connection,
                self._of(day),
                amount,
                per_day=self._per_day,
                expires_after_seconds=self._expires_after,
            )
        return None if number is None else Reservation(number, day, amount)

    def settle(self, reservation: Reservation, spent: float) -> None:
        """As `Budget.settle`. A request that ends on the next day is spent on the day on which it began.

        Raises:
            ConfigError: The amount is below 0, or no number.
            DatabaseAwayError: It cannot be counted; the reservation then expires.
        """
        require_range("spent", spent, low=0)
        with self._store.writing() as connection:
            router_budget.settle(connection, self._of(reservation.day), reservation.number, spent)

    def _of(self, day: date) -> router_budget.RouterDay:
        return router_budget.RouterDay(project_id=self._project_id, name=self._name, day=day)
