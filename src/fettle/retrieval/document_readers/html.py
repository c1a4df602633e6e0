"""HTML: what people read on a page, without scripts, styles, menus, headers and footers of the site.

Where a page has one `main` part, that alone is read. Nothing that the page names is fetched.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from lxml import etree, html  # pyright: ignore[reportAttributeAccessIssue] (compiled, without stubs)

from fettle.records import Finding
from fettle.retrieval.document_reader import (
    DocumentFile,
    UnreadableDocumentError,
    document_from,
    text_of,
    whole_content,
)
from fettle.retrieval.document_text import Outline, clean_line, fenced, sole_top_heading, table_text, without_title
from fettle.retrieval.records import Document

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_UNSEEN = frozenset(
    {
        "script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "nav", "aside", "button", "select",
        "input", "textarea", "dialog", "audio", "video", "title", "link", "meta"
    }
)  # fmt: skip
_UNSEEN_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "dialog"})
_INLINE = frozenset(
    {
        "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "ins", "kbd",
        "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"
    }
)  # fmt: skip
_BLOCKS_IN_TABLES = "(.//table | .//h1 | .//h2 | .//h3 | .//h4 | .//h5 | .//h6 | .//pre)[1]"
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
    title = sole_top_heading(sections) or own_title
    return document_from(file, title=title, sections=without_title(sections, title))


def text_of_fragment(markup: str) -> str:
    """The text of a piece of HTML inside another format; "" where there is none."""
    try:
        return "\n\n".join(text for _, text in _blocks_of(_parsed(markup)))
    except UnreadableDocumentError as error:
        if error.note.code != _NO_TEXT:
            raise
        return ""


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
    if element.tag in _UNSEEN or element.get("role") in _UNSEEN_ROLES:
        return True
    if element.tag in ("header", "footer"):  # of the site, unless it is a part's own
        return not any(parent.tag in ("article", "main", "section") for parent in element.iterancestors())
    style = (element.get("style") or "").replace(" ", "").lower()
    return element.get("hidden") is not None or element.get("aria-hidden") == "true" or "display:none" in style


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
            self._add(_HEADINGS[tag], clean_line(element.text_content()))
        elif tag == "pre":
            self._add(0, fenced(element.text_content()) if element.text_content().strip() else "")
        elif tag == "table" and not element.xpath(_BLOCKS_IN_TABLES):
            self._add(0, _table(element))
        elif tag in ("ul", "ol") and not element.xpath(".//h1 | .//h2 | .//h3 | .//h4 | .//h5 | .//h6"):
            self._add(0, _list(element, depth))
        elif tag in _INLINE:
            self._visit_content(element, depth)
        else:
            self.end_paragraph()
            self._visit_content(element, depth)
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
    rows = [[_cell(cell) for cell in row.xpath("./td | ./th")] for row in table.iter("tr")]
    return "\n\n".join(filter(None, (caption, table_text(rows))))


def _cell(cell: html.HtmlElement) -> str:
    return clean_line(" ".join(cell.itertext()))


def _list(element: html.HtmlElement, depth: int) -> str:
    points: list[str] = []
    for number, item in enumerate(element, start=1):
        blocks = _Blocks()
        blocks.visit(item, depth=depth + 1)
        blocks.end_paragraph()
        lines = "\n".join(text for _, text in blocks.found).split("\n")
        mark = f"{number}. " if element.tag == "ol" else "- "
        if item.tag != "li" and item.tag in ("ul", "ol"):  # a list right inside a list
            mark = "  "
        if any(lines):
            points.append(mark + "\n".join([lines[0], *(f"{' ' * len(mark)}{line}" for line in lines[1:])]))
    return "\n".join(points)
