"""Rows that nobody has answered yet, where they are so many that they are no slip: told of once, not row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fettle.examples.notes import Note
from fettle.records import Action, Finding, Severity

_CODE = "empty-answer"
_FEWEST = 10
_SHARE = 0.2


def fold_unlabelled(findings: Sequence[Finding], num_rows: int) -> list[Finding]:
    """The findings about the rows of one file, with those about empty answers as one where they are many.

    A ticket export of which a part is labelled is as it should be, and hundreds of errors would hide what is not. Below a fifth of
    the rows an empty answer is taken for a slip, and stays an error at its line.
    """
    empty = [finding for finding in findings if finding.code == _CODE]
    if len(empty) < max(_FEWEST, _SHARE * num_rows):
        return list(findings)
    first = empty[0]
    note = Note(
        code="unlabelled",
        severity=Severity.WARNING,
        action=Action.LEFT_OUT,
        message=f"{len(empty):,} of {num_rows:,} rows, this one first, have no answer",
        remedy="answer more of them if you can; what is answered is used",
    )
    folded = replace(note.about(first.file), line=first.line)
    return [
        folded if finding is first else finding for finding in findings if finding is first or finding.code != _CODE
    ]
