"""Records and table rows in which one column is the input and another the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fettle.examples.column_names import ColumnMapping
from fettle.examples.notes import UnusableRowError
from fettle.examples.row_format import Conversation
from fettle.examples.row_formats.truth import truth_of
from fettle.examples.row_formats.turns import group_name, identifier, pair, plain_text


@dataclass(frozen=True, slots=True)
class ColumnsFormat:
    """Reads the mapped columns; an answer that is an object becomes JSON text with its keys in the order given."""

    mapping: ColumnMapping
    name = "columns"

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether one of the two columns is there."""
        return self.mapping.input in values or self.mapping.answer in values

    def convert(self, values: Mapping[str, Any]) -> Conversation:
        """The two turns.

        Raises:
            UnusableRowError: The input or the answer is empty, or both are lists: a table that was written column by column.
        """
        inputs, answers = values.get(self.mapping.input), values.get(self.mapping.answer)
        if isinstance(inputs, list) and isinstance(answers, list) and len(inputs) == len(answers) > 1:
            raise UnusableRowError(
                "by-columns",
                f"holds {len(inputs)} inputs and as many answers: the table was written column by column",
                'write one object per example (pandas: orient="records")',
            )
        return Conversation(
            messages=pair(plain_text(inputs), plain_text(answers)),
            id=identifier(values, self.mapping.id),
            group=group_name(values, self.mapping.group),
            truth=truth_of(values, used=(self.mapping.input, self.mapping.answer)),
        )
