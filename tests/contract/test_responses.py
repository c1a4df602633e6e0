"""Section 11 of the contract: responses."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from api_server import RunningServer
from pydantic import BaseModel

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Of a city.",
    "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"], "additionalProperties": False,
    },
    "strict": True,
}  # fmt: skip


class Ticket(BaseModel):
    queue: bool


def test_a_response_is_whole(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    response = idle_client.responses.create(
        model=idle_server.model, input="Where is it?", instructions="Be brief.", temperature=0, max_output_tokens=16,
        metadata={"a": "b"}, store=False,
    )  # fmt: skip
    assert response.id.startswith("resp_")
    assert (response.model, response.instructions, response.metadata) == (idle_server.model, "Be brief.", {"a": "b"})
    [message] = response.output
    assert (message.type, message.content[0].text) == ("message", response.output_text)  # type: ignore[union-attr]
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    again = idle_client.responses.create(
        model=idle_server.model, temperature=0, max_output_tokens=16,
        input=[
            {"role": "system", "content": "Be brief."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Where is it?"}]},
        ],
    )  # fmt: skip
    assert again.output_text == response.output_text
    assert again.usage is not None
    assert again.usage.input_tokens == response.usage.input_tokens


def test_it_says_what_chat_says(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    chat = idle_client.chat.completions.create(
        model=idle_server.model, messages=[{"role": "user", "content": "Hi"}], temperature=0, max_tokens=12
    )
    response = idle_client.responses.create(model=idle_server.model, input="Hi", temperature=0, max_output_tokens=12)
    assert response.output_text == chat.choices[0].message.content
    is_cut = chat.choices[0].finish_reason == "length"
    assert response.status == ("incomplete" if is_cut else "completed")


def test_an_answer_that_is_cut_is_incomplete(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["x" * 200]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    response = idle_client.responses.create(
        model=idle_server.model, input="Hi", max_output_tokens=3,
        text={"format": {"type": "json_schema", "name": "long", "schema": schema, "strict": True}},
    )  # fmt: skip
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"  # type: ignore[union-attr]


def test_a_stream_tells_in_order_how_the_response_grows(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    asked: dict[str, Any] = {"model": idle_server.model, "input": "Hi", "temperature": 0, "max_output_tokens": 16}
    whole = idle_client.responses.create(**asked)
    events = list(idle_client.responses.create(**asked, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
        f"response.{whole.status}",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert "".join(event.delta for event in events[4:-4]) == whole.output_text  # type: ignore[union-attr]
    last = events[-1].response  # type: ignore[union-attr]
    assert (last.status, last.output_text, last.usage) == (whole.status, whole.output_text, whole.usage)


def test_functions_are_called(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    asked: dict[str, Any] = {
        "model": idle_server.model, "input": "Weather in Rome?", "tools": [WEATHER],
        "tool_choice": {"type": "function", "name": "weather"},
    }  # fmt: skip
    response = idle_client.responses.create(**asked)
    [call] = response.output
    assert (call.type, call.name, call.status) == ("function_call", "weather", "completed")  # type: ignore[union-attr]
    assert json.loads(call.arguments)["city"] in ("Rome", "Oslo")  # type: ignore[union-attr]
    events = list(idle_client.responses.create(**asked, stream=True))
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert "".join(deltas) == done.arguments
    assert events[-1].type == "response.completed"
    follow_up = idle_client.responses.create(
        model=idle_server.model,
        tools=[WEATHER],  # type: ignore[list-item]
        max_output_tokens=16,
        input=[
            {"role": "user", "content": "Weather in Rome?"},
            call.to_dict(),  # type: ignore[list-item]
            {"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "blue"}'},  # type: ignore[union-attr]
        ],
    )
    assert follow_up.output


def test_the_parse_helper_works(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    response = idle_client.responses.parse(model=idle_server.model, input="Refund?", text_format=Ticket)
    assert isinstance(response.output_parsed, Ticket)
    assert response.status == "completed"


def test_the_stream_helper_works(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    with idle_client.responses.stream(model=idle_server.model, input="Hi", temperature=0, text_format=Ticket) as stream:
        parsed = stream.get_final_response().output_parsed
    assert isinstance(parsed, Ticket)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["a"]}, "input[0]"),
        ({"input": "a", "include": ["message.output_text.logprobs"]}, "include[0]"),
        ({"input": "a", "include": ["reasoning.encrypted_content", "everything"]}, "include[1]"),
        ({"input": [{"role": "user"}]}, "input[0]"),
        ({"input": [{"role": "wizard", "content": "a"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "a", "tools": [{"type": "function", "name": "no space"}]}, "tools[0].name"),
        ({"input": "a", "text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"input": "a", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": 1}}}}, "text.format.schema"),
        ({"input": "a", "previous_response_id": "resp_x"}, "previous_response_id"),
        ({"input": "a", "conversation": "conv_x"}, "conversation"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "temperature": 3}, "temperature"),
        ({"input": "a", "tool_choice": "required"}, "tool_choice"),
        ({"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "word " * 5000}, "input"),
        ({"input": "a", "colour": 1}, "colour"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(
    raw: httpx2.Client, idle_server: RunningServer, body: dict[str, Any], param: str | None
) -> None:
    answer = raw.post("/responses", json={"model": idle_server.model} | body)
    assert answer.status_code == 400, answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param, answer.text
    assert "function-" not in answer.text
    assert "[dict" not in answer.text


def test_hidden_kinds_of_a_value_are_not_in_a_message(raw: httpx2.Client, idle_server: RunningServer) -> None:
    message = raw.post("/responses", json={"model": idle_server.model, "input": []}).json()["error"]["message"]
    assert message == "Invalid value for 'input': List should have at least 1 item after validation, not 0."
    message = raw.post("/responses", json={"model": idle_server.model, "input": ""}).json()["error"]["message"]
    assert message == "Invalid value for 'input': expected at least 1 characters, and it has 0 (it is '')."


def test_what_there_is_none_of_here_may_be_included(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    response = idle_client.responses.create(
        model=idle_server.model, input="Hi", max_output_tokens=2,
        include=["reasoning.encrypted_content", "file_search_call.results"],
    )  # fmt: skip
    assert response.output


def test_an_unknown_model_is_404(idle_client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        idle_client.responses.create(model="gpt-4o", input="a")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/responses/resp_x"), ("DELETE", "/responses/resp_x"), ("POST", "/responses/resp_x/cancel"),
        ("GET", "/responses/resp_x/input_items"), ("POST", "/batches"), ("POST", "/completions"), ("POST", "/moderations"),
        ("POST", "/conversations"), ("GET", "/assistants"), ("GET", "/chat/completions/chatcmpl-x"),
    ],
)  # fmt: skip
def test_what_there_is_not_yet_is_a_clean_404(raw: httpx2.Client, method: str, path: str) -> None:
    answer = raw.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"Invalid URL ({method} /v1{path})"
