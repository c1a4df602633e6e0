"""Lines of printed pages to paragraphs: what layout has put in (headers, footers, hyphens, line ends) is taken out again.

Nothing is removed that does not stand elsewhere: of a header that is the same on many pages the first one stays, and only numbers
that rise by one from page to page go.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"},
)
_NUM_EDGE_LINES = 2
"""Lines at the top and at the bottom of a page that may be its header or footer."""
_FULL_PAGE_LINES, _FEWEST_LINES = 12, 3
"""Pages of fewer lines are slides, forms, receipts: only their outermost lines may be, and no number but a page's."""
_PAGE_WORD = re.compile(
    "pages?|p|pg|pp|of|seiten?|s|von|blatt|folie|slide|sheet|sur|de|páginas?|pág|paginas?|pag|di|sidan?|side|av|af|strona|str|z|"
    "stránka|oldal|[第页頁共]+|ページ"
)
_MIN_REPEATS = 3
_MIN_SHARE_OF_PAGES = 0.5
_INTEGER = re.compile(r"\d{1,6}")
_MAX_NUMBERS_IN_LINE = 4
_LETTERS = re.compile(r"[^\W\d_]+")
_HYPHENATED = re.compile(r"(\w+)[-\u2010]$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_INNER_SENTENCE_END = re.compile(r"[.!?][\"'”’»)\]]*(?=\s|$)")
_LIST_MARK = re.compile(r"[•‣▪●○■*–-]\s|\(?\d{1,3}[.)]\s|\(?[a-z][.)]\s")
_MAX_MOVED_LINES = 12
_MAX_WORD_CHARACTERS = 60
_SHORT_LINE, _FULL_LINE = 0.6, 0.85
"""Of the width that most lines have."""


def lines_of_pages(texts: Sequence[str], is_running: Callable[[int, str], bool] | None = None) -> list[list[str]]:
    """The lines of each page, without repeated headers and footers; a sentence that runs on stands on the page it begins on.

    Args:
        texts: Of the pages.
        is_running: Whether a line at the edge of a page (counted from 0) is known to repeat what stands on an earlier one;
            None: nothing is known.
    """
    pages = [[line.strip() for line in text.translate(_LIGATURES).split("\n")] for text in texts]
    pages = _without_running_lines(pages, is_running)
    for earlier, later in pairwise(pages):
        _move_rest_of_sentence(earlier, later)
    return pages


def known_words(pages: Iterable[Sequence[str]]) -> frozenset[str]:
    """Every word that stands inside a line, in lower case: what decides whether a hyphen at a line's end is part of a word."""
    return frozenset(match.group().lower() for page in pages for line in page for match in _WORD.finditer(line[:-1]))


def paragraphs_of(lines: Sequence[str], words: frozenset[str]) -> Iterator[str]:
    r"""The paragraphs that lines of a page make up.

    A paragraph ends at an empty line, and at the end of a sentence in a line that is not full. Short lines stay lines.

    >>> list(paragraphs_of(["We return the sur-", "charge within ten days.", "", "Zone 1"], frozenset({"surcharge"})))
    ['We return the surcharge within ten days.', 'Zone 1']
    """
    lengths = sorted(len(line) for line in lines if line)
    width = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    parts: list[str] = []
    last = ""
    for line in (*lines, ""):
        ends = bool(_SENTENCE_END.search(last)) and len(last) < _FULL_LINE * width
        if (not line or ends) and parts:
            yield "".join(parts)
            parts = []
        if line:
            _append(parts, line, words, is_short=len(last) < _SHORT_LINE * width)
        last = line


def _append(parts: list[str], line: str, words: frozenset[str], *, is_short: bool) -> None:
    if not parts:
        parts.append(line)
        return
    start = _HYPHENATED.search(parts[-1][-_MAX_WORD_CHARACTERS:])
    if start and line[:1].islower() and (rest := _WORD.match(line[:_MAX_WORD_CHARACTERS])):
        with_hyphen = f"{start[1]}-{rest.group()}".lower()
        is_compound = with_hyphen in words and with_hyphen.replace("-", "") not in words
        parts[-1] = parts[-1] if is_compound else parts[-1][:-1]
    else:
        parts.append("\n" if is_short or _LIST_MARK.match(line) else " ")
    parts.append(line)


def _without_running_lines(pages: list[list[str]], is_running: Callable[[int, str], bool] | None) -> list[list[str]]:
    pages_by_key: dict[str, list[int]] = defaultdict(list)
    for page, lines in enumerate(pages):
        for position in _edge_positions(lines):
            for key in _running_keys(lines[position], page, is_full=_is_full(lines)):
                pages_by_key[key].append(page)
    running = {
        key: found[0]
        for key, found in pages_by_key.items()
        if len(set(found)) >= max(_MIN_REPEATS, _MIN_SHARE_OF_PAGES * len(pages))
    }
    kept: list[list[str]] = []
    for page, lines in enumerate(pages):
        gone = {
            position
            for position in _edge_positions(lines)
            if (is_running is not None and is_running(page, lines[position]))
            or any(
                running.get(key, page) < page for key in _running_keys(lines[position], page, is_full=_is_full(lines))
            )
        }
        kept.append([line for position, line in enumerate(lines) if position not in gone])
    return kept


def _edge_positions(lines: Sequence[str]) -> list[int]:
    filled = [position for position, line in enumerate(lines) if line]
    num_edge_lines = _NUM_EDGE_LINES if _is_full(lines) else 1 if len(filled) >= _FEWEST_LINES else 0
    return sorted({*filled[:num_edge_lines], *filled[len(filled) - num_edge_lines :]})


def _is_full(lines: Sequence[str]) -> bool:
    return sum(map(bool, lines)) >= _FULL_PAGE_LINES


def _running_keys(line: str, page: int, *, is_full: bool) -> list[str]:
    """What a header has in common on all its pages: itself, or itself with one number as its distance from the page's."""
    keys = [line]
    numbers = list(_INTEGER.finditer(line))
    if len(numbers) <= _MAX_NUMBERS_IN_LINE and (
        is_full or all(map(_PAGE_WORD.fullmatch, _LETTERS.findall(line.lower())))
    ):
        keys += [
            f"{line[: number.start()]}\0{int(number.group()) - page}\0{line[number.end() :]}" for number in numbers
        ]
    return keys


def _move_rest_of_sentence(earlier: list[str], later: list[str]) -> None:
    """Move the end of a sentence that a page break cuts to the page that it begins on."""
    last = next((line for line in reversed(earlier) if line), "")
    first = next((position for position, line in enumerate(later) if line), None)
    if not last or first is None or _SENTENCE_END.search(last) or not later[first][:1].islower():
        return
    for position in range(first, min(first + _MAX_MOVED_LINES, len(later))):
        if not later[position]:
            return
        if end := _INNER_SENTENCE_END.search(later[position]):
            while earlier and not earlier[-1]:
                earlier.pop()
            rest = later[position][end.end() :].strip()
            earlier += [*later[first:position], later[position][: end.end()]]
            later[first : position + 1] = [rest] if rest else []
            return
