"""OpenAI chat rows: `{"messages": [...], "tools": [...]}`, with tool calls, weights, and the deprecated function calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from fettle.examples.notes import Note, UnusableRowError, repaired, warning
from fettle.examples.row_format import Conversation
from fettle.examples.row_formats.truth import truth_of
from fettle.examples.row_formats.turns import check_turns, group_name, identifier, up_to_wanted_answer
from fettle.records import Message, Role, Tool, ToolCall, joined_text_parts

_ROLES = frozenset(get_args(Role))
_KNOWN_KEYS = frozenset(
    {
        "role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal",
        "audio", "annotations"
    }
)  # fmt: skip
_USE_CHAT = 'write {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}'


class ChatFormat:
    """The native format; every other one is converted to it."""

    name = "OpenAI chat"

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether there is a `messages` key."""
        return "messages" in values

    def convert(self, values: Mapping[str, Any]) -> Conversation:
        """The conversation as it stands, checked turn by turn.

        Raises:
            UnusableRowError: A message, a tool or the order of turns breaks the format.
        """
        raw_messages = values["messages"]
        if not isinstance(raw_messages, list) or not raw_messages:
            raise UnusableRowError("bad-messages", "`messages` must be a list with at least one message", _USE_CHAT)
        return conversation_from_messages([*system_message(values), *raw_messages], values)


