"""A JSON Schema that every one of some JSON objects satisfies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_ENUM_VALUES = 30
_MAX_ENUM_CHARACTERS = 60
_MIN_ENUM_REPEATS = 5
_MAX_UNSEEN_SHARE = 0.01
_MAX_PROPERTIES = 60
_MIN_PROPERTY_SHARE = 0.2


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None when it is anything else.

    >>> parse_object('{"queue": "lost"}'), parse_object("[1]"), parse_object("lost")
    ({'queue': 'lost'}, None, None)
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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
