"""Chats that a vLLM server answers, through the official SDK; the server is a stand-in with a tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from chat_server import BASE, ChatServer, serving_chat

from chat_templates import CHATML
from tiny_models import load_tiny_model, save_tiny_model
from vllm_server import FakeVllm, serving

pytestmark = pytest.mark.any_database

MESSAGES: Any = [{"role": "user", "content": "Where is my parcel?"}]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeVllm]:
    loaded = load_tiny_model(save_tiny_model(tmp_path_factory.mktemp("vllm") / BASE, "llama", template=CHATML))
    with serving(FakeVllm(loaded, model=BASE)) as served:
        yield served


@pytest.fixture(scope="module")
def server(fake: FakeVllm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    folder = tmp_path_factory.mktemp("fettle")
    with serving_chat(folder, templates={BASE: CHATML}, num_adapters=2, vllm_url=fake.url) as running:
        yield running


def test_sixteen_streams_are_the_whole_answers_and_each_model_speaks_for_itself(
    server: ChatServer, fake: FakeVllm
) -> None:
    client, models = server.client(), [BASE, *server.tuned]

    def whole(model: str) -> str:
        answer = client.chat.completions.create(model=model, messages=MESSAGES, temperature=0, max_tokens=12)
        assert answer.system_fingerprint
        return answer.choices[0].message.content or ""

    def streamed(number: int) -> str:
        stream = client.chat.completions.create(
            model=models[number % 3], messages=MESSAGES, temperature=0, max_tokens=12, stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    wanted = [whole(model) for model in models]
    assert len(set(wanted)) == 3
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(streamed, range(16))) == [wanted[number % 3] for number in range(16)]
    assert set(server.tuned) <= set(fake.adapters)


def test_a_forced_call_and_a_schema_hold(server: ChatServer) -> None:
    client = server.client()
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Oslo"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tools: Any = [{"type": "function", "function": {"name": "seats", "parameters": parameters}}]
    form: Any = {"type": "json_schema", "json_schema": {"name": "trip", "schema": parameters}}
    answer = client.chat.completions.create(model=server.tuned[0], messages=MESSAGES, response_format=form, seed=1)
    assert json.loads(answer.choices[0].message.content or "")["city"] in ("Rome", "Oslo")
    called = client.chat.completions.create(
        model=server.tuned[1], messages=MESSAGES, tools=tools, tool_choice="required", parallel_tool_calls=False
    )
    [call] = called.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")


@pytest.mark.parametrize(("status", "answered"), [(429, 429), (503, 503), (500, 502)])
def test_what_the_vllm_server_refuses_is_told_without_its_address(
    server: ChatServer, fake: FakeVllm, status: int, answered: int
) -> None:
    client = server.client()
    client.chat.completions.create(model=BASE, messages=MESSAGES, max_tokens=2)
    fake.status = status
    try:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model=BASE, messages=MESSAGES, max_tokens=2)
    finally:
        fake.status = 200
    assert caught.value.status_code == answered
    assert fake.url not in str(caught.value)
    assert ("retry-after" in caught.value.response.headers) == (answered in (429, 503))


def test_metrics_count_tokens_and_engines(server: ChatServer) -> None:
    client = server.client()
    client.chat.completions.create(model=server.tuned[1], messages=MESSAGES, max_tokens=3)
    text = httpx2.get(f"{server.url}/metrics").text
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(numbers['fettle_tokens_total{direction="in"}']) > 0
    assert float(numbers['fettle_tokens_total{direction="out"}']) >= 1
    assert float(numbers["fettle_first_token_seconds_count"]) >= 1
    assert float(numbers["fettle_base_models_in_memory"]) == 1
    assert float(numbers["fettle_adapters_in_memory"]) >= 1


def test_who_deletes_a_model_takes_it_off_the_vllm_server(server: ChatServer, fake: FakeVllm) -> None:
    client, name = server.client(), server.tuned[0]
    client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=2)
    assert name in fake.adapters
    client.models.delete(name)
    assert name not in fake.adapters
