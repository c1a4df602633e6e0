"""Personal data in what is kept: replaced by what kind they are, before anything is written.

What has no form of its own, a name alone in a sentence, is not found (`examples.checks.personal` says more).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fettle.examples.checks.personal import personal_spans
from fettle.examples.checks.personal_kinds import KINDS

_PREFIX = "personal-"
_KEPT_AS_THEY_ARE = frozenset({"role", "id", "type", "tool_call_id", "finish_reason"})
"""Fields that hold no text of a person's."""
_JSON_BEGINS = ("{", "[")
_ESCAPED = re.compile(r"\\u(00[2-7][0-9a-fA-F])")
"""Printable ASCII, as some writers of JSON escape it: `\\u0040` is @."""


def redacted(text: str, *, is_answer: bool = False) -> str:
    """A text with personal data replaced by their kind.

    >>> redacted("Write to grace@example.com, please.")
    'Write to [email], please.'
    """
    parts: list[str] = []
    done = 0
    for span in personal_spans(text, is_answer=is_answer):
        parts += [text[done : span.start], f"[{span.kind.code.removeprefix(_PREFIX)}]"]
        done = span.end
    return "".join([*parts, text[done:]])


def holds_placeholder(text: str) -> bool:
    """Whether something was taken out of a text.

    >>> holds_placeholder("Write to [email]."), holds_placeholder("Write to [us].")
    (True, False)
    """
    return any(f"[{kind.code.removeprefix(_PREFIX)}]" in text for kind in KINDS)


def redacted_body(body: Mapping[str, Any], *, is_answer: bool = False) -> dict[str, Any]:
    """A message, or a conversation with its tools, with the texts in it redacted; what a function is called with, too.

    >>> redacted_body({"role": "user", "content": "I am at grace@example.com"})
    {'role': 'user', 'content': 'I am at [email]'}
    """
    return {key: _redacted_field(key, value, is_answer=is_answer) for key, value in body.items()}


def _redacted_field(key: str, value: Any, *, is_answer: bool) -> Any:
    if key in _KEPT_AS_THEY_ARE or key == "tools":  # what functions there are was written by the program's author
        return value
    if key == "function" and isinstance(value, dict):
        return redacted_body(value) | {name: value[name] for name in ("name",) if name in value}
    if key == "arguments" and isinstance(value, str):
        return _redacted_json(value, is_answer=True)
    return _redacted_value(value, is_answer=is_answer)


def _redacted_value(value: Any, *, is_answer: bool) -> Any:
    match value:
        case str() if value.lstrip().startswith(_JSON_BEGINS):
            return _redacted_json(value, is_answer=is_answer)
        case str():
            return redacted(value, is_answer=is_answer)
        case dict():
            return redacted_body(value, is_answer=is_answer)
        case list():
            return [_redacted_value(one, is_answer=is_answer) for one in value]
        case _:
            return value


def _redacted_json(text: str, *, is_answer: bool) -> str:
    """JSON with the texts in it redacted, numbers that are personal data become texts; text that is none is redacted as text.

    Escapes and names given twice would hide something from who looks at the letters, or at the values, alone.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once_each)
        clean = _redacted_part("", found)
    except (ValueError, RecursionError):
        plain = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
        said = redacted(plain, is_answer=is_answer)
        return text if said == plain else said
    return text if clean == found else json.dumps(clean, ensure_ascii=False)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


def _redacted_part(name: str, value: Any) -> Any:
    """A value as it reads behind its name (`born: 1990-04-01`); a number is no message of its own that is nothing but a code."""
    match value:
        case bool() | None:
            return value
        case str() if value.lstrip().startswith(_JSON_BEGINS):
            return _redacted_json(value, is_answer=True)
        case str() | int() | float():
            before = f"{name}: " if name else ""
            told = f"{before}{value}"
            said = redacted(told, is_answer=True)
            return value if said == told else said.removeprefix(before)
        case dict():
            named = ((redacted(key, is_answer=True), one) for key, one in value.items())
            return {key: _redacted_part(key, one) for key, one in named}
        case list():
            return [_redacted_part(name, one) for one in value]
        case _:
            return value
