"""What is sent to be answered in a chat, checked as far as the request alone allows, and made into what the engine is asked."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal

import regex
from jsonschema import Draft202012Validator, SchemaError
from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from fettle.answering.call_grammar import COMPACT_ITEM_SEPARATOR, COMPACT_KEY_SEPARATOR, CallRules
from fettle.answering.chat import ChatRequest
from fettle.answering.engine import JsonForm
from fettle.answering.sampling import Sampling
from fettle.chat.call_format import NAME
from fettle.examples.notes import UnusableRowError
from fettle.examples.row_formats.chat import parsed_tools, parsed_turns
from fettle.records import Message, Tool
from fettle.server.errors import ApiError, invalid
from fettle.server.search_bodies import FILE_SEARCH, FileSearchTool, search_tool
from fettle.server.wire import Metadata, RequestBody, Text

_MOST_SEED = 2**63 - 1
_MOST_TOOLS = 128
_LEAST_TOP_P = 1e-6
"""0 means the likeliest token alone, as this does."""
_UNSUPPORTED = ("audio", "web_search_options", "functions", "function_call", "moderation")


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Number = Annotated[float, Field(strict=True)]
_Penalty = Annotated[_Number, Field(ge=-2, le=2)]
_Tokens = Annotated[StrictInt, Field(ge=1, le=2**31 - 1)]
_Object = dict[str, Any]


class StreamOptions(RequestBody):
    """What a stream holds besides."""

    include_usage: StrictBool | None = None
    include_obfuscation: StrictBool | None = None
    """Has no effect: nothing is padded."""


class CreateChatCompletion(RequestBody):
    """The body of `POST /chat/completions`."""

    model: Annotated[Text, Field(min_length=1, max_length=255)]
    messages: Annotated[list[_Object], Field(min_length=1)]
    max_completion_tokens: _Tokens | None = None
    max_tokens: _Tokens | None = None
    """The older spelling of `max_completion_tokens`."""
    temperature: Annotated[_Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[_Number, Field(ge=0, le=1)] | None = None
    n: Annotated[StrictInt, Field(ge=1, le=128)] | None = None
    stop: Annotated[Annotated[list[Text], Field(max_length=4)] | None, BeforeValidator(_as_list)] = None
    seed: Annotated[StrictInt, Field(ge=-_MOST_SEED - 1, le=_MOST_SEED)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    logit_bias: dict[str, Annotated[_Number, Field(ge=-100, le=100)]] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=20)] | None = None
    response_format: _Object | None = None
    tools: Annotated[list[_Object], Field(max_length=_MOST_TOOLS)] | None = None
    tool_choice: Any = None
    parallel_tool_calls: StrictBool | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    modalities: list[Literal["text"]] | None = None
    metadata: Metadata | None = None
    user: Text | None = None
    store: StrictBool | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_retention: Text | None = None
    reasoning_effort: Text | None = None
    verbosity: Text | None = None
    prediction: _Object | None = None
    audio: Any = None
    web_search_options: Any = None
    functions: Any = None
    function_call: Any = None
    moderation: Any = None

    def as_request(self) -> ChatRequest:
        """What the engine is asked.

        Raises:
            ApiError: Something does not go together, or is not supported.
        """
        for name in _UNSUPPORTED:
            if getattr(self, name) is not None:
                raise invalid(f"`{name}` is not supported by this server.", name, "unsupported_value")
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("`top_logprobs` needs `logprobs` to be true.", "top_logprobs")
        if self.stream_options is not None and not self.stream:
            raise invalid("`stream_options` needs `stream` to be true.", "stream_options")
        tools = _tools(self.tools or [])
        rules = self._rules(tools)
        return ChatRequest(
            messages=_messages(self.messages),
            tools=tools if rules is not None else (),
            rules=rules,
            text_form=_text_form(self.response_format),
            sampling=self._sampling(),
            stop=tuple(stop for stop in self.stop or () if stop),
            max_new_tokens=self.max_completion_tokens or self.max_tokens,
            num_top_log_probs=(self.top_logprobs or 0) if self.logprobs else None,
            num_choices=self.n or 1,
            end_user=self.safety_identifier or self.user,
        )

    @property
    def search(self) -> FileSearchTool | None:
        """What is to be searched before the answer is written.

        Raises:
            ApiError: It is not as it should be.
        """
        return None if self.tool_choice == "none" else search_tool(self.tools or [])

    @property
    def wants_usage(self) -> bool:
        """A stream ends with what it took."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def _sampling(self) -> Sampling:
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else max(self.top_p, _LEAST_TOP_P),
            seed=secrets.randbelow(_MOST_SEED) if self.seed is None else self.seed,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=_biases(self.logit_bias or {}),
        )

    def _rules(self, tools: tuple[Tool, ...]) -> CallRules | None:
        """What may be called; None: nothing. With `none` the model is not told of functions, and what it writes is text."""
        given = [tool for tool in self.tools or [] if tool.get("type") != FILE_SEARCH]
        strict = {tool["function"]["name"] for tool in given if tool["function"].get("strict")}
        has_search = len(given) < len(self.tools or [])
        match self.tool_choice:
            case {"type": "file_search"} if has_search:
                must_call, called = False, tools
            case "required" if has_search and not tools:
                return None
            case None | "auto":
                must_call, called = False, tools
            case "none":
                return None
            case "required":
                must_call, called = True, tools
                if not tools:
                    raise invalid("`tool_choice` is 'required', and there are no `tools`.", "tool_choice")
            case {"type": "function", "function": {"name": str(name)}}:
                must_call, called = True, tuple(tool for tool in tools if tool.name == name)
                if not called:
                    raise invalid(f"`tool_choice` names the function '{name}', which is not in `tools`.", "tool_choice")
            case other:
                message = '`tool_choice` is \'none\', \'auto\', \'required\' or {"type": "function", "function": {"name": ...}}'
                raise invalid(f"{message}; it is {json.dumps(other)[:200]}.", "tool_choice")
        if not tools:
            return None
        return CallRules(
            tools=called,
            strict_names=frozenset(tool.name for tool in called) if must_call else frozenset(strict),
            must_call=must_call,
            at_most_one=self.parallel_tool_calls is False or isinstance(self.tool_choice, dict),
        )


