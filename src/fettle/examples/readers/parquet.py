"""Parquet files, through pyarrow."""

from __future__ import annotations

import io
from collections import Counter

from fettle.errors import ConfigError, DataError
from fettle.examples.archives import MAX_PLAIN_BYTES, PlainFile
from fettle.examples.reader import MAX_ROWS, Rows
from fettle.examples.readers.json_values import row_from_values


class ParquetReader:
    """Reads every column of every row group; `line` counts rows from 1, for there is no header row."""

    def reads(self, file: PlainFile) -> bool:
        """By the file's first bytes."""
        return file.data.startswith(b"PAR1")

    def read(self, file: PlainFile, wanted_columns: tuple[str, ...]) -> Rows:  # noqa: ARG002 -- the interface's
        """Every row.

        Raises:
            DataError: The file is damaged or too large.
            ConfigError: pyarrow is not installed.
        """
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ConfigError(
                "reading Parquet files needs the package pyarrow",
                where=file.name,
                remedy="pip install 'fettle-llm[tables]'",
            ) from error
        try:
            metadata = pyarrow.parquet.read_metadata(io.BytesIO(file.data))
            num_bytes = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
            if metadata.num_rows > MAX_ROWS or num_bytes > MAX_PLAIN_BYTES:
                raise DataError(f"{metadata.num_rows:,} rows are too many", where=file.name, remedy="give a sample")
            _refuse_repeated(metadata.schema.to_arrow_schema().names, file.name)
            records = pyarrow.parquet.read_table(io.BytesIO(file.data)).to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"damaged Parquet file ({error})", where=file.name, remedy="export it again") from error
        return Rows(rows=tuple(row_from_values(record, number) for number, record in enumerate(records, start=1)))


def _refuse_repeated(names: list[str], file_name: str) -> None:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"the column {repeated[0]!r} is there more than once, and nobody knows which one is meant",
            where=file_name,
            remedy="rename one of them and export the table again",
        )
