"""Text that was encoded as UTF-8 and read as Windows-1252, as in `Â£20` or `donâ€™t`: found and undone.

Only sequences that cannot be meant are touched. Text spoiled in other ways (question marks, replacement characters) cannot be
brought back and is left to the check.
"""

from __future__ import annotations

import re

# Python's cp1252 has five holes; browsers and spreadsheets read those bytes as Latin-1 control characters.
_HOLES = {0x81: "\x81", 0x8D: "\x8d", 0x8F: "\x8f", 0x90: "\x90", 0x9D: "\x9d"}
_CHAR_OF_BYTE = {byte: _HOLES.get(byte) or bytes([byte]).decode("cp1252") for byte in range(0x80, 0x100)}
_BYTE_OF_CHAR = {char: byte for byte, char in _CHAR_OF_BYTE.items()}


def _characters(first: int, last: int) -> str:
    return "[" + re.escape("".join(_CHAR_OF_BYTE[byte] for byte in range(first, last + 1))) + "]"


_CONTINUATION = _characters(0x80, 0xBF)
_DOUBLY_ENCODED = re.compile(
    f"{_characters(0xC2, 0xC3)}{_CONTINUATION}"  # Western European letters, pound and degree signs
    f"|â{_CONTINUATION}{{2}}"  # quotes, dashes, the euro sign
    f"|ï(?:»¿|¿½)"  # byte order mark, replacement character
    f"|ð{_CONTINUATION}{{3}}"  # emoji
)


def undo_double_encoding(text: str) -> str:
    """The text as it was meant; the same object when nothing is wrong with it.

    >>> undo_double_encoding("Please refund Â£20, donâ€™t wait"), undo_double_encoding("NESTLÉ® â la carte")
    ('Please refund £20, don’t wait', 'NESTLÉ® â la carte')
    """
    while not text.isascii():
        shorter = _undo_once(text)
        if shorter == text:
            break
        text = shorter
    return text


def _undo_once(text: str) -> str:
    whole = _undo(text)
    if whole is not None and len(whole) < len(text) - 1:
        return whole
    return _DOUBLY_ENCODED.sub(lambda match: _undo(match.group()) or match.group(), text)


def _undo(text: str) -> str | None:
    try:
        return bytes(_BYTE_OF_CHAR.get(char) or _ascii_code(char) for char in text).decode("utf-8")
    except ValueError:
        return None


def _ascii_code(char: str) -> int:
    if ord(char) > 0x7F:
        raise ValueError(char)
    return ord(char)
