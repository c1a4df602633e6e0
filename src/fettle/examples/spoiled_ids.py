"""Identifiers that a spreadsheet took for numbers, as in `3E+05`: their digits are gone."""

from __future__ import annotations

import re

from fettle.examples.notes import Note, warning

_SPOILED = re.compile(r"[+-]?\d+(?:[.,]\d+)?E[+-]?\d+", re.IGNORECASE)


def spoiled_id_note(identifier: str) -> Note | None:
    """A warning when the identifier was rounded by a spreadsheet; None when it looks right.

    >>> spoiled_id_note("T100004") is None, spoiled_id_note("8E+09").code
    (True, 'spoiled-id')
    """
    if not _SPOILED.fullmatch(identifier.strip()):
        return None
    return warning(
        "spoiled-id",
        f"id {identifier!r} was turned into a number by a spreadsheet, and its digits are lost",
        "format the column as text before exporting, and export again",
    )
