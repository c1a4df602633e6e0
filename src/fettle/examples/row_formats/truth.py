"""What a row says of its right answer beside the answer: documents that answer it, and other answers that are as right."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from fettle.examples.row_format import Truth
from fettle.examples.row_formats.turns import plain_text

_DOCUMENT_KEYS = ("document_ids", "doc_ids")
_REFERENCE_KEYS = ("references", "answers")
TRUTH_KEYS = (*_DOCUMENT_KEYS, *_REFERENCE_KEYS)
"""Keys that no contender is shown."""
_BETWEEN = re.compile(r"[;\n]")


def truth_of(values: Mapping[str, Any], *, used: Collection[str] = ()) -> Truth:
    """What a row says under `document_ids` or `doc_ids`, and `references` or `answers`.

    Each is a list, a JSON list as text, or text with a semicolon or a line end between the items; `answers` may be an object with
    the list under `text`, as in SQuAD. Items that are empty are left out; an empty cell of a table says nothing.

    Args:
        values: The row.
        used: Keys that hold the input or the answer.

    >>> truth_of({"doc_ids": "returns.md; faq.md", "answers": {"text": ["1931", "in 1931"]}})
    Truth(document_ids=('returns.md', 'faq.md'), references=('1931', 'in 1931'))
    >>> truth_of({"doc_ids": []}).document_ids, truth_of({}).document_ids
    ((), None)
    """
    documents, references = (
        [values[key] for key in keys if key not in used and plain_text(values.get(key)).strip()]
        for keys in (_DOCUMENT_KEYS, _REFERENCE_KEYS)
    )
    return Truth(
        document_ids=_items(documents[0]) if documents else None,
        references=_items(references[0]) if references else (),
    )


def _items(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, Mapping):
        value = value.get("text", [])
    items = value if isinstance(value, list | tuple) else [value]
    texts = (plain_text(item).strip() for item in items)
    return tuple(dict.fromkeys(text for text in texts if text))


def _listed(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            if isinstance(value := json.loads(text), list):
                return value
        except (ValueError, RecursionError):
            pass
    return list(_BETWEEN.split(text))
