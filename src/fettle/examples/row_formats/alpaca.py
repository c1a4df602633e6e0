"""Alpaca rows: `{"instruction": …, "input": …, "output": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.examples.row_format import Conversation
from fettle.examples.row_formats.turns import identifier, is_blank, pair, plain_text
from fettle.records import Message


class AlpacaFormat:
    """The instruction is what to do; where there is an input, the instruction becomes the system message."""

    name = "Alpaca"

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether there is an instruction with an output."""
        return "instruction" in values and "output" in values

    def convert(self, values: Mapping[str, Any]) -> Conversation:
        """Two turns, or three.

        Raises:
            UnusableRowError: The instruction or the output is empty.
        """
        instruction, answer = plain_text(values["instruction"]), plain_text(values["output"])
        input_text = plain_text(values.get("input"))
        messages = pair(instruction, answer) if is_blank(input_text) else pair(input_text, answer)
        if not is_blank(input_text) and not is_blank(instruction):
            messages = (Message(role="system", content=instruction), *messages)
        return Conversation(messages=messages, id=identifier(values, "id"), group=identifier(values, "group"))
