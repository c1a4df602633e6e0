"""The numbers of passages with which answers end, read and written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_GROUP = r"\[\d{1,3}(?:\s*[,;]\s*\d{1,3})*\]"
_CITED = re.compile(
    rf"\s*(?:{_GROUP}[ \t]*)+(?=[.!?](?:\s|$)|\s*$)"  # at the end of a sentence, a line or the text
    rf"|(?<=[.!?])[ \t]*(?:{_GROUP}[ \t]*?)+(?=\s)",  # behind the full stop
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedText:
    """An answer and the numbers that it names."""

    text: str
    """Without them."""
    numbers: tuple[int, ...]
    """Each once, in the order in which they are named."""


def read_citations(text: str) -> CitedText:
    """The numbers in brackets at the ends of an answer's sentences; brackets elsewhere are part of what it says.

    >>> read_citations("Five days [2].")
    CitedText(text='Five days.', numbers=(2,))
    >>> read_citations("Five days. [1][3] Mail us. [3, 4]")
    CitedText(text='Five days. Mail us.', numbers=(1, 3, 4))
    >>> read_citations("Set a[2] to 5")
    CitedText(text='Set a[2] to 5', numbers=())
    """
    numbers = [int(number) for found in _CITED.finditer(text) for number in re.findall(r"\d+", found[0])]
    return CitedText(text=_CITED.sub("", text).strip() if numbers else text, numbers=tuple(dict.fromkeys(numbers)))


def unnumbered(text: str) -> str:
    """A text in which no number would be read as one of a passage.

    >>> unnumbered("Opened in 1931.[2][3] It has a[4] and b[5].")
    'Opened in 1931.[ 2][ 3] It has a[4] and b[ 5].'
    """
    while _CITED.search(text):
        text = _CITED.sub(lambda found: found[0].replace("[", "[ "), text)
    return text


def citation_places(text: str) -> tuple[tuple[int, int], ...]:
    """The same numbers, each time with where its brackets begin, in characters.

    >>> citation_places("Five days. [1][3] Mail us. [3, 4]")
    ((11, 1), (14, 3), (27, 3), (27, 4))
    """
    brackets = [found.start() + one.start() for found in _CITED.finditer(text) for one in re.finditer(r"\[", found[0])]
    return tuple(
        (place, int(number))
        for place in brackets
        for number in re.findall(r"\d+", text[place : text.index("]", place)])
    )


def with_citations(text: str, numbers: Sequence[int]) -> str:
    """An answer that names its passages.

    >>> with_citations("Five days.", [2, 3])
    'Five days. [2][3]'
    """
    return " ".join([text.rstrip(), "".join(f"[{number}]" for number in numbers)]) if numbers else text
