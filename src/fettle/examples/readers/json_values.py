"""JSON text to values, as strictly as the standard says, with what a lenient parser would hide turned into notes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fettle.examples.encoding import has_wrong_bytes
from fettle.examples.json_schema import finite_number, is_too_deep, refuse_constant
from fettle.examples.notes import Note, UnusableRowError, repaired, warning
from fettle.examples.reader import Row

_LONE_SURROGATES = re.compile("[\ud800-\udfff]+")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class _Repeated(dict[str, Any]):
    """An object in which a key was given twice."""


def parse_row(text: str, line: int) -> Row:
    """One JSON object as a row; a row without values when the text is something else."""
    notes: list[Note] = []
    if text.startswith("\N{BYTE ORDER MARK}"):
        text = text.lstrip("\N{BYTE ORDER MARK}")
        notes.append(repaired("byte-order-mark", "starts with a byte order mark", "remove the mark; files were joined"))
    try:
        values = _object_from(text)
    except UnusableRowError as error:
        return Row(line=line, values=None, notes=(*notes, error.note))
    if _has_repeated_key(values):
        notes.append(warning("repeated-key", "a key is given twice; the last value is used", "keep one of them"))
    return row_from_values(values, line, tuple(notes))


def row_from_values(values: Mapping[str, Any], line: int, notes: tuple[Note, ...] = ()) -> Row:
    """A row from parsed values, with characters that no file can hold replaced."""
    clean, was_spoiled = _without_lone_surrogates(values)
    if was_spoiled:
        note = repaired(
            "half-character", "half of a character (a lone surrogate) was replaced by \ufffd", "export the text again"
        )
        notes = (*notes, note)
    return Row(line=line, values=clean, notes=notes)


def _object_from(text: str) -> dict[str, Any]:
    if has_wrong_bytes(text):
        raise UnusableRowError("not-utf8", "holds bytes that are not UTF-8", "save the file as UTF-8")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=refuse_constant, parse_float=finite_number)
    except RecursionError:
        raise UnusableRowError("not-json", "is nested too deeply", "flatten the row") from None
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON: {error.msg.removesuffix(' starting at')} at character {error.pos + 1}"
        raise UnusableRowError("not-json", problem, _json_remedy(text)) from None
    except ValueError as error:
        raise UnusableRowError("not-json", f"is not valid JSON: {error}", _json_remedy(text)) from None
    if is_too_deep(value):
        raise UnusableRowError("not-json", "is nested too deeply", "flatten the row")
    if not isinstance(value, dict):
        kind = "an array" if isinstance(value, list) else f"the value {text[:40]}"
        raise UnusableRowError(
            "not-an-object",
            f"expected one JSON object per line, and this is {kind}",
            'write one {"messages": …} per line',
        )
    return value


def _json_remedy(text: str) -> str:
    stripped = text.strip()
    if stripped.startswith("{'"):
        return "this is Python, not JSON: write the row with json.dumps"
    if stripped.endswith(","):
        return "remove the comma after the object"
    if stripped.startswith("{") and not stripped.endswith("}"):
        return "the row is cut off: export it again"
    return "write the row with a JSON library"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    return values if len(values) == len(pairs) else _Repeated(values)


def _has_repeated_key(value: Any) -> bool:
    if isinstance(value, Mapping):
        return isinstance(value, _Repeated) or any(_has_repeated_key(item) for item in value.values())
    return isinstance(value, list) and any(_has_repeated_key(item) for item in value)


def _without_lone_surrogates(value: Any) -> tuple[Any, bool]:
    if isinstance(value, str):
        if value.isascii() or not _LONE_SURROGATES.search(value):
            return value, False
        return _LONE_SURROGATES.sub(_REPLACEMENT, value), True
    if isinstance(value, Mapping):
        cleaned = [(_without_lone_surrogates(key), _without_lone_surrogates(item)) for key, item in value.items()]
        return {key[0]: item[0] for key, item in cleaned}, any(key[1] or item[1] for key, item in cleaned)
    if isinstance(value, list):
        cleaned_items = [_without_lone_surrogates(item) for item in value]
        return [item for item, _ in cleaned_items], any(spoiled for _, spoiled in cleaned_items)
    return value, False