def system_message(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The system message that some formats (Anthropic, ShareGPT, LLaMA-Factory) keep beside the turns; none where there is none."""
    system = values.get("system")
    return [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []


def conversation_from_messages(raw_messages: list[Any], values: Mapping[str, Any]) -> Conversation:
    """A conversation from OpenAI message objects; `values` is the row they came from, for its tools and its name.

    Raises:
        UnusableRowError: A message, a tool or the order of turns breaks the format.
    """
    given, notes = parsed_turns(raw_messages)
    messages, cut = up_to_wanted_answer(given)
    return Conversation(
        messages=messages,
        tools=parsed_tools(values),
        id=identifier(values, "id"),
        group=group_name(values, "group"),
        truth=truth_of(values),
        notes=(*notes, *cut, *check_turns(messages)),
    )


def parsed_turns(raw_messages: list[Any]) -> tuple[tuple[Message, ...], tuple[Note, ...]]:
    """Messages from OpenAI message objects, each by itself, and what was noticed; their order is not looked at.

    Raises:
        UnusableRowError: A message breaks the format.
    """
    notes: list[Note] = []
    given: list[Message] = []
    for number, raw in enumerate(raw_messages, start=1):
        if not isinstance(raw, Mapping):
            raise _bad_message(number, "must be an object", _USE_CHAT)
        given.append(_message(raw, number, given, notes))
    return tuple(given), tuple(notes)


def messages_and_tools(values: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[Tool, ...]]:
    """What an object with `messages` and perhaps `tools` says, whether or not it ends with an answer.

    Raises:
        UnusableRowError: It breaks the format.
    """
    messages, _ = parsed_turns(values["messages"])
    return messages, parsed_tools(values)


def _message(raw: Mapping[str, Any], number: int, before: list[Message], notes: list[Note]) -> Message:
    values = {key: value for key, value in raw.items() if value is not None}
    if unknown := sorted(set(values) - _KNOWN_KEYS):
        text = f"message {number}: unknown key {', '.join(unknown)} is not used"
        notes.append(warning("unknown-key", text, "remove it, or spell it as in the OpenAI format"))
    role = _role(values, number)
    tool_calls = _tool_calls(values, number, notes)
    tool_call_id = _optional_text(values, "tool_call_id", number)
    if role == "function":
        role = "tool"
        tool_call_id = _call_id_of_function(values, number, before)
    return Message(
        role=role,
        content=_content(values, number, role=role, has_calls=bool(tool_calls)),
        tool_calls=tool_calls,
        tool_call_id=tool_call_id,
        name=_optional_text(values, "name", number),
        weight=_weight(values, number, role),
    )


def _role(values: Mapping[str, Any], number: int) -> Any:
    role = values.get("role")
    if not isinstance(role, str) or (role not in _ROLES and role != "function"):
        given = "is missing" if role is None else f"{json.dumps(role, ensure_ascii=False, default=str)[:40]} is unknown"
        raise _bad_message(number, f"role {given}", f"use one of {', '.join(sorted(_ROLES))}", code="bad-role")
    return role


def _content(values: Mapping[str, Any], number: int, *, role: str, has_calls: bool) -> str:
    content = values.get("content")
    if content is None and role == "assistant":
        if has_calls:
            return ""
        if isinstance(values.get("refusal"), str):
            return values["refusal"]
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return joined_text_parts(_part(part, number, role) for part in content)
    if content is None:
        raise _bad_message(number, "`content` is missing or null", "give the text", code="bad-content")
    raise _bad_message(number, f"`content` is {_kind(content)}, not text", "put it in quotes", code="bad-content")


def _part(part: Any, number: int, role: str) -> str:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "refusal", "refusal": str(text)} if role == "assistant":
            return text
    kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
    raise _bad_message(number, f"a part of type {kind!r} is not text", "only text can be learned", code="bad-content")


def _weight(values: Mapping[str, Any], number: int, role: str) -> int | None:
    weight = values.get("weight")
    if weight is None:
        return None
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
        raise _bad_message(number, f"weight must be 0 or 1, not {weight!r:.20}", "use 0 or 1", code="bad-weight")
    if role != "assistant":
        raise _bad_message(number, f"weight on a message from the {role}", "only answers have one", code="bad-weight")
    return int(weight)


def _tool_calls(values: Mapping[str, Any], number: int, notes: list[Note]) -> tuple[ToolCall, ...]:
    raw_calls = values.get("tool_calls", [])
    if not isinstance(raw_calls, list):
        raise _bad_message(number, "`tool_calls` must be a list", "wrap the call in [ ]", code="bad-tool-call")
    if "function_call" in values:
        raw_calls = [*raw_calls, {"id": _function_call_id(number), "function": values["function_call"]}]
        text = f"message {number}: the deprecated function_call was read as a tool call"
        notes.append(repaired("function-call", text, "write tool_calls"))
    if raw_calls and values.get("role") != "assistant":
        raise _bad_message(number, "only the assistant makes tool calls", "correct the role", code="bad-tool-call")
    return tuple(_tool_call(raw, number, position, notes) for position, raw in enumerate(raw_calls, start=1))


def _tool_call(raw: Any, number: int, position: int, notes: list[Note]) -> ToolCall:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _bad_message(number, "a tool call needs function.name", "add it", code="bad-tool-call")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, Mapping):
        arguments = json.dumps(arguments, ensure_ascii=False)
        text = f"message {number}: tool call arguments were an object, and became JSON text"
        notes.append(repaired("tool-arguments-object", text, "write the arguments as a JSON string"))
    if not isinstance(arguments, str) or not _is_json(arguments):
        raise _bad_message(
            number, "tool call arguments are not JSON text", 'write them as "{\\"key\\": …}"', code="bad-tool-call"
        )
    return ToolCall(id=str(raw.get("id") or f"call_{number}_{position}"), name=function["name"], arguments=arguments)


def _function_call_id(number: int) -> str:
    return f"call_{number}"


def _call_id_of_function(values: Mapping[str, Any], number: int, before: list[Message]) -> str | None:
    """The id of the latest call of the function whose result this deprecated message is."""
    name = _optional_text(values, "name", number)
    calls = [call for message in before for call in message.tool_calls if call.name == name]
    return calls[-1].id if calls else None


def parsed_tools(values: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The tools of a row or a request, by their newer or older name.

    Raises:
        UnusableRowError: They break the format.
    """
    tools = values.get("tools")
    functions = values.get("functions")
    if tools is None and functions is None:
        return ()
    if tools is None and isinstance(functions, list):
        tools = [{"function": function} for function in functions]
    if not isinstance(tools, list):
        raise UnusableRowError("bad-tools", "`tools` must be a list", "write a list of tools, each with function.name")
    return tuple(_tool(raw) for raw in tools)


def _tool(raw: Any) -> Tool:
    function = raw.get("function") if isinstance(raw, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UnusableRowError("bad-tools", "every tool needs function.name", "add the name")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise UnusableRowError("bad-tools", "function.parameters must be a JSON Schema object", "write an object")
    return Tool(
        name=function["name"],
        description=str(function.get("description") or ""),
        parameters=json.dumps(parameters or {}, ensure_ascii=False),
    )


def _optional_text(values: Mapping[str, Any], key: str, number: int) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise _bad_message(number, f"`{key}` is {_kind(value)}, not text", "put it in quotes")
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "a list"}
    return kinds.get(type(value), "a value")


def _bad_message(number: int, problem: str, remedy: str, *, code: str = "bad-message") -> UnusableRowError:
    return UnusableRowError(code, f"message {number}: {problem}", remedy)
