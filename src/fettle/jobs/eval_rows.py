"""Rows of a run: JSON objects with an `item`, and a `sample` where they have an answer already; read strictly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fettle.errors import DataError
from fettle.jobs.eval_sample import given_sample
from fettle.jobs.item_schema import ItemSchema
from fettle.store.evals import NewItem

_MOST_ROWS = 50_000
_MOST_LINE_BYTES = 16 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_KEYS = ("item", "sample")


class BadEvalRowError(DataError):
    """A row that cannot be used, so that the run is not begun."""


def rows_of_content(content: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Rows of a request with what each is called in messages."""
    return ((f"row {number}", value) for number, value in enumerate(content, start=1))


def rows_of_file(file: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a file of JSON Lines with what each is called in messages. Blank lines are passed over.

    Raises:
        BadEvalRowError: A line is no JSON.
    """
    with file.open("rb") as content:
        for number, raw in enumerate(iter(lambda: content.readline(_MOST_LINE_BYTES + 1), b""), start=1):
            line, place = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw, f"line {number}"
            if len(line) > _MOST_LINE_BYTES:
                raise BadEvalRowError(f"{place} has more than the {_MOST_LINE_BYTES:,} bytes that are taken")
            if line.strip(b" \t\r\n"):
                yield place, _value(line, place)


def checked_rows(
    rows: Iterable[tuple[str, Any]], schema: ItemSchema, *, is_sampled: bool, needs_sample: bool
) -> list[NewItem]:
    """The rows as items.

    Args:
        rows: With what each is called.
        schema: What every item has to look like.
        is_sampled: A model answers them, so they need no answer.
        needs_sample: The criteria look at the answer.

    Raises:
        BadEvalRowError: One breaks a rule, or there are none, or too many.
    """
    found: list[NewItem] = []
    for place, value in rows:
        if len(found) == _MOST_ROWS:
            raise BadEvalRowError(f"there are more than {_MOST_ROWS:,} rows", remedy="divide them among several runs")
        item, sample = _parts(value, place)
        if (problem := schema.problem_with(item)) is not None:
            raise BadEvalRowError(f"{place} does not fit the eval's item_schema: {problem}")
        if sample is None and needs_sample and not is_sampled:
            raise BadEvalRowError(
                f"{place} has no `sample`, and a criterion reads it",
                remedy='add "sample": {"output_text": ...}, or let a model answer with the data source `completions`',
            )
        kept = None if is_sampled else given_sample(sample, place)
        found.append(NewItem(position=len(found), item=item, sample=kept))
    if not found:
        raise BadEvalRowError("there are no rows")
    return found


def _parts(value: Any, place: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    if not isinstance(value, dict) or not isinstance(value.get("item"), dict):
        raise BadEvalRowError(f"{place} is no JSON object with an object `item` in it")
    if strangers := [key for key in value if key not in _KEYS]:
        raise BadEvalRowError(f"{place} has the key {strangers[0]!r}, and rows have `item` and `sample` alone")
    sample = value.get("sample")
    if sample is not None and not isinstance(sample, dict):
        raise BadEvalRowError(f"{place}: `sample` is no JSON object")
    _require_text(value, place)
    return value["item"], sample


def _require_text(value: Any, place: str) -> None:
    """Refuse what JSON can say and no database keeps."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadEvalRowError(f"{place} is nested too deeply, or holds half a surrogate pair or no number") from error


def _value(line: bytes, place: str) -> Any:
    try:
        return json.loads(line.decode(), parse_constant=_no_json)
    except UnicodeDecodeError as error:
        raise BadEvalRowError(f"{place} is not UTF-8 (byte {error.start + 1})") from error
    except (ValueError, RecursionError) as error:
        raise BadEvalRowError(f"{place} is not JSON ({str(error)[:200]})") from error


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
