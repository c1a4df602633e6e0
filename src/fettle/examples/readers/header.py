"""A grid of cells to rows with named columns: is the first row a header, and what if there is none?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fettle.errors import DataError
from fettle.examples.column_names import KNOWN_NAMES, plain_name
from fettle.examples.notes import Note, info, left_out
from fettle.examples.reader import Row, Rows

_MAX_HEADER_CHARACTERS = 40
_MAX_HEADER_WORDS = 5

Table = Sequence[tuple[int, list[str]]]
"""(row number, cells) of the rows that are not blank."""


def rows_from_table(
    table: Table,
    wanted_columns: tuple[str, ...],
    *,
    notes: tuple[Note, ...] = (),
    row_notes: Mapping[int, Note] | None = None,
    file_name: str,
) -> Rows:
    """Rows by column name. A row with text in more cells than there are columns is left out: nobody knows which belong together.

    Args:
        table: The rows.
        wanted_columns: Names the user gave.
        notes: What the reader noticed about the whole file.
        row_notes: What it noticed about rows, by their number.
        file_name: For messages.

    Raises:
        DataError: There is nothing but blank rows, or a header and nothing below it.
    """
    if not table:
        raise DataError("every row of the table is blank", where=file_name, remedy="add a header and examples")
    table, title_notes = _without_titles(table, wanted_columns)
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
    noted = {number: (note,) for number, note in (row_notes or {}).items()}
    rows = tuple(_row(number, cells, names, noted.get(number, ())) for number, cells in body)
    return Rows(rows=rows, notes=(*notes, *title_notes), has_header=has_header)


def _without_titles(table: Table, wanted_columns: tuple[str, ...]) -> tuple[Table, tuple[Note, ...]]:
    """The table from its header on, where rows with a single cell stand above it."""
    filled = [[cell for cell in cells if cell.strip()] for _, cells in table]
    first = next((index for index, cells in enumerate(filled) if len(cells) > 1), 0)
    names = KNOWN_NAMES | {plain_name(name) for name in wanted_columns if not name.isdigit()}
    if first == 0 or names.isdisjoint(map(plain_name, filled[first])):
        return table, ()
    told = " ".join(cell.strip() for _, cells in table[:first] for cell in cells if cell.strip())
    rows = "the row" if first == 1 else f"the {first} rows"
    note = info(
        "title-rows",
        f"{rows} above the table, {told[:80]!r}, {'is' if first == 1 else 'are'} passed over",
        "none is needed",
    )
    return table[first:], (note,)


def _row(number: int, cells: list[str], names: list[str], notes: tuple[Note, ...]) -> Row:
    if any(cell.strip() for cell in cells[len(names) :]):
        note = left_out(
            "too-many-cells",
            f"expected {len(names)} cells, and there are {len(cells)}",
            "put cells that hold the delimiter in double quotes",
        )
        return Row(line=number, values=None, notes=(*notes, note))
    padded = cells[: len(names)] + [""] * (len(names) - len(cells))
    return Row(line=number, values={name: cell for name, cell in zip(names, padded, strict=True) if name}, notes=notes)


def _is_header(table: Table, wanted_columns: tuple[str, ...]) -> bool:
    """Column names are short, differ from each other, and do not turn up again as values below."""
    first = [cell.strip() for cell in table[0][1]]
    filled = [cell for cell in first if cell]
    plain = {plain_name(cell) for cell in filled}
    wanted = {plain_name(name) for name in wanted_columns}
    numbers = {
        name for name in wanted if name.isdigit()
    }  # of columns, where there is no header: a 1 below may be a label
    if plain & (wanted - numbers) or (wanted and wanted <= plain):
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
