"""JSON Lines: one object per line, split on line feeds only (U+2028 and U+0085 are ordinary characters in a string)."""

from __future__ import annotations

from fettle.examples.archives import PlainFile
from fettle.examples.encoding import decode_text
from fettle.examples.reader import Rows
from fettle.examples.readers.json_values import parse_row

SUFFIXES = frozenset({".jsonl", ".ndjson"})


class JsonLinesReader:
    """Reads one JSON object per line. Blank lines are passed over in silence: they hold nothing."""

    def reads(self, file: PlainFile) -> bool:
        """By name, or because the first line starts like an object."""
        if file.suffix in SUFFIXES or file.suffix == ".json":
            return True
        return file.suffix not in (".csv", ".tsv", ".tab") and _start(file).startswith(("{", "["))

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:  # noqa: ARG002 -- the interface's
        """Every non-blank line as a row."""
        decoded = decode_text(file.data, name=file.name, encoding=file.encoding)
        text = decoded.text if "\n" in decoded.text else decoded.text.replace("\r", "\n")
        lines = enumerate(text.split("\n"), start=1)
        rows = tuple(parse_row(line, number) for number, line in lines if line.strip(" \t\r\f\v\0"))
        return Rows(rows=rows, notes=decoded.notes)


def _start(file: PlainFile) -> str:
    return decode_text(file.data[:4096], name=file.name, encoding=file.encoding).text.lstrip()
