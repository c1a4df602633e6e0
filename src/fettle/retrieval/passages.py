"""A document into passages: by headings, then paragraphs, then sentences or lines, and words only where nothing else fits.

How the sizes were chosen: `docs/design/021-passages.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from fettle.errors import ConfigError, require_range
from fettle.retrieval.blocks import Block, blocks_of, lines_of, plain_sentences_of, sentences_of, words_of
from fettle.retrieval.records import Document, Passage, PassageSettings, Section

CountTokens = Callable[[Sequence[str]], list[int]]
"""How long each of many texts is, what the embedder puts around a text included (`PassageEmbedder.count_tokens`)."""

MIN_TOKENS = 32
"""The smallest bound of a passage."""
_MAX_CHARACTERS_PER_TOKEN = 16
"""Longer texts are cut unseen: a tokenizer may call any long word one token, and would need much memory for a whole book."""
_MAX_COUNTED_CHARACTERS = 1 << 20
"""At once."""
_MAX_REPEATED_SHARE = 0.3
"""Of a passage; longer headers of tables stand in the first part alone."""
_BREAK = "\n\n"
_UNKNOWN = -1
"""Tokens of a passage that were not counted yet."""


def cut(document: Document, settings: PassageSettings, count_tokens: CountTokens) -> tuple[Passage, ...]:
    """The passages of a document, in its order; the same document gives the same ones.

    No passage is longer than `settings.max_tokens`, its headings included. Without overlap, all words of the document stand in them
    once and in order; only the header of a table and the fences of code are repeated in each part.

    Args:
        document: With its sections.
        settings: Sizes in tokens.
        count_tokens: Called for many texts at once.

    Raises:
        ConfigError: The sizes cannot be.
    """
    require_range("tokens of a passage", settings.max_tokens, low=MIN_TOKENS)
    require_range("tokens of overlap", settings.overlap_tokens, low=0)
    if 2 * settings.overlap_tokens > settings.max_tokens:
        raise ConfigError(
            f"an overlap of {settings.overlap_tokens} tokens is more than half of a passage of {settings.max_tokens}",
            remedy="take a smaller overlap, or larger passages",
        )
    passages = _Cutter(document, settings, count_tokens).passages()
    return tuple(
        replace(passage, id=f"{document.id}#{position}", position=position) for position, passage in enumerate(passages)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A block, or a part of one that is too long."""

    text: str
    num_tokens: int
    """Without what the embedder puts around a text."""
    page: int | None
    is_continued: bool = False
    """The block began in the part before it."""
    is_prose: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    """All that stands under one heading, on however many pages."""

    sections: tuple[Section, ...]
    text: str
    """Of all sections."""
    num_heading_tokens: int
    num_tokens: int | None
    """Of all of it with its headings; None where that is too much to be counted."""


