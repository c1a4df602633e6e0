"""Tables (CSV, TSV) and JSON documents whose rows are documents, or questions and answers, by the readers of examples."""

from __future__ import annotations

from collections.abc import Iterator

from fettle.errors import DataError
from fettle.examples.archives import PlainFile
from fettle.examples.readers.registry import reader_for
from fettle.records import Finding, Location
from fettle.retrieval.document_reader import (
    SAMPLE_BYTES,
    DocumentFile,
    UnreadableDocumentError,
    as_told_here,
    encoding_of,
    whole_content,
)
from fettle.retrieval.document_rows import RowDocuments, with_numbers
from fettle.retrieval.records import Document


class TableDocumentReader:
    """Reads a document a row."""

    title = "CSV, TSV or JSON"
    suffixes: tuple[str, ...] = (".csv", ".tsv", ".tab", ".json")
    max_bytes = 64 << 20

    def read(self, file: DocumentFile) -> Iterator[Document | Finding]:
        """Every row, in the order of the file."""
        data = whole_content(file, self.max_bytes)
        encoding_of(data[:SAMPLE_BYTES], name=file.name)
        plain = PlainFile(name=file.name, suffix=file.suffix, data=data)
        try:
            found = reader_for(plain).read(plain, ())
        except DataError as error:
            remedy = "give it columns named id, title and text, or question and answer"
            raise UnreadableDocumentError("no-table", error.problem, remedy) from error
        yield from (note.about(file.name) for note in as_told_here(found.notes))
        rows = RowDocuments(file)
        values = with_numbers([row.values or {} for row in found.rows]) if file.suffix != ".json" else None
        for position, row in enumerate(found.rows):
            place = Location(file=file.name, line=row.line)
            yield from (note.at(place) for note in as_told_here(row.notes))
            if row.values is not None:
                yield rows.document(row.values if values is None else values[position], row.line)
        yield from rows.findings()
