"""Markdown: CommonMark with tables, its front matter as attributes.

Links are kept as their text, pictures as theirs; HTML inside is left out but for what stands between its tags.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference
from markdown_it.tree import SyntaxTreeNode

from fettle.examples.notes import Note, warning
from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile, document_from, text_of, whole_content
from fettle.retrieval.document_rows import MAX_ATTRIBUTE_CHARACTERS, MAX_EXACT_INTEGER
from fettle.retrieval.document_text import Outline, fenced, table_text, without_title
from fettle.retrieval.records import AttributeValue, Document

_MAX_FRONT_MATTER_CHARACTERS = 1 << 16
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


class MarkdownReader:
    """Reads headings, paragraphs, lists, tables and code."""

    title = "Markdown"
    suffixes: tuple[str, ...] = (".md", ".markdown", ".mdown")
    max_bytes = 8 << 20

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """The whole file as one document; its title is that of the front matter, else its only top heading."""
        text, notes = text_of(whole_content(file, self.max_bytes), name=file.name)
        attributes, text, note = _front_matter(text)
        yield from (note.about(file.name) for note in (*notes, *([note] if note else [])))
        outline = Outline()
        for node in SyntaxTreeNode(_parser().parse(text)).children:
            if node.type == "heading":
                outline.heading(int(node.tag[1:]), _inline_text(node))
            elif node.type == "html_block":
                for level, block in _blocks_of_html(node.content):
                    if level:
                        outline.heading(level, block)
                    else:
                        outline.block(block)
            else:
                outline.block(_block_text(node))
        sections = outline.sections()
        title = str(attributes.pop("title", "")) or outline.title()
        yield document_from(file, title=title, sections=without_title(sections, title), attributes=attributes)


def _parser() -> MarkdownIt:
    """CommonMark with tables, in which `[^1]: text` is a footnote, whose text is kept, and no address of a link."""
    parser = MarkdownIt("commonmark").enable("table")
    parser.block.ruler.at("reference", _reference, {"alt": []})
    return parser


def _reference(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    start = state.bMarks[start_line] + state.tShift[start_line]
    return not state.src.startswith("[^", start) and reference(state, start_line, end_line, silent)


def _front_matter(text: str) -> tuple[dict[str, AttributeValue], str, Note | None]:
    """The plain values between `---` lines at the beginning, what follows, and what is wrong with them."""
    if not text.startswith("---\n"):
        return {}, text, None
    end = f"{text[:_MAX_FRONT_MATTER_CHARACTERS]}\n".find("\n---\n", 3)
    if end < 0:
        return {}, text, None
    try:
        values = yaml.safe_load(text[4:end]) if end > 4 else {}
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            return {}, text, None
        kept = {str(key): _plain(value) for key, value in values.items()}
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ):  # ValueError: numbers too long to be written out, days that are none
        return {}, text, _no_front_matter()
    return {key: value for key, value in kept.items() if value is not None}, text[end + 5 :], None


def _no_front_matter() -> Note:
    return warning(
        "front-matter",
        "what stands between the lines of --- is no valid YAML, and was read as text",
        "put texts with a colon into quotation marks",
    )


def _plain(value: Any) -> AttributeValue | None:
    """A value that filters can look at; None for lists, objects and what is no finite number."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > MAX_EXACT_INTEGER:
        return str(value)[:MAX_ATTRIBUTE_CHARACTERS]
    return value if isinstance(value, str | int | float | bool) else None


def _block_text(node: SyntaxTreeNode) -> str:
    match node.type:
        case "fence" | "code_block":
            return fenced(node.content, node.info.strip() if node.type == "fence" else "")
        case "table":
            rows = [row for part in node.children for row in part.children]
            return table_text([[_inline_text(cell) for cell in row.children] for row in rows])
        case "bullet_list" | "ordered_list":
            return _list_text(node)
        case "blockquote" | "list_item":
            return "\n\n".join(filter(None, map(_block_text, node.children)))
        case "html_block":
            return "\n\n".join(text for _, text in _blocks_of_html(node.content))
        case "hr":
            return ""
        case _:
            return _inline_text(node)


def _list_text(node: SyntaxTreeNode) -> str:
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else 1
    points: list[str] = []
    for number, item in enumerate(node.children, start=first):
        mark = f"{number}. " if node.type == "ordered_list" else "- "
        blocks = [_block_text(child) for child in item.children]
        lines = "\n".join(filter(None, blocks)).split("\n")
        points.append(mark + "\n".join([lines[0], *(f"{' ' * len(mark)}{line}" for line in lines[1:])]))
    return "\n".join(points)


def _inline_text(node: SyntaxTreeNode) -> str:
    match node.type:
        case "text" | "code_inline":
            return node.content
        case "softbreak":
            return " "
        case "hardbreak":
            return "\n"
        case "html_inline":
            return "\n" if _LINE_BREAK.fullmatch(node.content) else ""
        case "image":
            return node.content
        case _:
            return "".join(map(_inline_text, node.children))


def _blocks_of_html(markup: str) -> list[tuple[int, str]]:
    from fettle.retrieval.document_readers.html import blocks_of_fragment

    return blocks_of_fragment(markup)
