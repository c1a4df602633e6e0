"""All documents at a place, one after the other, with findings about everything that is not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from fettle.errors import DataError
from fettle.examples.notes import Note, repaired
from fettle.records import Action, Finding, Location, Severity
from fettle.retrieval.document_places import files_at
from fettle.retrieval.document_reader import DocumentFile, UnreadableDocumentError, with_hash
from fettle.retrieval.document_readers.registry import READ_SUFFIXES, reader_for
from fettle.retrieval.records import Document

_NUM_LISTED = 3
_NUM_TOLD_OF_A_KIND = 20


def read_documents(place: str) -> Iterator[Document | Finding]:
    """Every document at a place, in the order of their paths, with findings beside; no more than one file is in memory.

    The first one is read at once: where there is nothing to read, nothing has to be made for it.

    A finding that is an error and left something out names the row, the file or, with a `/` at its end, the folder that could not
    be read, as `Document.source` does: what an index has from there may still be right.

    Args:
        place: A file, a folder, or an fsspec URL (`s3://bucket/folder`, `zip://::manual.zip`).

    Raises:
        DataError: There is nothing at the place, or no file that is read.
        ConfigError: The place cannot be looked at.
    """
    items = _read(place)
    return chain([first for first in [next(items, None)] if first is not None], items)


def _read(place: str) -> Iterator[Document | Finding]:
    taken: set[str] = set()
    num_files = 0
    passed_over: dict[str, list[str]] = {}
    for found in files_at(place):
        if isinstance(found, Finding):
            yield found
        elif reader_for(found.suffix) is None:
            passed_over.setdefault(found.suffix, []).append(found.name)
        else:
            num_files += 1
            for item in read_file(found):
                yield from [item] if isinstance(item, Finding) else _named_once(item, taken)
    if not num_files:
        raise _nothing_to_read(place, passed_over)
    yield from (_passed_over(suffix, names) for suffix, names in sorted(passed_over.items()))


def read_file(file: DocumentFile) -> Iterator[Document | Finding]:
    """Every document in one file; whatever is wrong with it is a finding, and no error.

    Ids are unique but for rows that have their own, as in `read_documents`.
    """
    reader = reader_for(file.suffix)
    if reader is None:
        yield _passed_over(file.suffix, [file.name])
        return
    try:
        yield from _folded(reader.read(file), file.name)
    except UnreadableDocumentError as error:
        yield error.note.about(file.name)
    except OSError as error:
        yield _cannot_be_opened(error).about(file.name)


def _folded(items: Iterator[Document | Finding], file: str) -> Iterator[Document | Finding]:
    """What is found in a file; of findings of one kind about rows the first ones alone, and how many more there are."""
    counts: Counter[tuple[str, Severity, Action]] = Counter()
    for item in items:
        if isinstance(item, Finding) and item.line is not None:
            kind = (item.code, item.severity, item.action)
            counts[kind] += 1
            if counts[kind] > _NUM_TOLD_OF_A_KIND:
                continue
        yield item
    for (code, severity, action), count in counts.items():
        if count > _NUM_TOLD_OF_A_KIND:
            text = f"{count - _NUM_TOLD_OF_A_KIND:,} more rows like the {_NUM_TOLD_OF_A_KIND} that were named"
            remedy = "mend those, and the others in the same way"
            yield Note(code=code, severity=severity, action=action, message=text, remedy=remedy).about(file)


def _named_once(document: Document, taken: set[str]) -> Iterator[Document | Finding]:
    """The document, with another id where its own is taken, and a finding that says so."""
    name = document.id
    if name in taken:
        name = document.source
        while name in taken:
            name += "'"
        text = f"the id {document.id!r} is that of another document; {name!r} is used instead"
        yield _at(document.source, repaired("repeated-id", text, "give each document its own"))
        document = with_hash(replace(document, id=name))
    taken.add(name)
    yield document


def _at(source: str, note: Note) -> Finding:
    file, _, row = source.rpartition(":")
    return note.at(Location(file=file, line=int(row))) if file and row.isdigit() else note.about(source)


def _cannot_be_opened(error: OSError) -> Note:
    reason = error.strerror or str(error) or type(error).__name__
    return Note(
        code="unreadable-file",
        severity=Severity.ERROR,
        action=Action.LEFT_OUT,
        message=f"cannot be read ({reason})",
        remedy="check that it is there, and that you may read it",
    )


def _passed_over(suffix: str, names: list[str]) -> Finding:
    """One finding for all files with an ending that is not read."""
    others = f", like {len(names) - 1} others here" if len(names) > 1 else ""
    return Note(
        code="unknown-ending",
        severity=Severity.INFO,
        action=Action.LEFT_OUT,
        message=f"files whose names end in {suffix} are not read{others}"
        if suffix
        else f"its name has no ending{others}",
        remedy=f"save what matters as one of {' '.join(READ_SUFFIXES)}",
    ).about(names[0])


def _nothing_to_read(place: str, passed_over: dict[str, list[str]]) -> DataError:
    names = [name for names in passed_over.values() for name in names]
    if not names:
        return DataError("the folder is empty", where=place, remedy="give a folder with documents")
    seen = ", ".join(names[:_NUM_LISTED]) + (
        f" and {len(names) - _NUM_LISTED} more" if len(names) > _NUM_LISTED else ""
    )
    return DataError(
        f"expected documents, and found only {seen}",
        where=place,
        remedy=f"give files that end in one of {' '.join(READ_SUFFIXES)}",
    )
