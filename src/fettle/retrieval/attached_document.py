"""A file that was attached to an index as the one document that it is there, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fettle.files import sha256_of_json
from fettle.records import Action, Finding
from fettle.retrieval.document_reader import local_file
from fettle.retrieval.documents import read_file
from fettle.retrieval.records import AttributeValue, Document, Section

_UNSUPPORTED = frozenset({"unknown-ending"})
"""Findings about files of formats that nobody reads here."""


class UnusableFileError(Exception):
    """Nothing in a file can be searched.

    Args:
        code: `unsupported_file` or `invalid_file`.
        message: For whoever has sent it.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


def document_of_file(
    content: Path, *, document_id: str, filename: str, attributes: Mapping[str, AttributeValue]
) -> tuple[Document, tuple[Finding, ...]]:
    """What is in a file, and what was noticed while it was read: rows that were left out, for instance.

    A table has a document in each row; here they are its sections, under the titles that they have.

    Args:
        content: Where its bytes lie.
        document_id: What the document is called.
        filename: Of the file, whose ending says how it is read.
        attributes: What filters look at; those that the file has of itself do not count.

    Raises:
        UnusableFileError: It cannot be read, or has no text.
    """
    documents: list[Document] = []
    findings: list[Finding] = []
    for item in read_file(local_file(content, name=filename)):
        (findings if isinstance(item, Finding) else documents).append(item)  # type: ignore[arg-type]
    sections = tuple(section for document in documents for section in _sections(document, is_alone=len(documents) == 1))
    if not any(section.text.strip() for section in sections):
        raise _unusable(findings)
    title = documents[0].title if len(documents) == 1 else filename
    kept = [title, [[list(part.title_path), part.page, part.text] for part in sections]]
    document = Document(
        id=document_id,
        source=filename,
        title=title,
        sections=sections,
        sha256=sha256_of_json(kept),
        attributes=dict(attributes),
    )
    return document, tuple(findings)


def _sections(document: Document, *, is_alone: bool) -> list[Section]:
    if is_alone or not document.title:
        return list(document.sections)
    return [
        Section(text=part.text, title_path=(document.title, *part.title_path), page=part.page)
        for part in document.sections
    ]


def _unusable(findings: list[Finding]) -> UnusableFileError:
    told = next((finding for finding in findings if finding.action is Action.LEFT_OUT), None)
    if told is None:
        return UnusableFileError("invalid_file", "There is no text in the file.")
    code = "unsupported_file" if told.code in _UNSUPPORTED else "invalid_file"
    message = f"{told.message[:1].upper()}{told.message[1:].rstrip('.')}."
    return UnusableFileError(code, f"{message} To do: {told.remedy.rstrip('.')}." if told.remedy else message)
