"""Personal data in what is kept: replaced by what kind they are, before anything is written.

What has no form of its own, a name alone in a sentence, is not found (`examples.checks.personal` says more).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fettle.examples.checks.personal import personal_spans

_PREFIX = "personal-"
_KEPT_AS_THEY_ARE = frozenset({"role", "id", "type", "name", "tool_call_id", "finish_reason"})
"""Fields that hold no text of a person's."""


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


def redacted_body(body: Mapping[str, Any], *, is_answer: bool = False) -> dict[str, Any]:
    """A message, or a conversation with its tools, with the texts in it redacted; what a function is called with, too.

    >>> redacted_body({"role": "user", "content": "I am at grace@example.com"})
    {'role': 'user', 'content': 'I am at [email]'}
    """
    return {key: _redacted_field(key, value, is_answer=is_answer) for key, value in body.items()}


def _redacted_field(key: str, value: Any, *, is_answer: bool) -> Any:
    if key in _KEPT_AS_THEY_ARE or key == "tools":  # what functions there are was written by the program's author
        return value
    if key == "arguments" and isinstance(value, str):
        return _redacted_json(value)
    return _redacted_value(value, is_answer=is_answer)


def _redacted_value(value: Any, *, is_answer: bool) -> Any:
    match value:
        case str():
            return redacted(value, is_answer=is_answer)
        case dict():
            return redacted_body(value, is_answer=is_answer)
        case list():
            return [_redacted_value(one, is_answer=is_answer) for one in value]
        case _:
            return value


def _redacted_json(text: str) -> str:
    """JSON with the texts in it redacted, numbers that are personal data become texts; text that is none is redacted as text."""
    try:
        found = json.loads(text)
    except ValueError:
        return redacted(text)
    clean = _redacted_argument(found)
    return text if clean == found else json.dumps(clean, ensure_ascii=False)


def _redacted_argument(value: Any) -> Any:
    match value:
        case str():
            return redacted(value)
        case bool() | None:
            return value
        case int() | float():
            said = redacted(str(value))
            return value if said == str(value) else said
        case dict():
            return {key: _redacted_argument(one) for key, one in value.items()}
        case list():
            return [_redacted_argument(one) for one in value]
        case _:
            return value
