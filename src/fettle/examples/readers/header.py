"""A grid of cells to rows with named columns: is the first row a header, and what if there is none?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fettle.errors import DataError
from fettle.examples.column_names import KNOWN_NAMES, plain_name
from fettle.examples.notes import Note, info, left_out
from fettle.examples.reader import Row, Rows

_MAX_HEADER_CHARACTERS = 40
_MAX_HEADER_WORDS = 5

Table = Sequence[tuple[int, list[str]]]
"""(row number, cells) of the rows that are not blank."""


def rows_from_table(
    table: Table, wanted_columns: tuple[str, ...], *, notes: tuple[Note, ...] = (), file_name: str
) -> Rows:
    """Rows by column name. A row with text in more cells than there are columns is left out: nobody knows which belong together.

    Raises:
        DataError: There is nothing but blank rows, or a header and nothing below it.
    """
    if not table:
        raise DataError("every row of the table is blank", where=file_name, remedy="add a header and examples")
    has_header = _is_header(table, wanted_columns)
    width = Counter(len(cells) for _, cells in table).most_common(1)[0][0]
    names = _unique_names(table[0][1]) if has_header else [f"column {number}" for number in range(1, width + 1)]
    body = table[1:] if has_header else table
    if not body:
        raise DataError("there is a header and no row below it", where=file_name, remedy="add examples")
    if not has_header:
        note = info(
            "no-header", f"the first row is no header; columns are called {', '.join(names)}", "add a header row"
        )
        notes = (*notes, note)
    rows = tuple(_row(number, cells, names) for number, cells in body)
    return Rows(rows=rows, notes=notes, has_header=has_header)


def _row(number: int, cells: list[str], names: list[str]) -> Row:
    if any(cell.strip() for cell in cells[len(names) :]):
        note = left_out(
            "too-many-cells",
            f"expected {len(names)} cells, and there are {len(cells)}",
            "put cells that hold the delimiter in double quotes",
        )
        return Row(line=number, values=None, notes=(note,))
    padded = cells[: len(names)] + [""] * (len(names) - len(cells))
    return Row(line=number, values={name: cell for name, cell in zip(names, padded, strict=True) if name})


def _is_header(table: Table, wanted_columns: tuple[str, ...]) -> bool:
    """Column names are short, differ from each other, and do not turn up again as values below."""
    first = [cell.strip() for cell in table[0][1]]
    filled = [cell for cell in first if cell]
    plain = {plain_name(cell) for cell in filled}
    if plain & {plain_name(name) for name in wanted_columns}:
        return True
    if len(plain) < len(filled) or not filled or any(_looks_like_data(cell) for cell in filled):
        return False
    if plain & KNOWN_NAMES:
        return True
    below = [{cells[index] for _, cells in table[1:] if index < len(cells)} for index in range(len(first))]
    return not any(cell in values for cell, values in zip(first, below, strict=True) if cell)


def _looks_like_data(cell: str) -> bool:
    return (
        len(cell) > _MAX_HEADER_CHARACTERS
        or len(cell.split()) > _MAX_HEADER_WORDS
        or "\n" in cell
        or cell.replace(".", "").replace(",", "").isdigit()
    )


def _unique_names(cells: list[str]) -> list[str]:
    """Stripped names; a repeated one gets a number, an empty one stays empty and its column is dropped with no text in it."""
    names: list[str] = []
    for position, cell in enumerate(cells, start=1):
        name = cell.strip() or f"column {position}"
        names.append(name if name not in names else f"{name} ({position})")
    return names
