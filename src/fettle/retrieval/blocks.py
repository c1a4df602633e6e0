"""A document's text in its blocks, and a block in the pieces that it may be cut into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sentencex import segment  # pyright: ignore[reportAttributeAccessIssue] (compiled, without stubs)

_FENCE = re.compile(r" {0,12}(`{3,})")
_LIST_POINT = re.compile(r"\s*(?:[-*•–]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_TABLE_DIVIDER = re.compile(r"\|(?: ?:?-{3,}:? ?\|)+")
_WORD = re.compile(r"\S+\s*")
_PLAIN_SENTENCE = re.compile(r".+?(?:[.!?]{1,8}[\"'”’»)\]]{0,4}(?=\s)|[。！？]|$)\s*", re.DOTALL)
_LANGUAGE = "en"
"""Whose rules of sentencex are taken; the tests have German abbreviations and Japanese full stops that come out right too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A paragraph, a list, a table or a piece of code."""

    text: str
    is_lines: bool = False
    """It is cut at lines, not at sentences."""
    before: str = ""
    """What every part of it begins with: the header of a table, the fence of code."""
    after: str = ""
    """What every part of it ends with."""

    @property
    def whole(self) -> str:
        """The block as it stands in the document."""
        return f"{self.before}{self.text}{self.after}"


def blocks_of(text: str) -> Iterator[Block]:
    """The blocks of a section's text, in order."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if fence:
            lines.append(line)
            if line.strip() == fence:
                yield from _block(lines)
                lines, fence = [], ""
        elif found := _FENCE.match(line):
            if not _LIST_POINT.match(lines[0] if lines else ""):
                yield from _block(lines)
                lines = []
            lines.append(line)
            fence = found[1]
        elif line.strip():
            lines.append(line)
        else:
            yield from _block(lines)
            lines = []
    yield from _block(lines)


def sentences_of(text: str) -> list[str]:
    """The sentences of a paragraph with the spaces behind them: joined, they are the text.

    Source: sentencex (Wikimedia, MIT), rules and lists of abbreviations.

    >>> sentences_of("Dr. Weiss pays $3.50. That is all.")
    ['Dr. Weiss pays $3.50. ', 'That is all.']
    """
    found = list(segment(_LANGUAGE, text))
    return found if "".join(found) == text else plain_sentences_of(text)


def plain_sentences_of(text: str) -> list[str]:
    """As `sentences_of`, cut behind every full stop: for what holds quotations of many sentences."""
    return _PLAIN_SENTENCE.findall(text)


def lines_of(text: str) -> list[str]:
    """The lines with their ends: joined, they are the text."""
    return text.splitlines(keepends=True)


def words_of(text: str, max_characters: int) -> list[str]:
    """The words with the spaces behind them, those longer than the bound in parts: joined, they are the text.

    >>> words_of("to Donaudampfschiff", 8)
    ['to ', 'Donaudam', 'pfschiff']
    """
    return [
        word[start : start + max_characters]
        for word in _WORD.findall(text)
        for start in range(0, len(word), max_characters)
    ]


def _block(lines: list[str]) -> Iterator[Block]:
    if not lines:
        return
    first = lines[0]
    if (found := _FENCE.match(first)) and len(lines) > 2 and lines[-1].strip() == found[1]:
        yield Block(text="\n".join(lines[1:-1]), is_lines=True, before=f"{first}\n", after=f"\n{lines[-1]}")
    elif len(lines) > 2 and first.startswith("|") and _TABLE_DIVIDER.fullmatch(lines[1].strip()):
        yield Block(text="\n".join(lines[2:]), is_lines=True, before=f"{first}\n{lines[1]}\n")
    else:
        is_lines = bool(_LIST_POINT.match(first) or first.startswith("|") or found)
        yield Block(text="\n".join(lines), is_lines=is_lines)
