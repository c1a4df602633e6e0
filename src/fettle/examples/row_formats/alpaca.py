"""Alpaca rows: `{"instruction": …, "input": …, "output": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.examples.notes import UnusableRowError
from fettle.examples.row_format import Conversation
from fettle.examples.row_formats.chat import conversation_from_messages, system_message
from fettle.examples.row_formats.truth import truth_of
from fettle.examples.row_formats.turns import group_name, identifier, is_blank, pair, plain_text
from fettle.records import Message


class AlpacaFormat:
    """The instruction is what to do; where there is an input, the instruction becomes the system message.

    LLaMA-Factory's `history`, pairs of earlier questions and answers, and `system` come before.
    """

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
        if values.get("history") or values.get("system"):
            return self._after_history(values, messages)
        return Conversation(
            messages=messages, id=identifier(values, "id"), group=group_name(values, "group"), truth=truth_of(values)
        )

    def _after_history(self, values: Mapping[str, Any], messages: tuple[Message, ...]) -> Conversation:
        history = values.get("history") or []
        if not isinstance(history, list) or not all(isinstance(turns, list) and len(turns) == 2 for turns in history):
            raise UnusableRowError(
                "bad-messages", "`history` must be a list of pairs", "write [question, answer] pairs"
            )
        own = [{"role": message.role, "content": message.content} for message in messages]
        systems = [*system_message(values), *(turn for turn in own if turn["role"] == "system")]
        joined = [{"role": "system", "content": "\n\n".join(turn["content"] for turn in systems)}] if systems else []
        earlier = [
            {"role": role, "content": text}
            for turns in history
            for role, text in zip(("user", "assistant"), turns, strict=True)
        ]
        return conversation_from_messages([*joined, *earlier, *(t for t in own if t["role"] != "system")], values)
