"""HTML: what people read on a page, without scripts, styles, menus, headers and footers of the site.

Where a page has one `main` part, that alone is read. Nothing that the page names is fetched.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping

from lxml import etree, html  # pyright: ignore[reportAttributeAccessIssue] (compiled, without stubs)

from fettle.records import Finding
from fettle.retrieval.document_reader import (
    DocumentFile,
    UnreadableDocumentError,
    document_from,
    text_of,
    whole_content,
)
from fettle.retrieval.document_text import Outline, clean_line, fenced, table_text, without_title
from fettle.retrieval.records import Document

_HEADINGS = {f"h{level}": level for level in range(1, 11)}
"""Beyond `h6` they are Word's, which has nine and a title."""
_UNSEEN = frozenset(
    {
        "script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "nav", "button", "select",
        "input", "textarea", "dialog", "audio", "video", "title", "link", "meta"
    }
)  # fmt: skip
_UNSEEN_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "dialog"})
_INLINE = frozenset(
    {
        "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "ins", "kbd",
        "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"
    }
)  # fmt: skip
_ANY_HEADING = " | ".join(f".//{heading}" for heading in _HEADINGS)
_BLOCKS_IN_TABLES = f"(.//table | .//pre | {_ANY_HEADING})[1]"
_OF_SITE = ("header", "footer", "aside")
_ANCHOR_MARKS = ("¶", "#", "§", "🔗", "\uf0c1")
_MAX_SPAN = 100
"""Rows or columns that a cell may take; beyond that it is nonsense, or an attack."""
_MAX_CELLS = 200_000
"""Of a table, after which no cell takes more than one place."""
_MAX_DEPTH = 200
"""Elements that lie deeper are read as plain text."""
_NO_TEXT = "no-text"
_LINE_BREAK = "\x1e"
"""Stands for `br` while spaces are being joined; clean text holds none."""
_DECLARED_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_DECLARED_WITHIN_BYTES = 4096


class HtmlReader:
    """Reads headings, paragraphs, lists, tables and preformatted text."""

    title = "HTML"
    suffixes: tuple[str, ...] = (".html", ".htm", ".xhtml")
    max_bytes = 16 << 20

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """The whole page as one document; its title is the only top heading, else what the page calls itself."""
        text, notes = text_of(_as_utf8(whole_content(file, self.max_bytes)), name=file.name)
        yield from (note.about(file.name) for note in notes)
        yield page_document(file, text)


def page_document(file: DocumentFile, markup: str) -> Document:
    """A document from a page's text.

    Raises:
        UnreadableDocumentError: There is no text on it.
    """
    root = _parsed(markup)
    own_title = clean_line(root.findtext(".//title") or "")
    outline = Outline()
    for level, text in _blocks_of(root):
        if level:
            outline.heading(level, text)
        else:
            outline.block(text)
    sections = outline.sections()
    title = outline.title() or own_title
    return document_from(file, title=title, sections=without_title(sections, title))


def blocks_of_fragment(markup: str) -> list[tuple[int, str]]:
    """(level of the heading, or 0, and text) of a piece of HTML inside another format; none where there is no text."""
    try:
        return _blocks_of(_parsed(markup))
    except UnreadableDocumentError as error:
        if error.note.code != _NO_TEXT:
            raise
        return []


def _as_utf8(data: bytes) -> bytes:
    """The bytes in UTF-8 where they are not and the page says what they are."""
    declared = _DECLARED_CHARSET.search(data[:_DECLARED_WITHIN_BYTES])
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        if declared is None:
            return data
    else:
        return data
    try:
        return data.decode(codecs.lookup(declared[1].decode()).name, errors="replace").encode()
    except (LookupError, ValueError):
        return data


def _parsed(markup: str) -> html.HtmlElement:
    """The page's tree without what nobody sees."""
    parser = html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableDocumentError(_NO_TEXT, "there is no text in it", "remove it, or fill it") from error
    if over := next(
        (entry.message for entry in parser.error_log if entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT), None
    ):
        raise UnreadableDocumentError("beyond-bounds", f"the page is beyond what is parsed ({over})", "save it as text")
    return root


def _blocks_of(root: html.HtmlElement) -> list[tuple[int, str]]:
    """(level of the heading, or 0, and text) of everything that people read, in order."""
    for element in list(root.iter(etree.Element)):
        if _is_unseen(element) and element.getparent() is not None:
            element.drop_tree()
    mains = root.xpath("//main | //*[@role='main']")
    shown = mains[0] if len(mains) == 1 and mains[0].text_content().strip() else root
    blocks = _Blocks()
    blocks.visit(shown, depth=0)
    blocks.end_paragraph()
    return blocks.found


def _is_unseen(element: html.HtmlElement) -> bool:
    if element.tag in _UNSEEN or element.get("role") in _UNSEEN_ROLES or _is_anchor(element):
        return True
    if element.tag in _OF_SITE or element.get("role") == "complementary":  # unless it is a part's own
        return not any(parent.tag in ("article", "main", "section") for parent in element.iterancestors())
    style = (element.get("style") or "").replace(" ", "").lower()
    return element.get("hidden") is not None or element.get("aria-hidden") == "true" or "display:none" in style


def _is_anchor(element: html.HtmlElement) -> bool:
    """Whether it is the mark beside a heading that is a link to it."""
    return (
        element.tag == "a"
        and element.get("href", "").startswith("#")
        and (element.text_content().strip() in _ANCHOR_MARKS or "headerlink" in element.get("class", "").split())
    )


