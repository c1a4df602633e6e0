"""The interface between a file and the documents in it; `document_readers/` holds one implementation per format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from fettle.errors import DataError
from fettle.examples.archives import foreign_kind
from fettle.examples.encoding import decode_text, mend_wrong_bytes
from fettle.examples.notes import Note, left_out
from fettle.files import sha256_of_json
from fettle.records import Finding
from fettle.retrieval.document_text import clean_line, clean_text
from fettle.retrieval.records import AttributeValue, Document, Section

MAX_TITLE_CHARACTERS = 200
"""Longer titles are cut."""
SAMPLE_BYTES = 1 << 16
"""Of a file's beginning, enough to tell what it is encoded in."""
_REMEDIES = {
    "--encoding": "if these words look wrong, save the file as UTF-8",
    '"messages"': "write one object with id, title and text, or with question and answer, per line",
}
"""What to do about documents, by words in what is said of examples."""
_CUT_CHARACTER = re.compile(rb"[\x80-\xff]{1,3}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFile:
    """A file that may hold documents, not opened yet."""

    name: str
    """What documents and findings call it: its path below the folder."""
    num_bytes: int | None
    """None where the place does not tell."""
    open: Callable[[], IO[bytes]]
    """Opens it anew, to be read from its beginning."""

    @property
    def suffix(self) -> str:
        """The ending of its name in lower case, with its dot; "" when there is none."""
        return PurePosixPath(self.name).suffix.lower()


class UnreadableDocumentError(Exception):
    """Nothing, or nothing more, can be read from a file; `note` says why. Never leaves this package."""

    def __init__(self, code: str, problem: str, remedy: str) -> None:
        self.note: Note = left_out(code, problem, remedy)
        super().__init__(problem)


class DocumentReader(Protocol):
    """One format."""

    title: str
    """What people call the format."""
    suffixes: tuple[str, ...]
    """Endings of its files' names, in lower case, the commonest first."""
    max_bytes: int
    """Larger files are refused."""

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """Every document in the file, and what is wrong with it.

        Raises:
            UnreadableDocumentError: Nothing more can be read from it.
            OSError: It cannot be opened.
        """
        ...


def local_file(path: Path, *, name: str | None = None) -> DocumentFile:
    """A file of this machine; `name` is what to call it, by default its own."""
    return DocumentFile(name=name or path.name, num_bytes=path.stat().st_size, open=lambda: path.open("rb"))


def whole_content(file: DocumentFile, max_bytes: int) -> bytes:
    """All bytes of a file.

    Raises:
        UnreadableDocumentError: It is empty, or larger than the bound.
        OSError: It cannot be opened.
    """
    refuse_too_large(file, max_bytes)
    with place_errors_as_os_errors(), file.open() as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large("more than the bound", max_bytes)
    refuse_empty(data)
    return data


@contextmanager
def place_errors_as_os_errors() -> Iterator[None]:
    """Opening and reading inside: what the plug-in of a file system raises, which may be anything, becomes an `OSError`."""
    try:
        yield
    except (OSError, UnreadableDocumentError):
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def refuse_too_large(file: DocumentFile, max_bytes: int) -> None:
    """Refuse a file by its size, before it is opened.

    Raises:
        UnreadableDocumentError: It is larger than the bound.
    """
    if file.num_bytes is not None and file.num_bytes > max_bytes:
        raise _too_large(_mebibytes(file.num_bytes), max_bytes)


def refuse_empty(start: bytes) -> None:
    """Refuse a file of which nothing could be read.

    Raises:
        UnreadableDocumentError: There are no bytes, or nothing but spaces.
    """
    if not start.strip():
        raise UnreadableDocumentError("empty-file", "the file is empty", "fill it, or remove it")


def text_of(data: bytes, *, name: str) -> tuple[str, tuple[Note, ...]]:
    """Bytes in any common encoding as clean text, with notes about the encoding.

    Raises:
        UnreadableDocumentError: They are no text.
    """
    refuse_foreign(data)
    try:
        decoded = decode_text(data, name=name)
    except DataError as error:
        raise _binary("binary") from error
    return clean_text(mend_wrong_bytes(decoded.text)), as_told_here(decoded.notes)


def encoding_of(start: bytes, *, name: str) -> tuple[str, tuple[Note, ...]]:
    """What text that begins so is encoded in, by Python's name, with notes about it.

    Raises:
        UnreadableDocumentError: It is no text.
    """
    refuse_foreign(start)
    try:
        decoded = decode_text(_CUT_CHARACTER.sub(b"", start), name=name)
    except DataError as error:
        raise _binary("binary") from error
    return decoded.encoding, as_told_here(decoded.notes)


def as_told_here(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Notes of the readers of examples, without the option and the form that are there for examples alone."""
    return tuple(
        replace(note, remedy=next((remedy for words, remedy in _REMEDIES.items() if words in note.remedy), note.remedy))
        for note in notes
    )


def refuse_foreign(start: bytes) -> None:
    """Refuse what is no text by its first bytes.

    Raises:
        UnreadableDocumentError: It is a picture, a program, a document of another format or the like.
    """
    kind = "a ZIP archive or an Office document" if start.startswith(b"PK\x03\x04") else foreign_kind(start)
    if kind is not None:
        raise _binary(kind)


def document_from(
    file: DocumentFile,
    *,
    title: str,
    sections: tuple[Section, ...],
    attributes: Mapping[str, AttributeValue] | None = None,
    row: int | None = None,
    own_id: str | None = None,
) -> Document:
    """A document with the hash of all that is kept of it.

    Args:
        file: Where it is from.
        title: "" for the file's name without its ending, or for none where the document is a row.
        sections: With their text; those without are left out.
        attributes: What filters look at.
        row: The number of its row; None: it is the whole file.
        own_id: The row's own; None: where it is from.

    Raises:
        UnreadableDocumentError: There is no text in it.
    """
    sections = tuple(section for section in sections if section.text.strip())
    if not sections:
        raise UnreadableDocumentError("no-text", "there is no text in it", "remove it, or fill it")
    source = file.name if row is None else f"{file.name}:{row}"
    title = clean_line(title) or ("" if row is not None else PurePosixPath(file.name).stem)
    document = Document(
        id=clean_line(own_id or "") or source,
        source=source,
        title=title if len(title) <= MAX_TITLE_CHARACTERS else title[: MAX_TITLE_CHARACTERS - 1] + "…",
        sections=sections,
        sha256="",
        attributes=attributes or {},
    )
    return with_hash(document)


def with_hash(document: Document) -> Document:
    """The document with the hash of what is in it now."""
    kept = {
        "id": document.id,
        "source": document.source,
        "title": document.title,
        "sections": [[section.text, list(section.title_path), section.page] for section in document.sections],
        "attributes": dict(document.attributes),
    }
    return replace(document, sha256=sha256_of_json(kept))


def _binary(kind: str) -> UnreadableDocumentError:
    return UnreadableDocumentError(
        "binary-file",
        f"expected text by its name, and this is {kind}",
        "give the file the ending of its format, or remove it",
    )


def _too_large(size: str, max_bytes: int) -> UnreadableDocumentError:
    return UnreadableDocumentError(
        "too-large",
        f"expected at most {_mebibytes(max_bytes)} of this format, and it is {size}",
        "divide it into several files",
    )


def _mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):,.1f} MiB"