class _Cutter:
    """Cuts one document."""

    def __init__(self, document: Document, settings: PassageSettings, count_tokens: CountTokens) -> None:
        self._document = document
        self._title = document.title
        self._sections = document.sections
        self._max = settings.max_tokens
        self._overlap = settings.overlap_tokens
        self._count_tokens = count_tokens
        self._num_added = 0
        """What the embedder puts around every text."""

    def passages(self) -> list[Passage]:
        """All of them, not numbered yet."""
        found: list[Passage] = []
        for flow in self._flows():
            if flow.num_tokens is not None and flow.num_tokens <= self._max:
                found.append(self._passage(flow.text, flow.sections[0], flow.num_tokens))
            else:
                found.extend(self._divided(flow))
        return self._bounded(found)

    def _flows(self) -> list[_Flow]:
        groups = [tuple(group) for _, group in groupby(self._sections, key=lambda section: section.title_path)]
        paths = list(dict.fromkeys(group[0].title_path for group in groups))
        texts = [_BREAK.join(section.text for section in group).strip("\n").rstrip() for group in groups]
        is_countable = [bool(text) and self._is_countable(text) for text in texts]
        headings = [self._passage("", Section(text="", title_path=path), 0).embedded_text for path in paths]
        whole = [
            self._passage(text, group[0], 0).embedded_text
            for text, group, counted in zip(texts, groups, is_countable, strict=True)
            if counted
        ]
        counts = self._counts(["", *headings, *whole])
        self._num_added = counts[0]
        heading_tokens = dict(zip(paths, (count - counts[0] for count in counts[1 : 1 + len(paths)]), strict=True))
        if too_long := {path for path, count in heading_tokens.items() if count > self._max // 2}:
            self._shorten_headings(too_long)
            return self._flows()
        totals = iter(counts[1 + len(paths) :])
        return [
            _Flow(
                sections=group,
                text=text,
                num_heading_tokens=heading_tokens[group[0].title_path],
                num_tokens=next(totals) if counted else None,
            )
            for group, text, counted in zip(groups, texts, is_countable, strict=True)
            if text
        ]

    def _shorten_headings(self, too_long: Collection[tuple[str, ...]]) -> None:
        """Have headings that would take more than half of a passage stand in the text, and end the title where it must."""
        self._sections = tuple(
            Section(text=_BREAK.join(filter(None, (" > ".join(one.title_path), one.text))), page=one.page)
            if one.title_path in too_long
            else one
            for one in self._sections
        )
        words = self._words_of(self._title)
        room = self._max // 2 - 1
        for position, count in enumerate(self._counts(words)):
            room -= count - self._num_added
            if room < 0:
                self._title = "".join(words[:position]).strip()
                return

    def _divided(self, flow: _Flow) -> Iterator[Passage]:
        room = self._max - self._num_added - flow.num_heading_tokens
        overlap = min(self._overlap, room // 2)
        limit = max(1, room - overlap)
        before: list[_Part] = []
        for parts in _packed(self._parts(flow, limit), limit):
            text = _BREAK.join(part.text for part in parts)
            if repeated := self._end_of(before, overlap):
                text = f"{repeated}{' ' if parts[0].is_continued else _BREAK}{text}"
            yield self._passage(text, replace(flow.sections[0], page=parts[0].page), _UNKNOWN)
            before = parts

    def _parts(self, flow: _Flow, limit: int) -> list[_Part]:
        blocks = [(block, section.page) for section in flow.sections for block in blocks_of(section.text)]
        counts = iter(self._counts([block.whole for block, _ in blocks if self._is_countable(block.whole)]))
        parts: list[_Part] = []
        for block, page in blocks:
            count = next(counts) - self._num_added if self._is_countable(block.whole) else math.inf
            if count <= limit:
                parts.append(_Part(text=block.whole, num_tokens=int(count), page=page, is_prose=not block.is_lines))
            else:
                parts.extend(self._parts_of_block(block, page, limit))
        return parts

    def _parts_of_block(self, block: Block, page: int | None, limit: int) -> Iterator[_Part]:
        before, after = self._counts([block.before, block.after])
        repeated = before + after - 2 * self._num_added
        if repeated > _MAX_REPEATED_SHARE * limit:
            block, repeated = Block(text=block.whole, is_lines=True), 0
        splitters = (lines_of, sentences_of) if block.is_lines else (sentences_of, plain_sentences_of, lines_of)
        units = self._units(block.text, limit - repeated, (*splitters, self._words_of))
        for number, group in enumerate(_balanced(units, limit - repeated)):
            text = "".join(unit for unit, _ in group).strip("\n").rstrip()
            if not text:
                continue
            yield _Part(
                text=f"{block.before}{text}{block.after}",
                num_tokens=sum(count for _, count in group) + repeated,
                page=page,
                is_continued=number > 0,
                is_prose=not block.is_lines,
            )

    def _units(self, text: str, limit: int, splitters: Sequence[Callable[[str], list[str]]]) -> list[tuple[str, int]]:
        """(text, tokens) of pieces that fit, each as large as the first splitter that makes it fit leaves it."""
        pieces = splitters[0](text)
        counts = iter(self._counts([piece for piece in pieces if self._is_countable(piece)]))
        units: list[tuple[str, int]] = []
        for piece in pieces:
            count = next(counts) - self._num_added if self._is_countable(piece) else math.inf
            if count <= limit or (len(splitters) == 1 and count < math.inf):
                units.append((piece, int(count)))
            else:
                units.extend(self._units(piece, limit, splitters[1:]))
        return units

    def _words_of(self, text: str) -> list[str]:
        return words_of(text, max(1, self._max // 4))

    def _end_of(self, parts: Sequence[_Part], overlap: int) -> str:
        """The last whole sentences of a passage that its successor repeats; "" where there are none that fit."""
        if not overlap or not parts or not parts[-1].is_prose:
            return ""
        sentences = sentences_of(parts[-1].text)
        counts = self._counts(sentences)
        first, total = len(sentences), 0
        while first > 0 and total + counts[first - 1] - self._num_added <= overlap:
            first -= 1
            total += counts[first] - self._num_added
        return "".join(sentences[first:]).strip()

    def _bounded(self, passages: list[Passage]) -> list[Passage]:
        """The passages with their true sizes; what is too long all the same is halved until it fits.

        That is so where tokens of neighbours merge or divide when they are put together.
        """
        while unknown := [passage for passage in passages if passage.num_tokens == _UNKNOWN]:
            counts = iter(self._counts([passage.embedded_text for passage in unknown]))
            passages = [
                piece
                for passage in passages
                for piece in ([passage] if passage.num_tokens != _UNKNOWN else self._fitting(passage, next(counts)))
            ]
        return passages

    def _fitting(self, passage: Passage, num_tokens: int) -> list[Passage]:
        if num_tokens <= self._max or len(passage.text) < 2:
            return [replace(passage, num_tokens=num_tokens)]
        return [replace(passage, text=half) for half in _halves(passage.text) if half.strip()]

    def _passage(self, text: str, section: Section, num_tokens: int) -> Passage:
        return Passage(
            id="",
            document_id=self._document.id,
            source=self._document.source,
            title=self._title,
            title_path=section.title_path,
            position=0,
            page=section.page,
            text=text,
            num_tokens=num_tokens,
            attributes=self._document.attributes,
        )

    def _is_countable(self, text: str) -> bool:
        return len(text) <= self._max * _MAX_CHARACTERS_PER_TOKEN

    def _counts(self, texts: Sequence[str]) -> list[int]:
        """The tokens of many texts, so many at a time that the memory suffices."""
        counts: list[int] = []
        start = num_characters = 0
        for position, text in enumerate(texts):
            num_characters += len(text)
            if num_characters > _MAX_COUNTED_CHARACTERS:
                counts += self._count_tokens(texts[start : position + 1])
                start, num_characters = position + 1, 0
        return counts + (self._count_tokens(texts[start:]) if start < len(texts) else [])


def _packed(parts: Sequence[_Part], limit: int) -> Iterator[list[_Part]]:
    """As many neighbours together as fit; parts of one block are never put together again."""
    packed: list[_Part] = []
    num_tokens = 0
    for part in parts:
        if packed and (part.is_continued or num_tokens + part.num_tokens > limit):
            yield packed
            packed, num_tokens = [], 0
        packed.append(part)
        num_tokens += part.num_tokens
    if packed:
        yield packed


def _balanced(units: Sequence[tuple[str, int]], limit: int) -> Iterator[list[tuple[str, int]]]:
    """Neighbours in groups that fit, as few as can be and of nearly one size."""
    rest = sum(count for _, count in units)
    group: list[tuple[str, int]] = []
    size, wanted = 0, rest / max(1, math.ceil(rest / limit))
    for unit in units:
        if group and (size + unit[1] > limit or size + unit[1] / 2 > wanted):
            yield group
            rest -= size
            group, size, wanted = [], 0, rest / max(1, math.ceil(rest / limit))
        group.append(unit)
        size += unit[1]
    if group:
        yield group


def _halves(text: str) -> tuple[str, str]:
    """The text cut where it holds together least, near its middle."""
    middle = len(text) // 2
    for separator in (_BREAK, "\n", " "):
        places = (text.rfind(separator, 0, middle), text.find(separator, middle))
        place = min((place for place in places if place >= 0), key=lambda place: abs(place - middle), default=None)
        if place is not None and len(text) / 4 <= place <= 3 * len(text) / 4:
            return text[:place].rstrip(), text[place:].strip("\n")
    return text[:middle], text[middle:]
