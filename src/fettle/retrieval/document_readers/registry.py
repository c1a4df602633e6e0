"""All readers of documents; each knows the endings of its own files."""

from __future__ import annotations

from fettle.retrieval.document_reader import DocumentReader
from fettle.retrieval.document_readers.docx import DocxReader
from fettle.retrieval.document_readers.html import HtmlReader
from fettle.retrieval.document_readers.json_lines import JsonLinesDocumentReader
from fettle.retrieval.document_readers.markdown import MarkdownReader
from fettle.retrieval.document_readers.pdf import PdfReader
from fettle.retrieval.document_readers.plain_text import PlainTextReader
from fettle.retrieval.document_readers.tables import TableDocumentReader

DOCUMENT_READERS: tuple[DocumentReader, ...] = (
    MarkdownReader(),
    HtmlReader(),
    PdfReader(),
    DocxReader(),
    PlainTextReader(),
    TableDocumentReader(),
    JsonLinesDocumentReader(),
)

_BY_SUFFIX = {suffix: reader for reader in DOCUMENT_READERS for suffix in reader.suffixes}

READ_SUFFIXES = tuple(_BY_SUFFIX)
"""Endings of files that are read, the commonest format first."""


def reader_for(suffix: str) -> DocumentReader | None:
    """The reader of files whose names end so; None where there is none.

    Args:
        suffix: In lower case, with its dot.
    """
    return _BY_SUFFIX.get(suffix)
