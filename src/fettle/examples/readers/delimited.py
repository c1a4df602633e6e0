"""Comma-, semicolon-, tab- and bar-separated tables, with quoted cells that may hold line breaks."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from fettle.errors import DataError
from fettle.examples.archives import PlainFile
from fettle.examples.encoding import decode_text, has_wrong_bytes, mend_wrong_bytes
from fettle.examples.notes import Note, repaired, warning
from fettle.examples.reader import Rows
from fettle.examples.readers.header import rows_from_table

_DELIMITERS = ",;\t|"
_NUM_SNIFFED_RECORDS = 500
_MAX_CELL_CHARACTERS = 1 << 28
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
        if has_wrong_bytes(text):
            text = mend_wrong_bytes(text)
            notes.append(_mixed_encoding())
        named = _NAMED_DELIMITER.match(text)
        text = text[named.end(1) :] if named else text  # the line stays, blank, so that the others keep their numbers
        delimiter = named[2] if named else _sniff_delimiter(text, file)
        table: list[tuple[int, list[str]]] = []
        row_notes: dict[int, Note] = {}
        for number, (cells, note) in enumerate(_records(text, delimiter), start=1):
            if any(cell.strip() for cell in cells):
                table.append((number, cells))
                if note:
                    row_notes[number] = note
        return rows_from_table(table, wanted_columns, notes=tuple(notes), row_notes=row_notes, file_name=file.name)


def _mixed_encoding() -> Note:
    return warning(
        "mixed-encoding",
        "some bytes are not UTF-8 in a file that mostly is; they were read as Windows-1252",
        "save the file as UTF-8 and look at characters that are not plain letters",
    )


def _sniff_delimiter(text: str, file: PlainFile) -> str:
    """The delimiter whose commonest number of columns, from 2 up, is shared by most records."""
    scores: dict[str, tuple[float, int]] = {}
    for delimiter in _DELIMITERS:
        widths = Counter(len(cells) for cells, _ in islice(_records(text, delimiter), _NUM_SNIFFED_RECORDS) if cells)
        wide = Counter({width: count for width, count in widths.items() if width >= 2})
        if wide:
            width, count = wide.most_common(1)[0]
            scores[delimiter] = (round(count / widths.total(), 2), width)
    if not scores:
        raise DataError(
            "expected a table with at least two columns, and found one",
            where=file.name,
            remedy="give a table with a column for the input and one for the answer, or JSON Lines",
        )
    preferred = "\t" if file.suffix in (".tsv", ".tab") else ""
    return max(scores, key=lambda delimiter: (scores[delimiter], delimiter == preferred))


def _records(text: str, delimiter: str) -> Iterator[tuple[list[str], Note | None]]:
    """The cells of each record, and what was wrong with its quotation marks.

    A mark that opens a cell and is never closed, or is closed in the middle of a later row, would swallow the rows between: the
    line it stands on is then read as a record by itself, and so is the next.
    """
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    lines = list(io.StringIO(text, newline=""))
    start = 0
    while start < len(lines):
        reader = csv.reader((lines[at] for at in range(start, len(lines))), delimiter=delimiter, strict=True)
        num_read = 0
        try:
            for cells in reader:
                num_lines, num_read = reader.line_num - num_read, reader.line_num
                yield cells, _swallowed_rows(cells, delimiter) if num_lines > 1 else None
        except csv.Error:
            yield _cells_of_line(lines[start + num_read], delimiter), _stray_quote()
            start += num_read + 1
        else:
            return


def _cells_of_line(line: str, delimiter: str) -> list[str]:
    """The cells of one line in which a quotation mark closes a cell only before a delimiter or the end."""
    edge = re.escape(delimiter)
    cell = re.compile(rf'[ ]*"((?:[^"]|""|"(?![ ]*(?:{edge}|$)))*)"[ ]*(?={edge}|$)|([^{edge}]*)')
    line = line.rstrip("\r\n")
    cells: list[str] = []
    position = 0
    while position <= len(line):
        found = cell.match(line, position)
        assert found is not None, "the second branch matches anything"
        cells.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        position = found.end() + 1
    return cells


def _swallowed_rows(cells: list[str], delimiter: str) -> Note | None:
    """A warning where every line inside a quoted cell has the delimiters of a row of its own."""
    for cell in cells:
        inner = cell.splitlines()[1:-1]
        if inner and len(cells) > 2 and all(line.count(delimiter) == len(cells) - 1 for line in inner):
            return warning(
                "rows-in-a-cell",
                f"a quoted cell of {len(inner) + 2} lines holds what looks like {len(inner)} rows of its own",
                "look for a quotation mark that is not closed where it should be",
            )
    return None


def _stray_quote() -> Note:
    return repaired(
        "stray-quote",
        "a quotation mark opens a cell and is not closed, or stands inside a quoted cell; it was read as an ordinary character",
        "close it, or write two quotation marks for one inside a cell",
    )
