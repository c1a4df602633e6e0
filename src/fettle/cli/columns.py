"""The options about reading files that several sub-commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from fettle.errors import ConfigError
from fettle.examples.column_names import ColumnMapping

EncodingOption = Annotated[
    str | None,
    typer.Option("--encoding", help="Encoding of text files, such as cp850; told from their bytes when left out."),
]


def mapping(
    input_column: str | None,
    answer_column: str | None,
    *,
    id_column: str | None = None,
    group_column: str | None = None,
) -> ColumnMapping | None:
    """The columns that were named; None when none was.

    Raises:
        ConfigError: Only one of input and answer was named.
    """
    if input_column is None and answer_column is None:
        if id_column or group_column:
            raise ConfigError(
                "columns of ids and groups need --input and --answer", remedy="name those columns as well"
            )
        return None
    if input_column is None or answer_column is None:
        raise ConfigError("--input and --answer go together", remedy="give both, each with the name of a column")
    return ColumnMapping(input=input_column, answer=answer_column, id=id_column, group=group_column)
