"""Plain text: paragraphs and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile, document_from, text_of, whole_content
from fettle.retrieval.document_text import Outline
from fettle.retrieval.records import Document

_PARAGRAPHS = re.compile(r"\n[ \t]*\n\s*")


class PlainTextReader:
    """Reads text in any common encoding; what lies between empty lines is a paragraph."""

    title = "text"
    suffixes: tuple[str, ...] = (".txt", ".text")
    max_bytes = 32 << 20

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """The whole file as one document without headings."""
        text, notes = text_of(whole_content(file, self.max_bytes), name=file.name)
        yield from (note.about(file.name) for note in notes)
        outline = Outline()
        for paragraph in _PARAGRAPHS.split(text):
            outline.block(paragraph)
        yield document_from(file, title="", sections=outline.sections())
