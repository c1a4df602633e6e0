"""Which column is the input and which the answer: what the user said, or the one obvious reading of the names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fettle.errors import ConfigError, DataError

INPUT_NAMES = frozenset(
    {
        "text", "message", "input", "question", "prompt", "query", "utterance", "customer_message", "ticket",
        "ticket_text", "body", "email", "request", "review", "sentence", "comment", "instruction"
    }
)  # fmt: skip
ANSWER_NAMES = frozenset(
    {
        "label", "answer", "output", "response", "reply", "completion", "queue", "category", "intent",
        "target", "class", "department", "topic", "sentiment", "triage", "expected", "expected_answer"
    }
)  # fmt: skip
_ID_NAMES = frozenset(
    {
        "id", "ticket_id", "message_id", "row_id", "example_id", "case_id", "case_number", "ticket_number",
        "uuid"
    }
)  # fmt: skip
KNOWN_NAMES = INPUT_NAMES | ANSWER_NAMES | _ID_NAMES
"""Plain names that mark a row of cells as a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMapping:
    """Which column (of a table) or key (of a JSON record) holds what."""

    input: str
    answer: str
    id: str | None = None
    """None: a column that is obviously the identifier, else the file's name and line."""
    group: str | None = None
    """Rows with the same value here stay in one split: a customer, a thread."""


def plain_name(name: str) -> str:
    """A column name without case, spaces and punctuation around words.

    >>> plain_name(" Ticket ID ")
    'ticket_id'
    """
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def guess_columns(columns: Sequence[str], *, where: str) -> ColumnMapping:
    """The mapping that the names make obvious.

    Raises:
        DataError: No name, or more than one, says input or answer.
    """
    inputs = [column for column in columns if plain_name(column) in INPUT_NAMES]
    answers = [column for column in columns if plain_name(column) in ANSWER_NAMES]
    if len(inputs) == 1 and len(answers) == 1:
        return ColumnMapping(input=inputs[0], answer=answers[0], id=guess_id_column(columns))
    unclear = "input" if len(inputs) != 1 else "answer"
    candidates = inputs if unclear == "input" else answers
    found = f"several could be ({', '.join(candidates)})" if candidates else "none is obviously it"
    raise DataError(
        f"cannot tell which column is the {unclear}: {found}; columns present: {_listed(columns)}",
        where=where,
        remedy="name them with --input COLUMN --answer COLUMN",
    )


def guess_id_column(columns: Sequence[str]) -> str | None:
    """The one column that is obviously an identifier; None when there is none, or more than one."""
    found = [column for column in columns if plain_name(column) in _ID_NAMES]
    return found[0] if len(found) == 1 else None


def resolve_columns(wanted: ColumnMapping, columns: Sequence[str], *, where: str) -> ColumnMapping:
    """The mapping with the names as the file spells them.

    Raises:
        DataError: A column is missing; the message names the nearest one present.
        ConfigError: Input and answer are the same column.
    """
    input_name = _resolve(wanted.input, columns, option="--input", where=where)
    answer_name = _resolve(wanted.answer, columns, option="--answer", where=where)
    if input_name == answer_name:
        raise ConfigError(
            f"the input and the answer are the same column, {input_name!r}, so each example would hold its own answer",
            where="--input, --answer",
            remedy=f"name two columns; present: {_listed(columns)}",
        )
    return ColumnMapping(
        input=input_name,
        answer=answer_name,
        id=_resolve(wanted.id, columns, option="--id-column", where=where) if wanted.id else guess_id_column(columns),
        group=_resolve(wanted.group, columns, option="--group", where=where) if wanted.group else None,
    )


def _resolve(name: str, columns: Sequence[str], *, option: str, where: str) -> str:
    if name in columns:
        return name
    by_plain_name = {plain_name(column): column for column in columns}
    if len(by_plain_name) == len(columns) and plain_name(name) in by_plain_name:
        return by_plain_name[plain_name(name)]
    nearest = difflib.get_close_matches(plain_name(name), by_plain_name, n=1, cutoff=0.6)
    hint = f"did you mean {option} {by_plain_name[nearest[0]]!r}?" if nearest else f"name one of them with {option}"
    raise DataError(f"there is no column {name!r}; columns present: {_listed(columns)}", where=where, remedy=hint)


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:20])
    return f"{shown}, and {len(columns) - 20} more" if len(columns) > 20 else shown
