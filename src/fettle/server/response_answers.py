"""A response on the wire: what it holds so far, and the events that tell how it grows.

Legend of the events' order: an item is added, its parts and pieces follow, and it is done before the next one is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel

from fettle.answering.chat import ChatEnd, Choice, ChoiceDelta
from fettle.chat.call_reader import ArgumentsPiece, CallBegin, TextPiece
from fettle.releases.records import ReleaseAnswered
from fettle.retrieval.records import Found
from fettle.server.chat_answers import ReleaseBody, release_body
from fettle.server.response_bodies import CreateResponse
from fettle.server.retrieving import Retrieval, citations
from fettle.server.search_bodies import FILE_SEARCH
from fettle.store.database import now
from fettle.store.ids import new_id

Event = dict[str, Any]
_SEARCH = "file_search_call"
_TOOL_KEYS: Event = {"description": None, "parameters": None, "strict": None}


class ResponseBody(BaseModel):
    """A response, as OpenAI's API shows it."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False] = False
    error: dict[str, str] | None = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: None = None
    temperature: float
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_p: float
    truncation: str
    usage: dict[str, Any] | None = None
    release: ReleaseBody | None = None
    """Which release has answered; left out where a model was asked for. Ours: OpenAI's API has no such thing."""


class ResponseWriter:
    """Collects a response, and says what changes.

    Args:
        body: What was asked.
        retrieval: What was looked for first; None: nothing.
        release: Which has answered; None: a model was asked for.
    """

    def __init__(
        self, body: CreateResponse, retrieval: Retrieval | None, release: ReleaseAnswered | None = None
    ) -> None:
        self.id = new_id("resp_")
        """Of the response."""
        self._asked, self._created_at = body, now()
        self._retrieval, self._release = retrieval, release
        self._output: list[dict[str, Any]] = []
        self._num_events = 0
        self._has_open_item = False

    def begin(self) -> Iterator[Event]:
        """The first events."""
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))
        if self._retrieval is not None:
            yield from self._search(self._retrieval)

    def of(self, delta: ChoiceDelta) -> Iterator[Event]:
        """What a piece of the answer changes."""
        for event in delta.events:
            match event:
                case TextPiece(text):
                    yield from self._add_text(text)
                case CallBegin(_, call_id, name):
                    yield from self._close_item()
                    yield from self._open_item(
                        {
                            "id": new_id("fc_"),
                            "type": "function_call",
                            "call_id": call_id,
                            "name": name,
                            "arguments": "",
                        }
                    )
                case ArgumentsPiece(_, text):
                    self._output[-1]["arguments"] += text
                    yield self._item_event("response.function_call_arguments.delta", delta=text)

    def end(self, end: ChatEnd, choice: Choice) -> Iterator[Event]:
        """The last events: the answer is whole, or was cut."""
        is_cut = end is ChatEnd.LENGTH
        if not self._output or self._output[-1]["type"] == _SEARCH:
            yield from self._add_text("")
        yield from self._close_item(status="incomplete" if is_cut else "completed")
        response = self._response("incomplete" if is_cut else "completed", usage=_usage(choice))
        if is_cut:
            response |= {"incomplete_details": {"reason": "max_output_tokens"}}
        yield self._event(f"response.{response['status']}", response=response)

    def fail(self, message: str) -> Event:
        """The last event where the answer cannot be written."""
        error = {"code": "server_error", "message": message}
        return self._event("response.failed", response=self._response("failed") | {"error": error})

    def _search(self, retrieval: Retrieval) -> Iterator[Event]:
        """The search, which is over by now, as an item of its own."""
        yield from self._open_item(
            {"id": new_id("fs_"), "type": _SEARCH, "queries": [retrieval.question], "results": None}
        )
        for state in ("in_progress", "searching", "completed"):
            yield self._item_event(f"response.{_SEARCH}.{state}")
        if self._asked.includes_results:
            self._output[-1]["results"] = [_result(found) for found in retrieval.found]
        yield from self._close_item()

    def _add_text(self, text: str) -> Iterator[Event]:
        if not self._has_open_item or self._output[-1]["type"] != "message":
            yield from self._close_item()
            yield from self._open_item({"id": new_id("msg_"), "type": "message", "role": "assistant", "content": []})
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            self._output[-1]["content"] = [part]
            yield self._item_event("response.content_part.added", content_index=0, part=dict(part))
        if text:
            self._output[-1]["content"][0]["text"] += text
            yield self._item_event("response.output_text.delta", content_index=0, delta=text, logprobs=[])

    def _open_item(self, item: dict[str, Any]) -> Iterator[Event]:
        self._output.append(item | {"status": "in_progress"})
        self._has_open_item = True
        yield self._item_event("response.output_item.added", item=dict(self._output[-1]))

    def _close_item(self, status: str = "completed") -> Iterator[Event]:
        if not self._has_open_item:
            return
        item = self._output[-1]
        if item["type"] == "message":
            [part] = item["content"]
            yield from self._annotate(part)
            yield self._item_event("response.output_text.done", content_index=0, text=part["text"], logprobs=[])
            yield self._item_event("response.content_part.done", content_index=0, part=dict(part))
        elif item["type"] == "function_call":
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield self._item_event("response.function_call_arguments.done", **told)
        item["status"] = status
        self._has_open_item = False
        yield self._item_event("response.output_item.done", item=dict(item))

    def _annotate(self, part: dict[str, Any]) -> Iterator[Event]:
        """Say which passages a text names."""
        named_passages = () if self._retrieval is None else citations(part["text"], self._retrieval)
        for place, citation in enumerate(named_passages):
            passage = citation.found.passage
            named = {"file_id": passage.document_id, "filename": passage.source}
            annotation = {"type": "file_citation", "index": citation.index, **named}
            part["annotations"] = [*part["annotations"], annotation]
            yield self._item_event(
                "response.output_text.annotation.added",
                content_index=0,
                annotation_index=place,
                annotation=annotation,
            )

    def _item_event(self, kind: str, **fields: Any) -> Event:
        """An event of the newest item; those that hold the item itself need not name it."""
        index = {"output_index": len(self._output) - 1}
        named = index if "item" in fields else index | {"item_id": self._output[-1]["id"]}
        return self._event(kind, **named, **fields)

    def _event(self, kind: str, **fields: Any) -> Event:
        event = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return event

    def _response(self, status: Any, *, usage: dict[str, Any] | None = None) -> dict[str, Any]:
        asked = self._asked
        text = {"format": (asked.text.format if asked.text else None) or {"type": "text"}}
        body = ResponseBody(
            id=self.id,
            created_at=self._created_at,
            status=status,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            metadata=dict(asked.metadata or {}),
            model=asked.model,
            output=[dict(item) for item in self._output],
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            temperature=1.0 if asked.temperature is None else asked.temperature,
            text=text,
            tool_choice=asked.tool_choice or "auto",
            tools=[tool if tool["type"] == FILE_SEARCH else _TOOL_KEYS | tool for tool in asked.tools or []],
            top_p=1.0 if asked.top_p is None else asked.top_p,
            truncation=asked.truncation or "disabled",
            usage=usage,
        ).model_dump(exclude={"release"} if usage else {"release", "usage"})
        return body if self._release is None else body | {"release": release_body(self._release)}


def _result(found: Found) -> dict[str, Any]:
    passage = found.passage
    return {
        "file_id": passage.document_id,
        "filename": passage.source,
        "text": passage.text,
        "score": found.score,
        "attributes": dict(passage.attributes),
    }


def _usage(choice: Choice) -> dict[str, Any]:
    return {
        "input_tokens": choice.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": choice.num_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": choice.num_prompt_tokens + choice.num_tokens,
    }
