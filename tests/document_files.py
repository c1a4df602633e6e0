"""Small documents, made as tests need them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile
from fettle.retrieval.documents import read_documents, read_file
from fettle.retrieval.records import Document


def pdf_bytes(
    pages: Sequence[Sequence[str]],
    *,
    bookmarks: Sequence[tuple[str, int]] = (),
    title: str | None = None,
    user_password: str | None = None,
    owner_password: str | None = None,
) -> bytes:
    """A PDF whose pages hold these lines; a page without lines is a picture, as far as its text goes."""
    writer = PdfWriter()
    font = writer._add_object(
        DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
                NameObject("/Encoding"): NameObject("/WinAnsiEncoding"),
            }
        )
    )
    for lines in pages:
        page = writer.add_blank_page(width=595, height=842)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
        shown = [f"({_escaped(line)}) Tj T*" for line in lines]
        content = DecodedStreamObject()
        content.set_data("\n".join(["BT /F1 10 Tf 14 TL 50 780 Td", *shown, "ET"]).encode("cp1252"))
        page[NameObject("/Contents")] = writer._add_object(content)
    for text, page_number in bookmarks:
        writer.add_outline_item(title=text, page_number=page_number)
    if title is not None:
        writer.add_metadata({"/Title": title})
    if user_password is not None or owner_password is not None:
        writer.encrypt(user_password or "", owner_password, algorithm="AES-256")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    """An archive with these members."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def file_of(name: str, content: bytes) -> DocumentFile:
    """A file that lies in memory."""
    return DocumentFile(name=name, num_bytes=len(content), open=lambda: io.BytesIO(content))


def read_one(name: str, content: bytes) -> Document:
    """The only document of a file about which there is nothing to say."""
    (document,) = read_file(file_of(name, content))
    assert isinstance(document, Document), document
    return document


def finding_of(name: str, content: bytes) -> Finding:
    """The only thing that is found in a file that cannot be read."""
    (finding,) = read_file(file_of(name, content))
    assert isinstance(finding, Finding), finding
    return finding


def read_all(place: Path | str) -> tuple[list[Document], list[Finding]]:
    """The documents and the findings of a place."""
    found = list(read_documents(str(place)))
    return [one for one in found if isinstance(one, Document)], [one for one in found if isinstance(one, Finding)]


def sections_of(document: Document) -> list[tuple[tuple[str, ...], str]]:
    """What stands under which headings."""
    return [(section.title_path, section.text) for section in document.sections]


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
