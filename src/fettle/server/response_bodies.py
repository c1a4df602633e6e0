"""What is sent to `POST /responses`, made into the chat request that says the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import regex
from pydantic import Field, StrictBool, StrictInt

from fettle.answering.chat import ChatRequest
from fettle.records import joined_text_parts
from fettle.server.chat_bodies import CreateChatCompletion
from fettle.server.errors import ApiError, invalid
from fettle.server.search_bodies import FileSearchTool, search_tool
from fettle.server.wire import Metadata, RequestBody, Text

_UNSUPPORTED = ("previous_response_id", "conversation", "prompt", "context_management", "moderation", "top_logprobs")
_LOG_PROBS = "message.output_text.logprobs"
SEARCH_RESULTS = "file_search_call.results"
_INCLUDED_IN_NOTHING = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)
"""Parts of what there is not here: other hosted tools, images, encrypted thoughts."""
_TEXT_PARTS = ("input_text", "output_text", "text")
_Object = dict[str, Any]
_Number = Annotated[float, Field(strict=True)]


class TextParam(RequestBody):
    """The form of the answer's text."""

    format: _Object | None = None
    verbosity: Text | None = None
    """Has no effect: these models have no such control."""


class CreateResponse(RequestBody):
    """The body of `POST /responses`."""

    model: Annotated[Text, Field(min_length=1, max_length=255)]
    input: Annotated[Text, Field(min_length=1)] | Annotated[list[_Object], Field(min_length=1)]
    instructions: Text | None = None
    temperature: Annotated[_Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[_Number, Field(ge=0, le=1)] | None = None
    max_output_tokens: Annotated[StrictInt, Field(ge=1, le=2**31 - 1)] | None = None
    text: TextParam | None = None
    tools: list[_Object] | None = None
    tool_choice: Any = None
    parallel_tool_calls: StrictBool | None = None
    metadata: Metadata | None = None
    stream: StrictBool | None = None
    background: Literal[False] | None = None
    store: StrictBool | None = None
    """Has no effect: responses are not kept."""
    include: list[Text] | None = None
    """What a search has found; other parts are of what there is none of. Log-probabilities are refused."""
    reasoning: _Object | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """Has no effect: what is too long is refused."""
    stream_options: _Object | None = None
    max_tool_calls: StrictInt | None = None
    """Of hosted tools, of which there are none."""
    service_tier: Text | None = None
    user: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_retention: Text | None = None
    prompt_cache_options: _Object | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None
    moderation: Any = None
    top_logprobs: Any = None

    @property
    def search(self) -> FileSearchTool | None:
        """What is to be searched before the answer is written.

        Raises:
            ApiError: It is not as it should be.
        """
        return None if self.tool_choice == "none" else search_tool(self.tools or [])

    @property
    def includes_results(self) -> bool:
        """Whether what was found is part of the answer."""
        return SEARCH_RESULTS in (self.include or [])

    def as_request(self) -> ChatRequest:
        """What the engine is asked.

        Raises:
            ApiError: Something does not go together, or is not supported.
        """
        for name in _UNSUPPORTED:
            if getattr(self, name):
                raise invalid(f"`{name}` is not supported by this server.", name, "unsupported_value")
        for place, wanted in enumerate(self.include or []):
            _require_nothing(wanted, f"include[{place}]")
        with in_terms_of_responses():
            return CreateChatCompletion(
                model=self.model,
                messages=self._messages(),
                max_completion_tokens=self.max_output_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                response_format=_response_format(self.text),
                tools=[_chat_tool(tool, place) for place, tool in enumerate(self.tools or [])],
                tool_choice=_chat_choice(self.tool_choice),
                parallel_tool_calls=self.parallel_tool_calls,
                user=self.user,
                safety_identifier=self.safety_identifier,
            ).as_request()

    def _messages(self) -> list[_Object]:
        messages: list[_Object] = []
        if self.instructions is not None:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for place, item in enumerate(self.input):
            _add(messages, item, f"input[{place}]")
        return messages


def _require_nothing(included: str, where: str) -> None:
    """Refuse what an answer cannot include; what there is none of is included in that way.

    Raises:
        ApiError: Log-probabilities, or what OpenAI's API does not know either.
    """
    if included == _LOG_PROBS:
        message = f"'{_LOG_PROBS}' is not supported by this server; chat completions give log-probabilities."
        raise invalid(message, where, "unsupported_value")
    if included not in (SEARCH_RESULTS, *_INCLUDED_IN_NOTHING):
        known = ", ".join(f"'{name}'" for name in _INCLUDED_IN_NOTHING)
        message = f"Nothing is called '{included[:60]}'; known are '{SEARCH_RESULTS}' and, of no effect here, {known}."
        raise invalid(message, where)


@contextmanager
def in_terms_of_responses() -> Iterator[None]:
    """Let refusals of the chat request name the fields of this one.

    Raises:
        ApiError: The same refusal.
    """
    try:
        yield
    except ApiError as error:
        param = None if error.param is None else _renamed(error.param)
        message = error.message if param is None or error.param is None else error.message.replace(error.param, param)
        raise ApiError(message, status=error.status, code=error.code, param=param, headers=error.headers) from error


def _renamed(param: str) -> str:
    """A field's name in this API.

    >>> _renamed("tools[0].function.name"), _renamed("response_format.json_schema.schema"), _renamed("messages")
    ('tools[0].name', 'text.format.schema', 'input')
    """
    if param.startswith("response_format"):
        return param.replace("response_format", "text.format", 1).replace(".json_schema", "", 1)
    if param.startswith("messages"):
        return "input"
    return param.replace(".function", "", 1)


def _add(messages: list[_Object], item: _Object, where: str) -> None:
    """Put an item of the input behind the messages so far."""
    match item:
        case {"type": "function_call", "call_id": str(call_id), "name": str(name), "arguments": str(arguments)}:
            call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": None})
            messages[-1].setdefault("tool_calls", []).append(call)
        case {"type": "function_call_output", "call_id": str(call_id), "output": output}:
            content = _text(output, f"{where}.output", role="tool")
            messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        case {"type": "file_search_call"}:  # of an earlier answer: what was found then is looked for anew
            return
        case {"type": "function_call" | "function_call_output" as kind}:
            raise invalid(f"`{where}` is no whole '{kind}'.", where)
        case {"role": str(role), "content": content} if item.get("type", "message") == "message":
            messages.append({"role": role, "content": _text(content, f"{where}.content", role=role)})
        case {"type": str(kind)} if kind != "message":
            message = f"`{where}` is a '{kind[:40]}'; messages, function calls and their outputs are supported."
            raise invalid(message, f"{where}.type", "unsupported_value")
        case _:
            raise invalid(f"`{where}` is no message: it has to have `role` and `content`.", where)


def _text(content: Any, where: str, *, role: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(f"`{where}` is a text, or a list of parts.", where, "invalid_type")
    return joined_text_parts(_part(part, f"{where}[{place}]", role) for place, part in enumerate(content))


def _part(part: Any, where: str, role: str) -> str:
    match part:
        case {"type": kind, "text": str(text)} if kind in _TEXT_PARTS:
            return text
        case {"type": "refusal", "refusal": str(text)} if role == "assistant":
            return text
        case {"type": str(kind)}:
            message = f"`{where}` is a part of type '{kind[:40]}'; parts of text are supported."
            raise invalid(message, f"{where}.type", "unsupported_value")
        case _:
            raise invalid(f"`{where}` is no part of a message.", where)


def _response_format(text: TextParam | None) -> _Object | None:
    match None if text is None else text.format:
        case {"type": "json_schema", **given}:
            return {"type": "json_schema", "json_schema": given}
        case other:
            return other


def _chat_tool(tool: _Object, place: int) -> _Object:
    match tool:
        case {"type": "function", **given}:
            known = {name: given[name] for name in ("name", "description", "parameters", "strict") if name in given}
            return {"type": "function", "function": {key: value for key, value in known.items() if value is not None}}
        case {"type": "file_search"}:
            return tool
        case _:
            kind = regex.sub(r"[^\w.-]", "", str(tool.get("type")))[:40]
            message = f"Tools of type '{kind}' are not supported by this server; 'function' and 'file_search' are."
            raise invalid(message, f"tools[{place}].type", "unsupported_value")


def _chat_choice(choice: Any) -> Any:
    match choice:
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice
