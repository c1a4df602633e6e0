"""A grid of cells to rows with named columns: is the first row a header, and what if there is none?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fettle.errors import DataError
from fettle.examples.column_names import ANSWER_NAMES, INPUT_NAMES, KNOWN_NAMES, plain_name
from fettle.examples.notes import Note, info, left_out, warning
from fettle.examples.reader import Row, Rows
from fettle.records import Action

_MAX_HEADER_CHARACTERS = 40
_MAX_HEADER_WORDS = 5
_MOST_TITLE_ROWS = 20

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
    at = _header_index(table, wanted_columns)
    width = Counter(len(cells) for _, cells in table).most_common(1)[0][0]
    if at is None:
        names = [f"column {number}" for number in range(1, width + 1)]
        text = f"the first row is no header; columns are called {', '.join(names)}"
        notes = (*notes, info("no-header", text, "add a header row"))
        body, above = table, ()
    else:
        names = _unique_names(table[at][1])
        titles = [(number, cells) for number, cells in table[:at] if not is_wide(cells)]
        notes = (*notes, *_title_notes(titles), *_repeated_name_notes(names, table[at][1]))
        above = tuple(_above_header(number) for number, cells in table[:at] if is_wide(cells))
        body = table[at + 1 :]
    if not body:
        raise DataError("there is a header and no row below it", where=file_name, remedy="add examples")
    header = None if at is None else _stripped(table[at][1])
    noted = {number: (note,) for number, note in (row_notes or {}).items()}
    rows = tuple(
        _repeated_header(number) if _stripped(cells) == header else _row(number, cells, names, noted.get(number, ()))
        for number, cells in body
    )
    return Rows(rows=(*above, *rows), notes=notes, has_header=at is not None)


def header_row(table: Table, wanted_columns: tuple[str, ...]) -> int | None:
    """The place of the first row, near the top, that names an input and an answer, or all the wanted columns."""
    wanted = {plain_name(name) for name in wanted_columns if not name.isdigit()}
    for index, (_, cells) in enumerate(table[:_MOST_TITLE_ROWS]):
        names = {plain_name(cell) for cell in cells if cell.strip()}
        if (wanted and wanted <= names) or (names & INPUT_NAMES and names & ANSWER_NAMES):
            return index
    return None


def _header_index(table: Table, wanted_columns: tuple[str, ...]) -> int | None:
    """The place of the header; rows above it are titles. None: there is no header."""
    named = header_row(table, wanted_columns)
    if named is not None:
        return named
    first = next((index for index, (_, cells) in enumerate(table) if is_wide(cells)), 0)
    if 0 < first < len(table) - 1 and _is_header(table[first:], wanted_columns, by_name=False):
        return first
    return 0 if _is_header(table, wanted_columns) else None


def is_wide(cells: Sequence[str]) -> bool:
    """Whether more than one cell of a row is filled: a title has one."""
    return sum(bool(cell.strip()) for cell in cells) > 1


def _title_notes(above: Table) -> tuple[Note, ...]:
    if not above:
        return ()
    told = " ".join(cell.strip() for _, cells in above for cell in cells if cell.strip())
    rows = "the row" if len(above) == 1 else f"the {len(above)} rows"
    passed = f"{rows} above the table, {told[:80]!r}, {'is' if len(above) == 1 else 'are'} passed over"
    return (info("title-rows", passed, "name the columns with --input and --answer if the table begins elsewhere"),)


def _repeated_name_notes(names: Sequence[str], cells: Sequence[str]) -> tuple[Note, ...]:
    """Said of every name that several columns have: which of them is meant, the user must decide."""
    given = _stripped(cells)
    repeated = dict.fromkeys(name for name in given if name and given.count(name) > 1)
    return tuple(
        warning(
            "repeated-column",
            f"{given.count(name)} columns are called {name!r}; the later ones are called "
            + ", ".join(
                repr(unique) for unique, own in zip(names, given, strict=True) if own == name and unique != name
            ),
            "give each column its own name, or choose with --input and --answer",
        )
        for name in repeated
    )


def _stripped(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _repeated_header(number: int) -> Row:
    note = left_out("repeated-header", "repeats the header: tables were joined", "remove the row")
    return Row(line=number, values=None, notes=(note,))


def _above_header(number: int) -> Row:
    note = left_out(
        "row-above-header",
        "stands above the row that names the columns, and is filled like a row of the table",
        "move it below the header, or remove it",
    )
    return Row(line=number, values=None, notes=(note,))


def _row(number: int, cells: list[str], names: list[str], notes: tuple[Note, ...]) -> Row:
    if any(note.action is Action.LEFT_OUT for note in notes):
        return Row(line=number, values=None, notes=notes)
    if any(cell.strip() for cell in cells[len(names) :]):
        note = left_out(
            "too-many-cells",
            f"expected {len(names)} cells, and there are {len(cells)}",
            "put cells that hold the delimiter in double quotes",
        )
        return Row(line=number, values=None, notes=(*notes, note))
    padded = cells[: len(names)] + [""] * (len(names) - len(cells))
    return Row(line=number, values={name: cell for name, cell in zip(names, padded, strict=True) if name}, notes=notes)


def _is_header(table: Table, wanted_columns: tuple[str, ...], *, by_name: bool = True) -> bool:
    """Column names are short, differ from each other, and do not turn up again as values below."""
    first = [cell.strip() for cell in table[0][1]]
    filled = [cell for cell in first if cell]
    plain = {plain_name(cell) for cell in filled}
    wanted = {plain_name(name) for name in wanted_columns}
    # Numbers are of columns where there is no header: a 1 in the first row may be a label.
    numbers = {name for name in wanted if name.isdigit()}
    if plain & (wanted - numbers) or (wanted and wanted <= plain):
        return True
    if len(plain) < len(filled) or not filled or any(_looks_like_data(cell) for cell in filled):
        return False
    if by_name and plain & KNOWN_NAMES:
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
