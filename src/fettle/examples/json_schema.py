"""A JSON Schema that every one of some JSON objects satisfies."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

_MAX_ENUM_VALUES = 30
_MAX_ENUM_CHARACTERS = 60
_MIN_ENUM_REPEATS = 5
_MAX_UNSEEN_SHARE = 0.01
_MAX_PROPERTIES = 60
_MAX_DEPTH = 100
_MAX_DECIMALS = 6
_MIN_PROPERTY_SHARE = 0.2


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None when it is anything else.

    >>> parse_object('{"queue": "lost"}'), parse_object("[1]"), parse_object("lost")
    ({'queue': 'lost'}, None, None)
    """
    try:
        value = json.loads(text, parse_constant=refuse_constant, parse_float=finite_number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not is_too_deep(value) else None


def is_too_deep(value: Any) -> bool:
    """Whether objects and arrays lie more than 100 deep in each other: no person's data, and too much for functions that call
    themselves.
    """
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [
            item.values() if isinstance(item, Mapping) else item for item in level if isinstance(item, Mapping | list)
        ]
        level = [item for items in inner for item in items]
        if not level:
            return False
    return True


def refuse_constant(name: str) -> NoReturn:
    """For `json.loads`, which would take NaN and Infinity.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is not JSON; write null")


def finite_number(text: str) -> float:
    """For `json.loads`, which would take 1e999.

    Raises:
        ValueError: The number is too large.
    """
    number = float(text)
    return number if math.isfinite(number) else refuse_constant(text)


def infer_schema(values: Sequence[Any]) -> dict[str, Any]:
    """The schema of some values: types (null included), required keys in the order first seen, no other keys allowed.

    A text field becomes an `enum` when its values are few, short and so often repeated that an unseen one is unlikely: the share of
    values seen once, which estimates the probability of an unseen one, is at most 1 %.
    Source: Good (1953), "The population frequencies of species".

    >>> infer_schema([{"a": 1}, {"a": 2.5, "b": None}])["properties"]
    {'a': {'type': 'number'}, 'b': {'type': 'null'}}
    """
    types = Counter(_type_name(value) for value in values)
    if "number" in types:
        types.pop("integer", None)
    names = sorted(types, key=lambda name: (name == "null", -types[name], name))
    schema: dict[str, Any] = {"type": names[0] if len(names) == 1 else names}
    if objects := [value for value in values if isinstance(value, Mapping)]:
        schema |= _object_schema(objects)
    if arrays := [value for value in values if isinstance(value, list)]:
        items = [item for array in arrays for item in array]
        schema |= {"items": infer_schema(items)} if items else {}
    if set(types) <= {"string", "null"} and (allowed := _enum([value for value in values if value is not None])):
        schema["enum"] = [*allowed, None] if "null" in types else allowed
    return schema


def with_bounds(schema: Mapping[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """The schema with bounds that some values keep with room to spare: lengths of texts and arrays, size and decimals of numbers.

    For writing, not for judging: without bounds a small model that is kept inside the schema may write digits until it is cut off.

    >>> with_bounds({"type": "number"}, [3, 18.5, None])
    {'type': 'number', 'minimum': 0, 'maximum': 999, 'multipleOf': 0.1}
    >>> with_bounds({"type": ["string", "null"]}, ["LB1 2AB", None])
    {'type': ['string', 'null'], 'maxLength': 12}
    """
    bounded = dict(schema)
    if "properties" in schema:
        objects = [value for value in values if isinstance(value, Mapping)]
        bounded["properties"] = {
            key: with_bounds(inner, [value[key] for value in objects if key in value])
            for key, inner in schema["properties"].items()
        }
    if isinstance(others := schema.get("additionalProperties"), Mapping):
        inner = [item for value in values if isinstance(value, Mapping) for item in value.values()]
        bounded["additionalProperties"] = with_bounds(others, inner)
    if arrays := [value for value in values if isinstance(value, list)]:
        bounded["maxItems"] = _with_room(max(map(len, arrays)))
        if "items" in schema:
            bounded["items"] = with_bounds(schema["items"], [item for array in arrays for item in array])
    if "enum" not in schema and (texts := [value for value in values if isinstance(value, str)]):
        bounded["maxLength"] = _with_room(max(map(len, texts)))
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return bounded | (_number_bounds(numbers) if numbers else {})


def _with_room(length: int) -> int:
    return length + length // 4 + 4


def _number_bounds(numbers: Sequence[float]) -> dict[str, Any]:
    """Ten times the largest size, no more decimals than were seen; none of it where exponents or many decimals were."""
    texts = [repr(number) for number in numbers]
    decimals = max(len(text.partition(".")[2].removesuffix("0")) for text in texts)
    if decimals > _MAX_DECIMALS or any("e" in text or "n" in text for text in texts):
        return {}
    largest = 10 ** (len(str(int(max(abs(number) for number in numbers)))) + 1) - 1
    bounds: dict[str, Any] = {"minimum": 0 if min(numbers) >= 0 else -largest, "maximum": largest}
    if any(isinstance(number, float) for number in numbers):
        bounds["multipleOf"] = 10**-decimals if decimals else 1
    return bounds


def _object_schema(objects: list[Mapping[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for value in objects for key in value)
    is_dictionary = len(counts) > _MAX_PROPERTIES and max(counts.values()) < _MIN_PROPERTY_SHARE * len(objects)
    if is_dictionary:
        return {"additionalProperties": infer_schema([item for value in objects for item in value.values()])}
    keys = list(dict.fromkeys(key for value in objects for key in value))
    return {
        "properties": {key: infer_schema([value[key] for value in objects if key in value]) for key in keys},
        "required": [key for key in keys if counts[key] == len(objects)],
        "additionalProperties": False,
    }


def _enum(texts: list[str]) -> list[str] | None:
    counts = Counter(texts)
    num_seen_once = sum(count == 1 for count in counts.values())
    if (
        not counts
        or len(counts) > _MAX_ENUM_VALUES
        or len(texts) < _MIN_ENUM_REPEATS * len(counts)
        or num_seen_once > _MAX_UNSEEN_SHARE * len(texts)
        or max(map(len, counts)) > _MAX_ENUM_CHARACTERS
        or (len(counts) == 1 and len(texts) < 4 * _MIN_ENUM_REPEATS)
    ):
        return None
    return sorted(counts, key=lambda text: (-counts[text], text))


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names[type(value)]
