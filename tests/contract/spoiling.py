"""Valid JSON made wrong, one change or several at a time, the same ones for the same seed."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

_NESTED: Any = 1
for _ in range(60):
    _NESTED = [_NESTED]
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 2**31, 2**63, 2**80, -(2**80), 1e308, float("nan"), float("inf"), -0.0,
    "", " ", "\0", "a\0b", "\ud800", "\udc00\ud800", "\u2028", "null", "auto", "1", "../../etc/passwd", "%00", "{{item.x}}", "{{",
    "x" * 10_000, "ä" * 300, [], {}, [[]], [None], [{}], {"": ""}, {"a": None}, {"type": "magic"}, {"\ud800": 1},
    {"__proto__": 1}, _NESTED,
)  # fmt: skip


def spoiled(value: Any, random: Random) -> Any:
    """A JSON value with one to three of its parts replaced, removed, doubled or added."""
    changed = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        changed = _with_one_change(changed, random)
    return changed


def spoiled_bytes(content: bytes, random: Random) -> bytes:
    """Bytes with some cut off, turned or put in."""
    place = random.randrange(len(content) + 1)
    match random.randrange(4):
        case 0:
            return content[:place]
        case 1:
            return content[:place] + random.randbytes(random.randint(1, 4)) + content[place:]
        case 2:
            return content[:place] + random.randbytes(1) + content[place + 1 :]
        case _:
            odd = random.choice(
                (b"\0", b"\r", b"\n", b"\n\n", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"NaN", b"[" * 3_000, b"}")
            )
            return content[:place] + odd + content[place:]


def as_json(value: Any) -> bytes:
    """As a careless client writes it: NaN and halves of surrogate pairs go through."""
    return json.dumps(value).encode()


def _odd(random: Random) -> Any:
    return copy.deepcopy(random.choice(_ODD))


def _with_one_change(value: Any, random: Random) -> Any:
    if not isinstance(value, dict | list) or not value or random.random() < 0.1:
        return _odd(random)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    if random.random() < 0.6:
        value[key] = _with_one_change(value[key], random)
        return value
    match random.randrange(4):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[random.choice(("colour", "", "x" * 300, "\0", "type", "model", "messages"))] = _odd(random)
        case 2 if isinstance(value, list):
            value.insert(random.randrange(len(value) + 1), copy.deepcopy(value[key]))
        case _:
            value[key] = _odd(random)
    return value
