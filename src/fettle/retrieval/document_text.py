"""How text stands in a document, whatever format it is from.

Paragraphs have an empty line between them, the points of a list begin with `- ` or a number, code stands between lines of ```, and
the rows of a table are lines of `| cells |` of which the second divides the header from the rest. Nothing else is markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fettle.retrieval.records import Section

FENCE = "```"
_MAX_HEADING_CHARACTERS = 200
_MAX_FILLED_CELLS = 1_000_000
"""Of a table whose short rows are filled up to the longest one."""
_UNSEEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\u00ad\u200b\ufeff]")
_LINE_ENDS = re.compile("\r\n|[\r\x0c\x85\u2028\u2029]")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def clean_text(text: str) -> str:
    r"""The text without characters that nobody sees, with line feeds as the only line ends.

    >>> clean_text("soft\u00adly\r\nsaid\0")
    'softly\nsaid'
    """
    return _LONE_SURROGATES.sub("\ufffd", _UNSEEN.sub("", _LINE_ENDS.sub("\n", text)))


def clean_line(text: str) -> str:
    r"""The text as one line, without spaces around it.

    >>> clean_line(" How to\n  return ")
    'How to return'
    """
    return " ".join(clean_text(text).split())


def fenced(code: str, language: str = "") -> str:
    """Code as a block of its own; a fence inside it is set apart by a longer one."""
    longest = max((len(run) for run in re.findall("`{3,}", code)), default=2)
    fence = "`" * max(len(FENCE), longest + 1)
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """The rows of a table, of which the first is its header; rows without any text are left out.

    >>> print(table_text([["Zone", "Price"], ["1", "4.90"]]))
    | Zone | Price |
    | --- | --- |
    | 1 | 4.90 |
    """
    filled = [[clean_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    filled = [row for row in filled if any(row)]
    if not filled:
        return ""
    width = max(map(len, filled))
    if width * len(filled) > _MAX_FILLED_CELLS:
        width = 0
    lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in filled]
    return "\n".join([lines[0], f"|{' --- |' * max(width, len(filled[0]))}", *lines[1:]])


class Outline:
    """Collects what stands under which heading, in reading order."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._blocks: list[str] = []
        self._page: int | None = None
        self._is_told = True
        """Whether the last heading stands above some text already."""
        self._sections: list[Section] = []
        self._top: set[tuple[int, str]] = set()
        """Level and text of the headings that stand under no other."""
        self._begins_with_text = False

    def heading(self, level: int, text: str) -> None:
        """A heading, 1 being the outermost level; a very long one is no heading but text."""
        text = clean_line(text)
        if not text:
            return
        if len(text) > _MAX_HEADING_CHARACTERS:
            self.block(text)
            return
        self._finish(next_level=level)
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if not self._path:
            self._top.add((level, text))
        self._path.append((level, text))
        self._is_told = False

    def block(self, text: str) -> None:
        """A paragraph, list, table or piece of code."""
        text = clean_text(text).strip("\n ")
        if text:
            self._begins_with_text |= not self._path
            self._blocks.append(text)
            self._is_told = True

    def leave(self, level: int) -> None:
        """What follows stands no longer under a heading of this level or a lower one, and under none of its own."""
        self._finish(next_level=level)
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._is_told = True

    def begin_page(self, page: int) -> None:
        """What follows is on this page, counted from 1."""
        self._finish(next_level=None)
        self._page = page

    def sections(self) -> tuple[Section, ...]:
        """All that was collected. A heading that nothing stands under is text itself."""
        self._finish(next_level=0)
        return tuple(self._sections)

    def title(self) -> str:
        """The only heading that stands under no other; "" where there are several, or where text before it is not its own."""
        if len(self._top) != 1:
            return ""
        ((level, text),) = self._top
        return text if level == 1 or not self._begins_with_text else ""

    def _finish(self, next_level: int | None) -> None:
        """End the section; `next_level` is that of the heading that follows, None where a page ends."""
        path = tuple(text for _, text in self._path)
        if self._blocks:
            self._sections.append(Section(text="\n\n".join(self._blocks), title_path=path, page=self._page))
        elif not self._is_told and next_level is not None and next_level <= self._path[-1][0]:
            self._sections.append(Section(text=path[-1], title_path=path[:-1], page=self._page))
        self._blocks = []


def without_title(sections: Sequence[Section], title: str) -> tuple[Section, ...]:
    """The sections with a document's title taken out of the paths that it heads."""
    return tuple(
        Section(text=section.text, title_path=section.title_path[1:], page=section.page)
        if section.title_path[:1] == (title,)
        else section
        for section in sections
    )
