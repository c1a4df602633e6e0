"""Rows of a table page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Table, select

from fettle.errors import FettleError

_T = TypeVar("_T")


class UnknownPageError(FettleError):
    """A page is asked for after something that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which part of a list is wanted."""

    limit: int
    """At most so many."""
    after: str | None = None
    """The id of the last one that is known already; None: from the beginning."""
    newest_first: bool = True


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """A part of a list."""

    items: tuple[_T, ...]
    has_more: bool


def read_page(
    connection: Connection,
    table: Table,
    where: Sequence[ColumnElement[bool]],
    request: PageRequest,
    as_record: Callable[[Row[Any]], _T],
) -> Page[_T]:
    """A page of the rows for which all of `where` holds.

    Raises:
        UnknownPageError: `after` names none of these rows.
    """
    number = table.c.number
    wanted = select(table).where(*where)
    if request.after is not None:
        last = connection.execute(select(number).where(*where, table.c.id == request.after)).scalar()
        if last is None:
            raise UnknownPageError(f"there is nothing called {request.after!r} in this list", where="after")
        wanted = wanted.where(number < last if request.newest_first else number > last)
    wanted = wanted.order_by(number.desc() if request.newest_first else number).limit(request.limit + 1)
    rows = connection.execute(wanted).all()
    return Page(tuple(map(as_record, rows[: request.limit])), has_more=len(rows) > request.limit)