class _Blocks:
    """Collects headings and blocks of a page, in order."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []
        self._words: list[str] = []

    def visit(self, element: html.HtmlElement, *, depth: int) -> None:
        """Take in an element and everything in it, the text behind it not included."""
        tag = element.tag
        if depth > _MAX_DEPTH:
            self._words.append(f" {element.text_content()} ")
        elif tag == "br":
            self._words.append(_LINE_BREAK)
        elif tag == "img":
            self._words.append(element.get("alt") or "")
        elif tag in _HEADINGS:
            self._add(_HEADINGS[tag], _one_line(element))
        elif tag == "pre":
            code = _with_line_breaks(element)
            self._add(0, fenced(code) if code.strip() else "")
        elif tag == "table" and not element.xpath(_BLOCKS_IN_TABLES):
            self._add(0, _table(element))
        elif tag in ("ul", "ol") and not element.xpath(_ANY_HEADING):
            self._add(0, _list(element, depth))
        elif tag in _INLINE:
            self._visit_content(element, depth)
        else:
            self.end_paragraph()
            self._visit_content(element, depth)
            self.end_paragraph()

    def visit_inside(self, element: html.HtmlElement) -> None:
        """Take in what is in an element, whatever that is."""
        self._visit_content(element, 0)
        self.end_paragraph()

    def end_paragraph(self) -> None:
        """What follows begins a new block."""
        lines = [" ".join(line.split()) for line in "".join(self._words).split(_LINE_BREAK)]
        self._words = []
        if text := re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip():
            self.found.append((0, text))

    def _visit_content(self, element: html.HtmlElement, depth: int) -> None:
        self._words.append(element.text or "")
        for child in element:
            self.visit(child, depth=depth + 1)
            self._words.append(child.tail or "")

    def _add(self, level: int, text: str) -> None:
        self.end_paragraph()
        if text:
            self.found.append((level, text))


def _table(table: html.HtmlElement) -> str:
    caption = clean_line(table.findtext("caption") or "")
    rows = list(_rows(table))
    around = [
        child.tail for child in table.iter("table", "thead", "tbody", "tfoot", "tr", "td", "th") if child is not table
    ]
    stray = clean_line(" ".join(filter(None, (table.text, *around))))
    return "\n\n".join(filter(None, (caption, stray, table_text(rows))))


def _rows(table: html.HtmlElement) -> Iterator[list[str]]:
    """The cells of each row, each in the column that it stands in: one that takes several rows is repeated in each of them."""
    running: dict[int, tuple[int, str]] = {}  # by column: rows that a cell above still takes, and its text
    num_cells = 0
    for row in table.iter("tr"):
        if num_cells > _MAX_CELLS:
            running = {}
        cells: list[str] = []
        begun: dict[int, tuple[int, str]] = {}
        for cell in row.xpath("./td | ./th"):
            cells += _cells_from_above(len(cells), running)
            text, num_rows, num_columns = _one_line(cell), _span(cell, "rowspan"), _span(cell, "colspan")
            if num_cells + len(cells) > _MAX_CELLS:
                num_rows = num_columns = 1
            for number in range(num_columns):
                if num_rows > 1:
                    begun[len(cells)] = (num_rows, "" if number else text)
                cells.append("" if number else text)
        cells += _cells_from_above(len(cells), running)
        num_cells += len(cells)
        running = {column: (left - 1, text) for column, (left, text) in (running | begun).items() if left > 1}
        yield cells


def _cells_from_above(column: int, running: Mapping[int, tuple[int, str]]) -> list[str]:
    """The texts of the cells that reach down into a row, from a column on until one is free."""
    texts: list[str] = []
    while column + len(texts) in running:
        texts.append(running[column + len(texts)][1])
    return texts


def _span(cell: html.HtmlElement, name: str) -> int:
    number = (cell.get(name) or "1").strip()
    return min(int(number[:9]), _MAX_SPAN) or 1 if number.isdecimal() else 1


def _one_line(element: html.HtmlElement) -> str:
    """What is in a heading or in a cell: words are divided by blocks and line breaks, not by changes of the font."""
    blocks = _Blocks()
    blocks.visit_inside(element)
    return clean_line(" ".join(text for _, text in blocks.found))


def _with_line_breaks(element: html.HtmlElement) -> str:
    """The text of preformatted lines as it stands."""
    for line_break in element.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "")
    return element.text_content()


def _list(element: html.HtmlElement, depth: int) -> str:
    points = [clean_line(element.text or "")]
    number = _first_number(element)
    for item in element:
        blocks = _Blocks()
        blocks.visit(item, depth=depth + 1)
        blocks.end_paragraph()
        if (own := (item.get("value") or "").strip()).isdecimal():
            number = int(own[:9])
        lines = "\n".join(text for _, text in blocks.found).split("\n")
        mark = f"{number}. " if element.tag == "ol" else "- "
        if item.tag != "li" and item.tag in ("ul", "ol"):  # a list right inside a list
            mark = "  "
        if any(lines):
            points.append(mark + "\n".join([lines[0], *(f"{' ' * len(mark)}{line}" for line in lines[1:])]))
        points.append(clean_line(item.tail or ""))
        number += item.tag == "li"
    return "\n".join(filter(None, points))


def _first_number(element: html.HtmlElement) -> int:
    start = (element.get("start") or "1").strip()
    return int(start[:9]) if start.isdecimal() else 1
