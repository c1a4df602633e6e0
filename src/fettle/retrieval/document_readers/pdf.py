"""PDF: its text page by page, by pypdf (BSD-3-Clause), with the headings of its outline where they stand on their pages.

No text is recognised in pictures: a scan is told of, and left out.
"""

from __future__ import annotations

import io
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pypdf import PdfReader as PdfFile
from pypdf.errors import DependencyError, FileNotDecryptedError
from pypdf.generic import Destination

from fettle.examples.notes import Note, warning
from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile, UnreadableDocumentError, document_from, whole_content
from fettle.retrieval.document_text import Outline, clean_line, clean_text, without_title
from fettle.retrieval.page_text import known_words, lines_of_pages, paragraphs_of
from fettle.retrieval.records import Document

_MAX_PAGES = 10_000
_MAX_CHARACTERS = 32 << 20
_MAX_OUTLINE_ENTRIES = 10_000
_NUM_LISTED_PAGES = 10
_LETTER = re.compile(r"\w")
_PAGE_NUMBER = re.compile(r"^\d{1,4}\s{1,8}(?=\D)|(?<=\D)\s{1,8}\d{1,4}$")
_NOT_WORD = re.compile(r"[\W_]+")


class PdfReader:
    """Reads the text of pages, with their numbers."""

    title = "PDF"
    suffixes: tuple[str, ...] = (".pdf",)
    max_bytes = 100 << 20

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """The whole file as one document; its title is what it says of itself if that stands on its first page."""
        data = whole_content(file, self.max_bytes)
        with _without_logging():
            printed = _printed(data)
        yield from (note.about(file.name) for note in printed.notes)
        outline = _outline_of(printed)
        first_page = _plain("".join(printed.pages[:1]))
        title = printed.title if printed.title and _plain(printed.title) in first_page else ""
        yield document_from(file, title=title, sections=without_title(outline.sections(), title))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bookmark:
    """A heading in the outline."""

    level: int
    text: str
    page: int
    """From 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Printed:
    """What is on the pages."""

    title: str
    pages: tuple[str, ...]
    bookmarks: tuple[_Bookmark, ...]
    notes: tuple[Note, ...]


def _printed(data: bytes) -> _Printed:
    try:
        pdf = PdfFile(io.BytesIO(data))
        if pdf.is_encrypted and not pdf.decrypt(""):
            raise _protected()
        num_pages = len(pdf.pages)
    except (UnreadableDocumentError, DependencyError, FileNotDecryptedError) as error:
        raise _with_remedy(error) from error
    except Exception as error:  # pypdf raises what it likes: whatever it stumbles over is in the file
        raise _broken(error) from error
    if num_pages > _MAX_PAGES:
        raise UnreadableDocumentError(
            "too-large",
            f"expected at most {_MAX_PAGES:,} pages, and it has {num_pages:,}",
            "divide it into several files",
        )
    pages, broken = _texts_of_pages(pdf, num_pages)
    if not any(map(_has_text, pages)):
        raise _broken(broken[0]) if len(broken) == num_pages and broken else _scanned()
    return _Printed(
        title=_title_of(pdf), pages=tuple(pages), bookmarks=_bookmarks_of(pdf), notes=tuple(_notes(pages, broken))
    )


def _texts_of_pages(pdf: PdfFile, num_pages: int) -> tuple[list[str], dict[int, Exception]]:
    """The text of every page, "" for those that cannot be read, with the reason of each by its position."""
    texts: list[str] = []
    broken: dict[int, Exception] = {}
    num_characters = 0
    for page in range(num_pages):
        try:
            text = clean_text(pdf.pages[page].extract_text())
        except Exception as error:  # as above
            text, broken[page] = "", error
        num_characters += len(text)
        if num_characters > _MAX_CHARACTERS:
            raise UnreadableDocumentError(
                "too-large", f"expected at most {_MAX_CHARACTERS:,} characters of text", "divide it into several files"
            )
        texts.append(text)
    return texts, broken


def _notes(pages: Sequence[str], broken: dict[int, Exception]) -> Iterator[Note]:
    if broken:
        first = next(iter(broken.values()))
        text = f"{_listed(list(broken))} cannot be read ({type(first).__name__}: {str(first)[:100]})"
        yield warning("broken-page", f"{text}; the others were", "print it to PDF anew")
    if empty := [page for page, text in enumerate(pages) if page not in broken and not _has_text(text)]:
        yield warning(
            "page-without-text",
            f"{_listed(empty)} of {len(pages)} without text, a picture perhaps",
            "have the text recognised (OCR) if something is to be read there",
        )


def _outline_of(printed: _Printed) -> Outline:
    outline = Outline()
    bookmarks_of_page: dict[int, list[_Bookmark]] = defaultdict(list)
    for bookmark in printed.bookmarks:
        bookmarks_of_page[bookmark.page].append(bookmark)
    first_pages: dict[str, int] = {}
    for bookmark in printed.bookmarks:
        first_pages[_plain(bookmark.text)] = min(bookmark.page, first_pages.get(_plain(bookmark.text), bookmark.page))

    def is_running(page: int, line: str) -> bool:
        plain = _plain(_PAGE_NUMBER.sub("", line))
        is_heading = any(_plain(bookmark.text) == plain for bookmark in bookmarks_of_page[page])
        return first_pages.get(plain, page) < page and not is_heading

    pages = lines_of_pages(printed.pages, is_running)
    words = known_words(pages)
    for number, lines in enumerate(pages):
        outline.begin_page(number + 1)
        done = 0
        for bookmark, place in _placed(bookmarks_of_page[number], lines):
            if place is None:
                outline.leave(bookmark.level)
                continue
            _add_paragraphs(outline, lines[done : place[0]], words)
            outline.heading(bookmark.level, bookmark.text)
            done = place[1]
        _add_paragraphs(outline, lines[done:], words)
    return outline


def _placed(bookmarks: Sequence[_Bookmark], lines: Sequence[str]) -> list[tuple[_Bookmark, tuple[int, int] | None]]:
    """The bookmarks of a page with their lines (from, to), from its top to its bottom; first those that stand on none (None)."""
    placed: list[tuple[_Bookmark, tuple[int, int] | None]] = []
    taken: set[int] = set()
    done = 0
    for bookmark in bookmarks:
        places = [place for place in _places_of(bookmark.text, lines) if taken.isdisjoint(range(*place))]
        place = next((place for place in places if place[0] >= done), places[0] if places else None)
        if place is not None and len(places) > 1 and not any(lines[: place[0]]):
            place = places[1]  # the page's header names what begins on it
        if place is not None:
            taken.update(range(*place))
            done = place[1]
        placed.append((bookmark, place))
    return sorted(placed, key=lambda one: (-1, -1) if one[1] is None else one[1])


def _add_paragraphs(outline: Outline, lines: Sequence[str], words: frozenset[str]) -> None:
    for paragraph in paragraphs_of(lines, words):
        outline.block(paragraph)


def _places_of(heading: str, lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """All lines (from, to) that are this heading, with its number perhaps."""
    wanted = _plain(heading)
    position = 0
    while wanted and position < len(lines):
        ends = range(position + 1, min(position + 3, len(lines)) + 1) if lines[position] else ()
        for end in ends:
            found = _plain("".join(lines[position:end]))
            if found == wanted or (found.endswith(wanted) and found.removesuffix(wanted).isdigit()):
                yield position, end
                position = end - 1
                break
        position += 1


def _bookmarks_of(pdf: PdfFile) -> tuple[_Bookmark, ...]:
    try:
        return tuple(_flattened(pdf, pdf.outline, 1))[:_MAX_OUTLINE_ENTRIES]
    except Exception:  # as above; the text stands without them
        return ()


def _flattened(pdf: PdfFile, entries: Sequence[object], level: int) -> Iterator[_Bookmark]:
    for entry in entries:
        if isinstance(entry, list):
            yield from _flattened(pdf, entry, level + 1)
        elif isinstance(entry, Destination):
            page = pdf.get_destination_page_number(entry)
            if page is not None and page >= 0:
                yield _Bookmark(level=level, text=clean_line(str(entry.title or "")), page=page)


def _title_of(pdf: PdfFile) -> str:
    try:
        return clean_line(str((pdf.metadata and pdf.metadata.title) or ""))
    except Exception:  # as above
        return ""


def _plain(text: str) -> str:
    """Letters and digits alone, for comparing headings."""
    return _NOT_WORD.sub("", text).casefold()


def _has_text(text: str) -> bool:
    return _LETTER.search(text) is not None


def _listed(pages: Sequence[int]) -> str:
    shown = ", ".join(str(page + 1) for page in pages[:_NUM_LISTED_PAGES])
    rest = f" and {len(pages) - _NUM_LISTED_PAGES} more" if len(pages) > _NUM_LISTED_PAGES else ""
    return f"page{'s' if len(pages) > 1 else ''} {shown}{rest}"


def _protected() -> UnreadableDocumentError:
    return UnreadableDocumentError(
        "protected-file", "it is encrypted, and a password opens it", "save it without a password"
    )


def _with_remedy(error: Exception) -> UnreadableDocumentError:
    if isinstance(error, UnreadableDocumentError):
        return error
    if isinstance(error, DependencyError):
        return UnreadableDocumentError(
            "protected-file",
            "it is encrypted, and reading it needs the package cryptography",
            "save it without encryption, or pip install 'fettle-llm[encrypted]'",
        )
    return _protected()


def _broken(error: Exception) -> UnreadableDocumentError:
    problem = f"the PDF is damaged ({type(error).__name__}: {str(error)[:100]})"
    return UnreadableDocumentError("broken-file", problem, "print it to PDF anew, or copy it again")


def _scanned() -> UnreadableDocumentError:
    return UnreadableDocumentError(
        "no-text",
        "its pages hold no text: it is a scan, or made of pictures",
        "have the text recognised first (OCR, such as by ocrmypdf)",
    )


@contextmanager
def _without_logging() -> Iterator[None]:
    """What pypdf logs of damaged files would stand on the terminal; what matters of it becomes a finding."""
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
