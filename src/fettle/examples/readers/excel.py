"""Excel workbooks (.xlsx), through openpyxl. The first sheet with a table is read; other sheets are named in a finding."""

from __future__ import annotations

import io
from datetime import date, datetime, time
from typing import Any

from fettle.errors import ConfigError, DataError
from fettle.examples.archives import PlainFile
from fettle.examples.column_names import plain_name
from fettle.examples.notes import warning
from fettle.examples.reader import MAX_ROWS, Rows
from fettle.examples.readers.header import rows_from_table


class ExcelReader:
    """Reads the values of cells as Excel last computed them, never formulas."""

    def reads(self, file: PlainFile) -> bool:
        """By what the archive holds; see `archives`, which sets the suffix."""
        return file.suffix == ".xlsx" and file.data.startswith(b"PK")

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:
        """Every row of the first sheet with a table: several rows of several cells, and the wanted columns where they are named.

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
            tables = {sheet.title: _cells(sheet) for sheet in workbook.worksheets}
        except Exception as error:  # openpyxl lets a dozen kinds through (KeyError, ParseError, …) on damaged workbooks
            raise DataError(
                f"damaged Excel workbook ({error})", where=file.name, remedy="open it and save it again"
            ) from error
        filled = {title: table for title, table in tables.items() if table}
        if not filled:
            raise DataError("the workbook is empty", where=file.name, remedy="give a workbook with rows")
        title = next((title for title, table in filled.items() if _is_table(table, wanted_columns)), next(iter(filled)))
        table, notes = filled[title], ()
        if others := [other for other in filled if other != title]:
            note = warning(
                "other-sheets",
                f"only sheet {title!r} is read; passed over: {', '.join(others)}",
                "save the sheet that is wanted as a workbook of its own",
            )
            notes = (note,)
        return rows_from_table(table, wanted_columns, notes=notes, file_name=file.name)


def _is_table(rows: list[tuple[int, list[str]]], wanted_columns: tuple[str, ...]) -> bool:
    """Whether a sheet may hold examples, and is no cover or list of notes."""
    wide = [{plain_name(cell) for cell in cells if cell.strip()} for _, cells in rows]
    wide = [names for names in wide if len(names) > 1]
    wanted = {plain_name(name) for name in wanted_columns if not name.isdigit()}
    return len(wide) > 1 and len(wide) * 2 > len(rows) and any(wanted <= names for names in wide)


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
