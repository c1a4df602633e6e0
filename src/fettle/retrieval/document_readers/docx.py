"""DOCX: Word's documents, by mammoth (BSD-2-Clause), which keeps headings, lists, tables, footnotes and accepted changes.

What is hostile is refused before it is parsed: archives that unpack to more than the bound, and XML that declares a document type,
which Word never writes and which entities would need.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import mammoth

from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile, UnreadableDocumentError, whole_content
from fettle.retrieval.document_readers.html import page_document
from fettle.retrieval.document_readers.word_xml import heading_styles_of, with_all_text
from fettle.retrieval.document_text import clean_text
from fettle.retrieval.records import Document

_MAX_XML_BYTES = 16 << 20
"""Of all XML in the archive together: parsed, it takes about thirty times as much memory, and a second for each MiB."""
_MAX_MEMBERS = 20_000
_STYLES_PART = "word/styles.xml"
_TEXT_PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_DOCUMENT_TYPE = re.compile(rb"<!\s*(doctype|entity)", re.IGNORECASE)
_BASIC_STYLES = (
    "p[style-name='Title'] => h1:fresh",
    "p[style-name='Subtitle'] => p:fresh",
    *(f"p[style-name='Heading {level}'] => h{level + 1}:fresh" for level in range(1, 10)),
)


class DocxReader:
    """Reads headings by their styles, paragraphs, lists, tables and footnotes."""

    title = "DOCX"
    suffixes: tuple[str, ...] = (".docx", ".docm")
    max_bytes = 100 << 20

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """The whole file as one document; its title is the paragraph of style Title, else its only top heading."""
        data = whole_content(file, self.max_bytes)
        if data.startswith(_OLD_OFFICE):
            raise UnreadableDocumentError(
                "protected-file",
                "it is protected by a password, or in Word's old format",
                "save it as .docx without a password",
            )
        try:
            archive = _checked_xml(data)
            markup = mammoth.convert_to_html(
                archive.file,
                style_map="\n".join((*archive.heading_styles, *_BASIC_STYLES)),
                include_embedded_style_map=False,
                convert_image=mammoth.images.img_element(lambda image: {"alt": image.alt_text or ""}),
                ignore_empty_paragraphs=True,
                external_file_access=False,
            ).value
        except UnreadableDocumentError:
            raise
        except (
            Exception
        ) as error:  # mammoth and zipfile raise what they like: whatever they stumble over is in the file
            problem = f"the document is damaged ({type(error).__name__}: {str(error)[:100]})"
            raise UnreadableDocumentError("broken-file", problem, "open it in Word, and save it again") from error
        yield page_document(file, clean_text(markup))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Archive:
    """What of a document is parsed."""

    file: io.BytesIO
    heading_styles: tuple[str, ...]
    """Which styles are headings, in mammoth's words."""


def _checked_xml(data: bytes) -> _Archive:
    """The archive with its XML alone, every part of it checked, so that nothing else can be parsed.

    Raises:
        UnreadableDocumentError: It unpacks to more than the bound, is encrypted, or declares a document type.
    """
    checked = io.BytesIO()
    heading_styles: tuple[str, ...] = ()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(checked, "w") as copy:
        members = {info.filename: info for info in archive.infolist() if info.filename.endswith((".xml", ".rels"))}
        if sum(info.file_size for info in members.values()) > _MAX_XML_BYTES or len(members) > _MAX_MEMBERS:
            raise UnreadableDocumentError(
                "too-large",
                f"expected at most {_MAX_XML_BYTES >> 20} MiB of text and markup when unpacked, and it is more",
                "divide it into several files",
            )
        for name, info in members.items():
            part = archive.read(info)
            if _DOCUMENT_TYPE.search(part.replace(b"\0", b"")):
                raise UnreadableDocumentError(
                    "hostile-file",
                    "its XML declares a document type, which Word never writes and attacks do",
                    "open it in Word and save it again, if you trust whoever made it",
                )
            if name == _STYLES_PART:
                heading_styles = heading_styles_of(part)
            copy.writestr(name, with_all_text(part) if name in _TEXT_PARTS else part)
    checked.seek(0)
    return _Archive(file=checked, heading_styles=heading_styles)
