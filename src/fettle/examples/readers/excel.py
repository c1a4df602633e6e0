"""Excel workbooks (.xlsx), through openpyxl. The first visible sheet with a table is read; others are named in a finding."""

from __future__ import annotations

import io
from datetime import date, datetime, time
from typing import Any

from fettle.errors import ConfigError, DataError
from fettle.examples.archives import PlainFile
from fettle.examples.notes import warning
from fettle.examples.reader import MAX_ROWS, Rows
from fettle.examples.readers.header import header_row, is_wide, rows_from_table


class ExcelReader:
    """Reads the values of cells as Excel last computed them, never formulas."""

    def reads(self, file: PlainFile) -> bool:
        """By what the archive holds; see `archives`, which sets the suffix."""
        return file.suffix == ".xlsx" and file.data.startswith(b"PK")

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:
        """Every row of the first visible sheet with a table.

        Raises:
            DataError: The workbook is damaged or empty.
            ConfigError: openpyxl is not installed.
        """
        try:
            import openpyxl
        except ImportError as error:
            raise ConfigError(
                "reading Excel files needs the package openpyxl",
                where=file.name,
                remedy="pip install 'fettle-llm[tables]'",
            ) from error
        try:
            workbook = openpyxl.load_workbook(io.BytesIO(file.data), read_only=True, data_only=True)
            visible = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
            tables = {sheet.title: _cells(sheet) for sheet in visible or workbook.worksheets}
        except Exception as error:  # openpyxl lets a dozen kinds through (KeyError, ParseError, …) on damaged workbooks
            raise DataError(
                f"damaged Excel workbook ({error})", where=file.name, remedy="open it and save it again"
            ) from error
        filled = {title: table for title, table in tables.items() if table}
        if not filled:
            raise DataError("the workbook is empty", where=file.name, remedy="give a workbook with rows")
        title = _title_of_examples(filled, wanted_columns)
        table, notes = filled[title], ()
        _refuse_uncomputed(file, title, table)
        if others := [other for other in filled if other != title]:
            note = warning(
                "other-sheets",
                f"only sheet {title!r} is read; passed over: {', '.join(others)}",
                "save the sheet that is wanted as a workbook of its own",
            )
            notes = (note,)
        return rows_from_table(table, wanted_columns, notes=notes, file_name=file.name)


def _title_of_examples(tables: dict[str, list[tuple[int, list[str]]]], wanted_columns: tuple[str, ...]) -> str:
    """The first sheet with a row that names the columns; else the first with several rows of several cells; else the first."""
    named = (title for title, table in tables.items() if header_row(table, wanted_columns) is not None)
    wide = (title for title, table in tables.items() if sum(is_wide(cells) for _, cells in table) > 1)
    return next(named, None) or next(wide, None) or next(iter(tables))


def _refuse_uncomputed(file: PlainFile, title: str, table: list[tuple[int, list[str]]]) -> None:
    """A column that is blank but for its header may hold formulas whose values no program has computed yet."""
    import openpyxl

    width = max(len(cells) for _, cells in table)
    blank = [at for at in range(width) if not any(cells[at].strip() for _, cells in table[1:] if at < len(cells))]
    if not blank:
        return
    sheet: Any = openpyxl.load_workbook(io.BytesIO(file.data), read_only=True)[title]
    for values in sheet.iter_rows(values_only=True, max_row=MAX_ROWS):
        if any(at < len(values) and str(values[at] or "").startswith("=") for at in blank):
            raise DataError(
                "a column holds formulas whose values were never computed",
                where=f"{file.name}, sheet {title!r}",
                remedy="open the workbook in a spreadsheet program and save it",
            )


def _cells(sheet: Any) -> list[tuple[int, list[str]]]:
    """(row number, cells) of the rows that have any text."""
    sheet.reset_dimensions()  # some programs write a wrong size, and what lies outside it would not be read
    rows = (
        (number, [cell_text(value) for value in values])
        for number, values in enumerate(sheet.iter_rows(values_only=True, max_row=MAX_ROWS), start=1)
    )
    return [(number, cells) for number, cells in rows if any(cell.strip() for cell in cells)]


def cell_text(value: object) -> str:
    """A cell as a person sees it.

    >>> cell_text(3.0), cell_text(True), cell_text(None)
    ('3', 'TRUE', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)
