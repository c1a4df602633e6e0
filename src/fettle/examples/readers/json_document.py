"""A JSON file that is one document: an array of rows, or an object with one array of rows in it."""

from __future__ import annotations

import json
from typing import Any

from fettle.errors import DataError
from fettle.examples.archives import PlainFile
from fettle.examples.encoding import decode_text
from fettle.examples.notes import left_out
from fettle.examples.reader import Row, Rows
from fettle.examples.readers.json_lines import SUFFIXES as LINES_SUFFIXES
from fettle.examples.readers.json_values import parse_row
from fettle.examples.row_formats.registry import format_of

_SPACE = " \t\r\n"


class JsonDocumentReader:
    """Reads an array of objects; `line` of a row is the line on which its object starts."""

    def reads(self, file: PlainFile) -> bool:
        """True for a value of several lines, and for a line that holds several rows."""
        if file.suffix not in (".json", ".txt", "", *LINES_SUFFIXES):
            return False
        text = decode_text(file.data, name=file.name, encoding=file.encoding).text.strip(_SPACE + "\N{BYTE ORDER MARK}")
        if not text.startswith(("[", "{")):
            return False
        first_line, _, rest = text.partition("\n")
        first = _value_of(first_line)
        if text.startswith("["):
            return not rest or first is None or _holds_rows(first)
        if first is None:
            return bool(rest) and _end_of_value(text, 0) is not None
        if rest or not isinstance(first, dict) or format_of(first) is not None:
            return False  # rows, one a line, which may hold lists of their own (tools, passages)
        return sum(map(_holds_rows, first.values())) == 1

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:
        """Every element of the array. An object that has the wanted columns itself is the one row.

        Raises:
            DataError: The document is an object without exactly one array of objects in it, or one key is given twice.
        """
        decoded = decode_text(file.data, name=file.name, encoding=file.encoding)
        text = decoded.text
        start = len(text) - len(text.lstrip(_SPACE + "\N{BYTE ORDER MARK}"))
        is_inside_object, rest, others = text[start] == "{", "", ()
        if is_inside_object:
            end = _end_of_value(text, start)
            rest = "" if end is None else text[end:]
            document = _object_at(text, start, file.name)
            if wanted_columns and set(wanted_columns) <= document.keys():
                line = text.count("\n", 0, start) + 1
                return Rows(rows=(parse_row(text[start:end], line),), notes=decoded.notes)
            start, others = _find_array(text, start, document, file.name)
        rows = _elements(text, start + 1, is_inside_object=is_inside_object)
        if is_inside_object and rest.strip(_SPACE):
            rows = (*rows, _unread_rest(text.count("\n", 0, len(text) - len(rest.lstrip(_SPACE))) + 1))
        rows = (*rows, *others)
        return Rows(rows=rows, notes=decoded.notes)


def _unread_rest(line: int) -> Row:
    note = left_out(
        "not-json", "what follows here is not read", "put all rows into one array, or each on a line of its own"
    )
    return Row(line=line, values=None, notes=(note,))


def _elements(text: str, position: int, *, is_inside_object: bool) -> tuple[Row, ...]:
    """The rows of the array whose first element starts at or after `position`; what follows a syntax error is left out.

    What follows the last array belongs to an object around it, if there is one, and otherwise is told of.
    """
    rows: list[Row] = []
    line, counted_to = 1, 0
    while True:
        position = _skip(text, position, _SPACE + ",")
        line += text.count("\n", counted_to, position)
        counted_to = position
        if text.startswith("]", position):
            rest = _skip(text, position + 1, _SPACE + ",")
            if is_inside_object or not text[rest:].strip():
                return tuple(rows)
            if not text.startswith("[", rest):  # several arrays, one behind the other, are read as one
                return (*rows, _unread_rest(line + text.count("\n", position, rest)))
            position = rest + 1
            continue
        end = _end_of_value(text, position)
        if end is None:
            note = left_out("not-json", "the rest of the file is not valid JSON", "export the file again")
            return (*rows, Row(line=line, values=None, notes=(note,)))
        rows.append(parse_row(text[position:end], line))
        position = end


def _end_of_value(text: str, position: int) -> int | None:
    try:
        return json.JSONDecoder().raw_decode(text, position)[1]
    except (ValueError, RecursionError):
        return None


def _object_at(text: str, start: int, name: str) -> dict[str, Any]:
    """The object that starts there.

    Raises:
        DataError: It gives one of its keys twice, so that a part of it would go unread.
    """
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # of the outermost object last
        return dict(found)

    document: dict[str, Any] = json.JSONDecoder(object_pairs_hook=keep).raw_decode(text, start)[0]
    if len(document) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise DataError(
            f"the key {twice!r} is given twice in one object, and only one of its values could be read",
            where=name,
            remedy="write one row per line (JSON Lines), or all rows into one array",
        )
    return document


def _find_array(text: str, start: int, document: dict[str, Any], name: str) -> tuple[int, tuple[Row, ...]]:
    """The position of the only array of objects among the values of the object that starts at `start`; rows that lie deeper."""
    keys = [key for key, value in document.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(keys) != 1 or "messages" in document:
        raise DataError(
            "expected one JSON object per line or an array of objects, and this is one object",
            where=name,
            remedy="write one row per line (JSON Lines)",
        )
    array, others = start, []
    position = text.index("{", start) + 1
    for key, value in document.items():
        position = text.index(":", _end_of_value(text, _skip(text, position, _SPACE + ",")) or 0) + 1
        position = _skip(text, position, _SPACE)
        if key == keys[0]:
            array = position
        elif _has_rows_inside(value):
            others.append(_unread_part(key, text.count("\n", 0, position) + 1))
        position = _end_of_value(text, position) or position
    return array, tuple(others)


def _has_rows_inside(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_rows_inside, value.values()))
    return isinstance(value, list) and (_holds_rows(value) or any(map(_has_rows_inside, value)))


def _unread_part(key: str, line: int) -> Row:
    note = left_out("not-read", f"the rows in {key!r} are not read", "put all rows into one array")
    return Row(line=line, values=None, notes=(note,))


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _holds_rows(value: Any) -> bool:
    """Whether it is an array of rows, not of the turns of one conversation."""
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(item, dict) and "role" not in item and "from" not in item for item in value)
    )
