"""All readers, in the order in which they are asked."""

from __future__ import annotations

from fettle.examples.archives import PlainFile
from fettle.examples.reader import Reader
from fettle.examples.readers.delimited import DelimitedReader
from fettle.examples.readers.excel import ExcelReader
from fettle.examples.readers.json_document import JsonDocumentReader
from fettle.examples.readers.json_lines import JsonLinesReader
from fettle.examples.readers.parquet import ParquetReader

READERS: tuple[Reader, ...] = (
    ParquetReader(),
    ExcelReader(),
    JsonDocumentReader(),
    JsonLinesReader(),
    DelimitedReader(),
)


def reader_for(file: PlainFile) -> Reader:
    """The reader of this file. The last one takes any text."""
    return next(reader for reader in READERS if reader.reads(file))
