"""JSON answers as bags of leaves, so that two of them can be compared field by field.

A leaf is a path and a value. What counts as the same:

- absent, null, and an empty list or object are all "no value" and make no leaf;
- text is compared without case and without surrounding or repeated white space; numbers by value (1 is 1.0); a number is
  never a text;
- a list is a bag: its elements, each taken whole, in any order. An object in a list is one leaf, so that a name from one
  element and a price from another earn nothing.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

JsonKind = Literal["object", "list", "scalar"]
JsonValue = dict[str, "JsonValue"] | list["JsonValue"] | str | int | float | bool | None

_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.DOTALL)
_PLAIN_KEY = re.compile(r"[\w -]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Everything a JSON text says."""

    kind: JsonKind
    counts: Counter[tuple[str, Hashable]]
    """How often each (path, value) occurs; more than once only in lists."""


def parse_json(text: str) -> JsonValue:
    """The value of a JSON text; NaN and Infinity, which JSON does not have, are refused.

    Raises:
        ValueError: `text` is not JSON, or nested too deeply to read.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def kind_of(value: JsonValue) -> JsonKind:
    """What kind of value stands outermost."""
    return "object" if isinstance(value, dict) else "list" if isinstance(value, list) else "scalar"


def read_leaves(text: str) -> Leaves | None:
    """What a JSON text says; None when it is no JSON. A code fence around the whole text is looked into.

    >>> sorted(read_leaves('{"to": {"city": " BATH "}, "tags": ["a", "a"], "note": null}').counts.items())
    [(('tags[]', ('text', 'a')), 2), (('to.city', ('text', 'bath')), 1)]
    """
    fenced = _FENCE.fullmatch(text.strip())
    try:
        value = parse_json(fenced["inside"] if fenced else text)
        return Leaves(kind=kind_of(value), counts=Counter(_leaves(value, "")))
    except (ValueError, RecursionError):
        return None


def _leaves(value: JsonValue, path: str) -> Iterator[tuple[str, Hashable]]:
    if isinstance(value, dict):
        for key, member in value.items():
            part = key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
            yield from _leaves(member, f"{path}.{part}" if path else part)
    elif isinstance(value, list):
        for element in value:
            if (canonical := _canonical(element)) is not None:
                yield f"{path}[]", canonical
    elif (canonical := _canonical(value)) is not None:
        yield path, canonical


def _canonical(value: JsonValue) -> Hashable | None:
    """A hashable stand-in that is equal for values that count as the same; None for "no value"."""
    match value:
        case None:
            return None
        case bool():
            return ("truth", value)
        case int() | float():
            return ("number", value)
        case str():
            return ("text", " ".join(unicodedata.normalize("NFC", value).casefold().split()))
        case list():
            elements = Counter(c for c in map(_canonical, value) if c is not None)
            return ("list", frozenset(elements.items())) if elements else None
        case dict():
            members = {key: c for key, member in value.items() if (c := _canonical(member)) is not None}
            return ("object", frozenset(members.items())) if members else None


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
