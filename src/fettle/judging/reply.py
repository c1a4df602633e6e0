"""Reading what a judge replied. What is not clearly a verdict is none: it is counted, and never guessed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from fettle.scoring.json_values import JsonValue, parse_json


class Pick(StrEnum):
    """Which of the two answers, as they were shown, a reply prefers."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A reply as it was understood."""

    pick: Pick | None
    """None: it is no verdict."""
    reason: str = ""
    """What the judge says for it; "" where it says nothing, or the reply was cut."""


_FENCE = re.compile(r"```(?:json)?[ \t]*\n?(.*?)```", re.DOTALL | re.IGNORECASE)
_BROKEN = re.compile(
    r'(?:```(?:json)?\s*)?\{\s*"verdict"\s*:\s*"(?P<pick>[^"]*)"\s*(?:,(?!.*"verdict").*)?', re.DOTALL | re.IGNORECASE
)
"""An object that begins with its verdict and is cut later, or has a quotation mark in its reason."""
_ALONE = re.compile(
    r"[\W_]*(?:(?:my |final |the )*verdict(?: is)?[\W_]*)?(?:the )?(?P<pick>first|second|tie)(?: answer)?[\W_]*",
    re.IGNORECASE,
)


def read_reply(text: str) -> Reading:
    """The verdict of a reply: of its JSON object, which may stand in a code fence or be broken after the verdict, or of a first
    line that says nothing but the verdict.

    >>> replies = ('{"verdict": "first", "reason": "Right."}', "**Second answer**\\nIt is right.", "First of all, both are good.")
    >>> [reading.pick and reading.pick.value for reading in map(read_reply, replies)]
    ['first', 'second', None]
    """
    stripped = text.strip()
    fenced = _FENCE.findall(stripped)
    for candidate in (stripped, *(fenced if len(fenced) == 1 else ())):
        reading = _read_object(candidate)
        if reading is not None:
            return reading
    if (broken := _BROKEN.fullmatch(stripped)) is not None:
        return Reading(pick=_pick(broken["pick"]))
    first_line, _, rest = stripped.partition("\n")
    if (alone := _ALONE.fullmatch(first_line)) is not None:
        return Reading(pick=_pick(alone["pick"]), reason=rest.strip())
    return Reading(pick=None)


def _read_object(text: str) -> Reading | None:
    """What a JSON object says; None: it is no JSON object."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    reason = value.get("reason")
    return Reading(pick=_pick(value.get("verdict")), reason=reason if isinstance(reason, str) else "")


def _pick(value: JsonValue) -> Pick | None:
    if not isinstance(value, str):
        return None
    return next((pick for pick in Pick if pick == value.strip().lower()), None)
