"""Records of a delimited text in which some quotation marks are wrong.

A mark that opens a cell and is never closed, or is closed in the middle of a later row, would make the usual parser swallow the
rows between. Here a record that is not well-formed is looked at by itself: it is mended where there is one way to, else left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fettle.examples.notes import Note, left_out, repaired

MAX_CELL_CHARACTERS = 1 << 28
_MOST_LINES = 200
"""Of a damaged record that is tried to be mended as one."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text divides its cells."""

    delimiter: str
    width: int
    """Cells of most records."""
    escape: str | None = None
    r"""A backslash where marks inside cells are written `\"`, as databases do; None: they are doubled."""
    has_space: bool = False
    """A space follows each delimiter."""

    @classmethod
    def of(cls, text: str, *, delimiter: str, width: int) -> Dialect:
        """The dialect of a text whose delimiter is known."""
        has_space = re.search(rf'"{re.escape(delimiter)} +"', text.partition("\n")[0]) is not None
        plain = cls(delimiter, width, has_space=has_space)
        if '\\"' not in text or _num_regular(text, plain) is not None:
            return plain
        escaped = cls(delimiter, width, escape="\\", has_space=has_space)
        return plain if _num_regular(text, escaped) is None else escaped


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    cells: list[str] | None
    """None: it is left out, for `note`."""
    note: Note | None = None


def records(text: str, dialect: Dialect) -> Iterator[Record]:
    """The records of a text, those that are damaged each with a note."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    lines = list(io.StringIO(text, newline=""))
    start = 0
    while start < len(lines):
        reader = _reader((lines[at] for at in range(start, len(lines))), dialect)
        num_read = 0
        try:
            for cells in reader:
                num_read = reader.line_num
                yield Record(cells)
        except csv.Error:
            record, num_lines = _mended(lines, start + num_read, start + reader.line_num, dialect)
            yield record
            start += num_read + num_lines
        else:
            return


def _reader(lines: Iterator[str] | io.StringIO, dialect: Dialect) -> Any:
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        escapechar=dialect.escape,
        skipinitialspace=dialect.has_space,
        strict=True,
    )


def _num_regular(text: str, dialect: Dialect) -> int | None:
    """How many records there are; None: one of them is damaged."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        return sum(1 for _ in _reader(io.StringIO(text, newline=""), dialect))
    except csv.Error:
        return None


def _mended(lines: list[str], start: int, failed: int, dialect: Dialect) -> tuple[Record, int]:
    """The damaged record that starts on line `start`, and how many lines it has; the parser gave up before line `failed`."""
    alone = _row(lines[start], dialect)
    if alone is not None and (failed == start + 1 or _row(lines[start + 1], dialect) is not None):
        return Record(alone, _stray_mark()), 1
    for end in range(failed, min(len(lines), start + _MOST_LINES) + 1):
        together = _row("".join(lines[start:end]), dialect)
        if together is not None:
            swallowed = [
                first for first in range(start + 1, end) if _row("".join(lines[first:end]), dialect, has_stray=False)
            ]
            if swallowed:  # it would take a row that is well-formed by itself for a part of its own cell
                num_lines = swallowed[0] - start
                return Record(None, _damaged(num_lines)), num_lines
            return Record(together, _stray_mark()), end - start
    # Where it ran to the end of the file, nobody knows where the record ends.
    num_lines = failed - start if failed < len(lines) else 1
    return Record(None, _damaged(num_lines)), num_lines


def _row(text: str, dialect: Dialect, *, has_stray: bool = True) -> list[str] | None:
    """The cells of a record in which a quotation mark closes a cell only before a delimiter or the end.

    None: there are not as many as there are columns, a line ends outside quotation marks, or, unless `has_stray`, a cell that is
    not quoted holds a mark.
    """
    text = text.rstrip("\r\n")
    pattern = _cell_pattern(dialect.delimiter)
    cells: list[str] = []
    position = 0
    while True:
        found = pattern.match(text, position)
        assert found is not None, "the second branch matches anything"
        if not has_stray and '"' in (found[2] or ""):
            return None
        cells.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        if found.end() == len(text):
            return cells if len(cells) == dialect.width else None
        if text[found.end()] != dialect.delimiter:
            return None
        position = found.end() + 1


@lru_cache(maxsize=8)
def _cell_pattern(delimiter: str) -> re.Pattern[str]:
    edge = rf"[ ]*(?:{re.escape(delimiter)}|\Z)"
    inside = rf'(?:[^"]|""|"(?!"|{edge}))*+'  # each mark can be read in one way only, so nothing is tried twice
    return re.compile(rf'[ ]*"({inside})"[ ]*(?={re.escape(delimiter)}|\Z)|([^{re.escape(delimiter)}\r\n]*)')


def _stray_mark() -> Note:
    return repaired(
        "stray-quote",
        "a quotation mark opens a cell and is not closed, or stands inside a quoted cell; it was read as an ordinary character",
        "close it, or write two quotation marks for one inside a cell",
    )


def _damaged(num_lines: int) -> Note:
    return left_out(
        "stray-quote",
        f"{num_lines} line(s) whose quotation marks can be read in more than one way",
        "write two quotation marks for one inside a cell",
    )
