"""Tool calls for models whose chat template does not know them, in the Hermes form that many open models were trained on.

A template that ignores `tools` and `tool_calls` would silently drop them from training; here they become text instead. The form is
that of NousResearch's Hermes function calling: the tools as JSON in the system message, a call as JSON between `<tool_call>` tags.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fettle.records import Message, Tool, ToolCall


def tool_as_wire(tool: Tool) -> dict[str, Any]:
    """A tool in the OpenAI wire shape, which chat templates expect."""
    function = {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
    return {"type": "function", "function": function}


def call_as_wire(call: ToolCall) -> dict[str, Any]:
    """A call as chat templates expect it: arguments as an object where they parse to one."""
    try:
        arguments = json.loads(call.arguments)
    except json.JSONDecodeError:
        arguments = call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def tools_as_text(messages: Sequence[Message], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Messages for a template without tools: tools, calls and results written into the contents.

    >>> call = ToolCall(id="c", name="seats", arguments='{"city": "Rome"}')
    >>> tools_as_text([Message(role="assistant", content="", tool_calls=(call,))], [])[0]["content"]
    '<tool_call>\\n{"name": "seats", "arguments": {"city": "Rome"}}\\n</tool_call>'
    """
    plain: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        content = _content_with_calls(message)
        if message.role == "tool" and number and messages[number - 1].role == "tool":
            plain[-1]["content"] += f"\n{content}"  # results of parallel calls are one turn, as many templates demand
        else:
            plain.append({"role": "user" if message.role == "tool" else message.role, "content": content})
    if tools:
        listing = "\n".join(json.dumps(tool_as_wire(tool), ensure_ascii=False) for tool in tools)
        note = (
            "You may call these functions:\n<tools>\n"
            + listing
            + "\n</tools>\nTo call one, answer with JSON with the keys "
            '"name" and "arguments" between <tool_call> and </tool_call>.'
        )
        if plain and plain[0]["role"] == "system":
            plain[0]["content"] = f"{plain[0]['content']}\n\n{note}"
        else:
            plain.insert(0, {"role": "system", "content": note})
    return plain


def _content_with_calls(message: Message) -> str:
    if message.role == "tool":
        return f"<tool_response>\n{message.content}\n</tool_response>"
    calls = [
        json.dumps({"name": call.name, "arguments": call_as_wire(call)["function"]["arguments"]}, ensure_ascii=False)
        for call in message.tool_calls
    ]
    parts = [message.content] if message.content else []
    return "\n".join(parts + [f"<tool_call>\n{call}\n</tool_call>" for call in calls])
