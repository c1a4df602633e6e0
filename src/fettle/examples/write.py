"""Examples to a file in the native format, OpenAI chat JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fettle.files import write_atomically
from fettle.records import Example, Message, Prompt, Tool, ToolCall


def write_chat_jsonl(examples: Sequence[Example], path: Path) -> None:
    """Write one conversation per line; reading the file gives equal examples, apart from where they come from.

    The file is replaced as a whole or not at all.

    Raises:
        DiskFullError: No space is left.
        ConfigError: The folder cannot be written.
    """
    write_atomically(path, chat_lines(examples))


def chat_lines(examples: Sequence[Example]) -> str:
    """The content of such a file."""
    rows = (json.dumps(chat_row(example), ensure_ascii=False, allow_nan=False) for example in examples)
    return "".join(f"{row}\n" for row in rows)


def chat_row(example: Example) -> dict[str, Any]:
    """An example as the object that its line holds."""
    row: dict[str, Any] = {"id": example.id, "messages": [_message(message) for message in example.messages]}
    if example.tools:
        row["tools"] = [_tool(tool) for tool in example.tools]
    if example.group is not None:
        row["group"] = example.group
    if example.document_ids is not None:
        row["document_ids"] = list(example.document_ids)
    if example.references:
        row["references"] = list(example.references)
    return row


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt's messages and tools, as in such an object."""
    row: dict[str, Any] = {"messages": [_message(message) for message in prompt.messages]}
    return row | ({"tools": [_tool(tool) for tool in prompt.tools]} if prompt.tools else {})


def _message(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        row["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    optional = {"tool_call_id": message.tool_call_id, "name": message.name, "weight": message.weight}
    return row | {key: value for key, value in optional.items() if value is not None}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": json.loads(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}
