"""Prompt and completion rows: `{"prompt": …, "completion": …}`, each a text or a list of chat messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fettle.examples.row_format import Conversation
from fettle.examples.row_formats.chat import conversation_from_messages
from fettle.examples.row_formats.truth import truth_of
from fettle.examples.row_formats.turns import group_name, identifier, pair, plain_text


class PromptCompletionFormat:
    """The prompt becomes the user's message and the completion the answer."""

    name = "prompt/completion"

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether both keys are there."""
        return "prompt" in values and "completion" in values

    def convert(self, values: Mapping[str, Any]) -> Conversation:
        """The two turns. The space and line end that old completions carry for the tokenizer's sake are taken off.

        Raises:
            UnusableRowError: One of the two is empty.
        """
        prompt, completion = values["prompt"], values["completion"]
        if isinstance(prompt, list) or isinstance(completion, list):
            turns = prompt if isinstance(prompt, list) else [{"role": "user", "content": plain_text(prompt)}]
            answer = {"role": "assistant", "content": plain_text(completion).strip()}
            return conversation_from_messages(
                [*turns, *(completion if isinstance(completion, list) else [answer])], values
            )
        return Conversation(
            messages=pair(plain_text(prompt), plain_text(completion).strip()),
            id=identifier(values, "id"),
            group=group_name(values, "group"),
            truth=truth_of(values),
        )
