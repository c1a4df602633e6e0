"""Names of what is kept: a prefix that says its kind, and letters and digits that nobody can guess."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 24
_MODEL_LENGTH = 8


def new_id(prefix: str) -> str:
    """A new id, such as `file-` followed by 24 letters and digits, 143 bits.

    >>> len(new_id("ftjob-"))
    30
    """
    return prefix + _letters(_LENGTH)


def new_model_letters() -> str:
    """What ends the name of a tuned model: 8 letters and digits, as clients know it."""
    return _letters(_MODEL_LENGTH)


def _letters(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))
