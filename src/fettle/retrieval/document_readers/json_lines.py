"""JSON Lines of documents, or of questions and answers: one object a line, read one at a time, however large the file is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

from fettle.examples.notes import left_out
from fettle.examples.readers.json_values import parse_row
from fettle.records import Finding, Location
from fettle.retrieval.document_reader import (
    SAMPLE_BYTES,
    DocumentFile,
    as_told_here,
    encoding_of,
    place_errors_as_os_errors,
    refuse_empty,
    refuse_too_large,
)
from fettle.retrieval.document_rows import RowDocuments
from fettle.retrieval.records import Document

_MAX_LINE_CHARACTERS = 8 << 20


class JsonLinesDocumentReader:
    """Reads a document a line, and holds no more than one line in memory."""

    title = "JSON Lines"
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson")
    max_bytes = 4 << 30

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """Every row, in the order of the file."""
        refuse_too_large(file, self.max_bytes)
        with place_errors_as_os_errors(), file.open() as stream:
            start = stream.read(SAMPLE_BYTES)
        refuse_empty(start)
        encoding, notes = encoding_of(start, name=file.name)
        yield from (note.about(file.name) for note in notes)
        rows = RowDocuments(file)
        with file.open() as stream, _as_text(stream, encoding) as text:
            for number, line in _lines(text):
                place = Location(file=file.name, line=number)
                if line is None:
                    problem = f"the line is longer than {_MAX_LINE_CHARACTERS:,} characters"
                    yield left_out("too-large", problem, "divide the document into several rows").at(place)
                    continue
                row = parse_row(line, number)
                yield from (note.at(place) for note in as_told_here(row.notes))
                if row.values is not None:
                    yield rows.document(row.values, number)
        yield from rows.findings()


def _as_text(stream: IO[bytes], encoding: str) -> io.TextIOWrapper:
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    return io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="\n")  # pyright: ignore[reportArgumentType]


def _lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str | None]]:
    """(number, line) of every line that is not blank; None in place of one that is longer than the bound."""
    number = 0
    while line := _line_or_part(text):
        number += 1
        if len(line) == _MAX_LINE_CHARACTERS and not line.endswith("\n"):
            while (rest := _line_or_part(text)) and not rest.endswith("\n"):
                pass
            yield number, None
        elif line.strip(" \t\r\n\f\v\0"):
            yield number, line.rstrip("\r\n")


def _line_or_part(text: io.TextIOWrapper) -> str:
    with place_errors_as_os_errors():
        return text.readline(_MAX_LINE_CHARACTERS)
