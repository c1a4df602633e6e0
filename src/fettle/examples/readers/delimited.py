"""Comma-, semicolon-, tab- and bar-separated tables, with quoted cells that may hold line breaks."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator

from fettle.errors import DataError
from fettle.examples.archives import PlainFile
from fettle.examples.encoding import decode_text, has_wrong_bytes, mend_wrong_bytes
from fettle.examples.notes import Note, warning
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
        quoting, note = _sniff_quoting(text, delimiter)
        if note:
            notes.append(note)
        records = enumerate(_records(text, delimiter, quoting), start=1)
        table = [(number, cells) for number, cells in records if any(cell.strip() for cell in cells)]
        return rows_from_table(table, wanted_columns, notes=tuple(notes), file_name=file.name)


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
        widths = Counter(
            len(cells)
            for cells, _ in zip(_records(text, delimiter), range(_NUM_SNIFFED_RECORDS), strict=False)
            if cells
        )
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


def _sniff_quoting(text: str, delimiter: str) -> tuple[int, Note | None]:
    """Whether quotation marks wrap cells; a mark that is never closed would swallow the rest of the file."""
    try:
        for _ in _records(text, delimiter, strict=True):
            pass
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            note = warning(
                "unclosed-quote",
                "a quotation mark is never closed; quotation marks were read as ordinary characters",
                "close it, or write two quotation marks for one inside a cell",
            )
            return csv.QUOTE_NONE, note
    return csv.QUOTE_MINIMAL, None


def _records(
    text: str, delimiter: str, quoting: int = csv.QUOTE_MINIMAL, *, strict: bool = False
) -> Iterator[list[str]]:
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=strict)  # pyright: ignore[reportArgumentType]
