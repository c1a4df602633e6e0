"""Rows of tables and JSON Lines as documents: a text with what is known of it, or a question and its answer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fettle.examples.column_names import plain_name
from fettle.examples.notes import UnusableRowError, info
from fettle.examples.row_formats.registry import format_of
from fettle.records import Finding, Location, Message
from fettle.retrieval.document_reader import DocumentFile, UnreadableDocumentError, document_from
from fettle.retrieval.document_text import clean_line, clean_text
from fettle.retrieval.records import AttributeValue, Document, Section

_TEXT_NAMES = ("text", "content", "contents", "body", "document", "passage", "page_content", "article")
_QUESTION_NAMES = ("question", "query", "prompt", "input", "q", "title", "subject")
_ANSWER_NAMES = ("answer", "response", "reply", "output", "completion", "a")
_TITLE_NAMES = ("title", "heading", "headline", "name", "subject")
_ID_NAMES = ("id", "_id", "doc_id", "document_id", "docid", "uuid", "key")
_MAX_HEADING_CHARACTERS = 160
"""Longer questions stand in the text, not above it."""
MAX_ATTRIBUTE_CHARACTERS = 512
_MAX_ATTRIBUTES = 64
MAX_EXACT_INTEGER = 1 << 53
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


class RowDocuments:
    """Makes documents of a file's rows, and remembers what it left out of them.

    Args:
        file: The file, for names.
    """

    def __init__(self, file: DocumentFile) -> None:
        self._file = file
        self._too_long: dict[str, None] = {}
        self._num_documents = 0

    def document(self, values: Mapping[str, Any], row: int) -> Document | Finding:
        """The document in a row, or why there is none.

        Args:
            values: By the names of their columns.
            row: Counted from 1, as an editor shows it.
        """
        place = Location(file=self._file.name, line=row)
        try:
            title, text, used = _title_and_text(values)
            own_id = _first(values, _ID_NAMES)
            document = document_from(
                self._file,
                title=title,
                sections=(Section(text=text),),
                attributes=self._attributes(values, {*used, *([own_id] if own_id else [])}),
                row=row,
                own_id=_scalar_text(values[own_id]) if own_id else None,
            )
        except UnusableRowError as error:
            return error.note.at(place)
        except UnreadableDocumentError as error:
            return error.note.at(place)
        self._num_documents += 1
        return document

    def findings(self) -> Iterator[Finding]:
        """What to say of all rows together, once they are read."""
        if self._too_long:
            names = ", ".join(list(self._too_long)[:10])
            text = f"longer than {MAX_ATTRIBUTE_CHARACTERS} characters somewhere, and no attribute there: {names}"
            yield info("long-attribute", text, "put what is to be found into the text").about(self._file.name)

    def _attributes(self, values: Mapping[str, Any], used: set[str]) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {}
        for name, value in values.items():
            kept = _attribute(value)
            if name in used or kept is None or kept == "":
                continue
            if isinstance(kept, str) and len(kept) > MAX_ATTRIBUTE_CHARACTERS:
                self._too_long[name] = None
            elif len(attributes) < _MAX_ATTRIBUTES:
                attributes[clean_line(name)] = kept
        return attributes


def with_numbers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table with the texts of a column as numbers, where all of its cells are plain numbers.

    >>> with_numbers([{"year": "2026", "postcode": "01067"}, {"year": "", "postcode": "10115"}])
    [{'year': 2026, 'postcode': '01067'}, {'year': '', 'postcode': '10115'}]
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {
        name
        for name in names
        if plain_name(name) not in _ID_NAMES
        and all(_NUMBER.fullmatch(str(row.get(name) or "0").strip()) for row in rows)
    }
    return [{name: _number(value) if name in numeric else value for name, value in row.items()} for row in rows]


def _number(value: Any) -> Any:
    text = str(value or "").strip()
    return value if not text else float(text) if "." in text else int(text)


def _title_and_text(values: Mapping[str, Any]) -> tuple[str, str, set[str]]:
    """The title, the text, and the columns that they are from.

    Raises:
        UnusableRowError: The row has neither a text nor a question with its answer, or they are empty.
    """
    question, text = _first(values, _QUESTION_NAMES), _first(values, _TEXT_NAMES)
    answer = _first(values, _ANSWER_NAMES) or _first(values, _ANSWER_NAMES, is_filled=False)
    if question and answer and not (text and plain_name(question) in _TITLE_NAMES):
        title, body = _question_and_answer(_scalar_text(values[question]), _scalar_text(values[answer]))
        return title, body, {question, answer}
    if text:
        title_name = _first(values, _TITLE_NAMES)
        title = str(values[title_name]) if title_name else ""
        return title, clean_text(str(values[text])), {text, *([title_name] if title_name else [])}
    if row_format := format_of(values):
        conversation = row_format.convert(values)
        title, body = _question_and_answer(
            _asked(conversation.messages), conversation.messages[-1].content if conversation.messages else ""
        )
        return title, body, set(values)
    raise _no_document(values, question=question)


def _no_document(values: Mapping[str, Any], *, question: str | None) -> UnusableRowError:
    """Why a row is none: a column that matters is empty, or is not there."""
    for names, code, is_needed in (
        (_TEXT_NAMES, "no-text", True),
        (_QUESTION_NAMES, "empty-question", question is None and _first(values, _ANSWER_NAMES, is_filled=False)),
    ):
        column = _first(values, names, is_filled=False)
        if is_needed and column is not None and not str(values[column] or "").strip():
            return UnusableRowError(code, f"the column {column!r} is empty", "fill it, or remove the row")
    return UnusableRowError(
        "unknown-form",
        f"neither a text nor a question with its answer; columns present: {', '.join(map(str, list(values)[:10]))}",
        "name the columns id, title and text, or question and answer",
    )


def _question_and_answer(question: str, answer: str) -> tuple[str, str]:
    line = clean_line(question)
    if not clean_text(answer).strip():
        raise UnusableRowError("empty-answer", "the answer is empty", "fill it, or remove the row")
    if len(line) <= _MAX_HEADING_CHARACTERS:
        return line, clean_text(answer)
    return "", f"{clean_text(question)}\n\n{clean_text(answer)}"


def _asked(messages: Sequence[Message]) -> str:
    """What the user says before the last answer."""
    return "\n\n".join(message.content for message in messages[:-1] if message.role == "user")


def _first(values: Mapping[str, Any], names: Sequence[str], *, is_filled: bool = True) -> str | None:
    """The column that has the first of these names and, unless it may be empty, holds a text or a number."""
    by_plain_name = {plain_name(str(name)) or str(name): name for name in reversed(list(values))}
    by_plain_name |= {str(name): name for name in values}
    found = (by_plain_name[name] for name in names if name in by_plain_name)
    return next((name for name in found if not is_filled or _scalar_text(values[name])), None)


def _scalar_text(value: Any) -> str:
    """A text or a number as text; "" for everything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()


def _attribute(value: Any) -> AttributeValue | None:
    if isinstance(value, str):
        return clean_text(value).strip()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_EXACT_INTEGER else str(value)[:MAX_ATTRIBUTE_CHARACTERS]
    return value if isinstance(value, float) and math.isfinite(value) else None