def _messages(raw: list[_Object]) -> tuple[Message, ...]:
    _require_text(raw, "messages")
    for place, message in enumerate(raw):
        _require_role_and_content(message, f"messages[{place}]")
    try:
        messages, _ = parsed_turns(raw)
    except UnusableRowError as error:
        raise invalid(f"{str(error)[:1].upper()}{str(error)[1:]}.", "messages") from error
    for place, message in enumerate(messages):
        if message.role == "tool" and raw[place].get("role") == "tool" and message.tool_call_id is None:
            raise _missing(f"messages[{place}].tool_call_id")
    return messages


def _require_role_and_content(message: _Object, where: str) -> None:
    if message.get("role") is None:
        raise _missing(f"{where}.role")
    content = message.get("content")
    says_otherwise = any(message.get(key) for key in ("tool_calls", "function_call", "refusal"))
    if content is None and not (message["role"] == "assistant" and says_otherwise):
        raise _missing(f"{where}.content")
    if not isinstance(content, str | list | None):
        raise invalid(f"`{where}.content` is a text, or a list of parts.", f"{where}.content", "invalid_type")
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            raise invalid(f"A part of `{where}.content` is no object.", f"{where}.content", "invalid_type")


def _missing(where: str) -> ApiError:
    return ApiError(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")


def _tools(raw: list[_Object]) -> tuple[Tool, ...]:
    _require_text(raw, "tools")
    for place, tool in enumerate(raw):
        if tool.get("type") == FILE_SEARCH:
            continue
        if tool.get("type") != "function":
            other = str(tool.get("type"))[:40]
            message = f"A tool's `type` is 'function' or '{FILE_SEARCH}'; others, such as {other!r}, are not supported."
            raise invalid(message, f"tools[{place}].type", "unsupported_value")
        name = tool["function"].get("name") if isinstance(tool.get("function"), dict) else None
        if not isinstance(name, str) or not regex.fullmatch(NAME, name):
            message = "A function's name is 1 to 64 letters, digits, underscores and dashes."
            raise invalid(message, f"tools[{place}].function.name")
        if not isinstance(tool["function"].get("strict"), bool | None):
            raise invalid("`strict` is true or false.", f"tools[{place}].function.strict", "invalid_type")
        _require_schema(tool["function"].get("parameters"), f"tools[{place}].function.parameters")
    try:
        tools = parsed_tools({"tools": [tool for tool in raw if tool.get("type") != FILE_SEARCH]})
    except UnusableRowError as error:
        raise invalid(f"{error}.", "tools") from error
    if len({tool.name for tool in tools}) < len(tools):
        raise invalid("Two `tools` have the same name.", "tools")
    return tools


def _text_form(response_format: _Object | None) -> JsonForm | None:
    _require_text(response_format, "response_format")
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return _json_form({"type": "object"})
        case {"type": "json_schema", "json_schema": {"name": str(name), **given}}:
            if not regex.fullmatch(NAME, name):
                message = "A schema's name is 1 to 64 letters, digits, underscores and dashes."
                raise invalid(message, "response_format.json_schema.name")
            schema = given.get("schema")
            _require_schema(schema, "response_format.json_schema.schema")
            return _json_form(schema or {})
        case {"type": "json_schema", "json_schema": dict()}:
            where = "response_format.json_schema.name"
        case {"type": "json_schema"}:
            where = "response_format.json_schema"
        case {"type": other}:
            message = f"'{str(other)[:40]}' is not one of 'text', 'json_object', 'json_schema'."
            raise invalid(message, "response_format.type")
        case _:
            where = "response_format.type"
    raise _missing(where)


def _json_form(schema: _Object) -> JsonForm:
    return JsonForm(
        schema=json.dumps(schema, ensure_ascii=False),
        item_separator=COMPACT_ITEM_SEPARATOR,
        key_separator=COMPACT_KEY_SEPARATOR,
    )


def _require_schema(schema: Any, param: str) -> None:
    if schema is None:
        return
    if not isinstance(schema, dict):
        raise invalid("Expected a JSON schema, which is an object.", param, "invalid_type")
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        reason = error.message if isinstance(error, SchemaError) else "it is nested too deeply"
        raise invalid(f"This is not a valid JSON schema: {reason[:200]}.", param) from error


def _require_text(value: Any, param: str) -> None:
    """Refuse text that is no Unicode, which no tokenizer takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise invalid(f"`{param}` holds text that is not valid Unicode (half a surrogate pair).", param) from error
    except RecursionError as error:
        raise invalid(f"`{param}` is nested too deeply.", param) from error


def _biases(given: dict[str, float]) -> dict[int, float]:
    if wrong := next((key for key in given if not regex.fullmatch("[0-9]{1,9}", key)), None):
        message = f"The keys of `logit_bias` are token ids such as \"42\"; one is '{wrong[:40]}'."
        raise invalid(message, "logit_bias")
    return {int(key): float(bias) for key, bias in given.items()}
