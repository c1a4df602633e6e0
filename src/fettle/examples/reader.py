"""The interface between a file and its rows; `readers/` holds one implementation per way rows lie in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fettle.examples.archives import PlainFile
from fettle.examples.notes import Note

MAX_ROWS = 2_000_000
"""Most rows read from one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row as plain JSON-like values, before anybody knows what its columns mean."""

    line: int
    """Counts from 1; in a table it is the row as a spreadsheet shows it."""
    values: Mapping[str, Any] | None
    """None: the row could not be parsed, and `notes` says why."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All rows of one file."""

    rows: tuple[Row, ...]
    notes: tuple[Note, ...] = ()
    """What was noticed about the whole file."""
    has_header: bool = True
    """False: a table without column names; its columns are named `column 1`, `column 2`, …"""


class Reader(Protocol):
    """One way rows lie in a file."""

    def reads(self, file: PlainFile) -> bool:
        """Whether the file is of this kind, told by its content first and its name second."""
        ...

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:
        """Every row of the file.

        Args:
            file: One for which `reads` is true.
            wanted_columns: Names the user gave; a help in deciding whether the first row of a table is its header.

        Raises:
            DataError: The file as a whole cannot be read.
        """
        ...
