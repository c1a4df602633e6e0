"""Comma-, semicolon-, tab- and bar-separated tables, with quoted cells that may hold line breaks."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from fettle.errors import DataError
from fettle.examples.archives import PlainFile
from fettle.examples.encoding import decode_text, has_wrong_bytes, mend_wrong_bytes
from fettle.examples.notes import Note, repaired, warning
from fettle.examples.reader import Rows
from fettle.examples.readers.header import Table, rows_from_table
from fettle.examples.readers.quotation import MAX_CELL_CHARACTERS, Dialect, records

_DELIMITERS = ",;\t|"
_NUM_SNIFFED_RECORDS = 500
_NAMED_DELIMITER = re.compile(r"(sep=([,;\t|]))\r?\n", re.IGNORECASE)
"""What Excel writes above the header where the delimiter is not the country's."""


class DelimitedReader:
    """Reads any text as a table; the delimiter is the one that gives the most regular columns."""

    def reads(self, file: PlainFile) -> bool:  # noqa: ARG002 -- the interface's
        """Always: the last resort."""
        return True

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:
        """Every record that is not blank. `line` is the record's number, as a spreadsheet shows it.

        Raises:
            DataError: No delimiter gives two columns, or there is a header only.
        """
        decoded = decode_text(file.data, name=file.name, encoding=file.encoding)
        notes = list(decoded.notes)
        text = decoded.text.replace("\0", "")
        if len(text) < len(decoded.text):
            notes.append(_null_characters(len(decoded.text) - len(text)))
        if has_wrong_bytes(text):
            text = mend_wrong_bytes(text)
            notes.append(_mixed_encoding())
        named = _NAMED_DELIMITER.match(text)
        text = text[named.end(1) :] if named else text  # the line stays, blank, so that the others keep their numbers
        dialect = _sniffed(text, file, named[2] if named else _DELIMITERS)
        table: list[tuple[int, list[str]]] = []
        row_notes: dict[int, Note] = {}
        for number, record in enumerate(records(text, dialect), start=1):
            if record.note:
                row_notes[number] = record.note
            if record.cells is None or any(cell.strip() for cell in record.cells):
                table.append((number, record.cells or []))
        row_notes |= _swallowed_rows(table, dialect)
        return rows_from_table(table, wanted_columns, notes=tuple(notes), row_notes=row_notes, file_name=file.name)


def _null_characters(count: int) -> Note:
    return repaired("null-characters", f"{count:,} null characters were removed", "export the file again")


def _mixed_encoding() -> Note:
    return warning(
        "mixed-encoding",
        "some bytes are not UTF-8 in a file that mostly is; they were read as Windows-1252",
        "save the file as UTF-8 and look at characters that are not plain letters",
    )


@dataclass(frozen=True, slots=True)
class _Regularity:
    """How well a delimiter fits; the larger the better."""

    share: float
    """Of the records, those with the commonest number of columns."""
    width: int
    """That number."""


def _sniffed(text: str, file: PlainFile, delimiters: str) -> Dialect:
    """The delimiter whose commonest number of columns, from 2 up, is shared by most records."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    found: dict[str, _Regularity] = {}
    for delimiter in delimiters:
        lenient = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        widths = Counter(len(cells) for cells in islice(lenient, _NUM_SNIFFED_RECORDS) if cells)
        wide = Counter({width: count for width, count in widths.items() if width >= 2})
        if wide:
            width, count = wide.most_common(1)[0]
            found[delimiter] = _Regularity(round(count / widths.total(), 2), width)
    if not found:
        raise DataError(
            "expected a table with at least two columns, and found one",
            where=file.name,
            remedy="give a table with a column for the input and one for the answer, or JSON Lines",
        )
    preferred = "\t" if file.suffix in (".tsv", ".tab") else ""
    best = max(found, key=lambda delimiter: (found[delimiter].share, found[delimiter].width, delimiter == preferred))
    return Dialect.of(text, delimiter=best, width=found[best].width)


def _swallowed_rows(table: Table, dialect: Dialect) -> Iterator[tuple[int, Note]]:
    """A warning where every line inside a quoted cell looks like a row of its own.

    In a table of two columns, where a sentence can have as many commas as a row, its last part must be what other rows end with.
    """
    last_cells = Counter(cells[-1] for _, cells in table if cells)
    for number, cells in table:
        for cell in cells:
            inner = cell.splitlines()[1:-1] if "\n" in cell else []
            parts = [line.split(dialect.delimiter) for line in inner]
            is_like_rows = all(
                len(part) == dialect.width and (dialect.width > 2 or last_cells[part[-1].strip('"')] > 1)
                for part in parts
            )
            if inner and is_like_rows:
                note = warning(
                    "rows-in-a-cell",
                    f"a quoted cell of {len(inner) + 2} lines holds what looks like {len(inner)} rows of its own",
                    "look for a quotation mark that is not closed where it should be",
                )
                yield number, note
