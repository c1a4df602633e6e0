"""Section 12 of the contract: embeddings."""

from __future__ import annotations

import math

import httpx2
import openai
import pytest
from api_server import RunningServer

MODEL = "all-minilm-l6-v2"


def test_the_sdks_own_way_gives_what_plain_numbers_give(idle_client: openai.OpenAI) -> None:
    texts = ["Where is my parcel?", "The parcel has not come.", "Bake at 180 degrees."]
    by_default = idle_client.embeddings.create(model=MODEL, input=texts)
    as_numbers = idle_client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    vectors = [item.embedding for item in by_default.data]
    assert [item.index for item in by_default.data] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {384}
    for decoded, item in zip(vectors, as_numbers.data, strict=True):
        assert decoded == pytest.approx(item.embedding, abs=1e-6)
        assert math.hypot(*decoded) == pytest.approx(1.0, abs=1e-5)
    assert similarity(vectors[0], vectors[1]) > similarity(vectors[0], vectors[2]) + 0.3
    assert by_default.model == MODEL
    assert by_default.usage.prompt_tokens == by_default.usage.total_tokens > 15


def test_tokens_of_the_models_own_tokenizer_are_taken(idle_client: openai.OpenAI) -> None:
    hello_world = [7592, 2088]
    by_text = idle_client.embeddings.create(model=MODEL, input="hello world")
    by_tokens = idle_client.embeddings.create(model=MODEL, input=hello_world)
    several = idle_client.embeddings.create(model=MODEL, input=[hello_world, [7592]])
    assert by_tokens.data[0].embedding == pytest.approx(by_text.data[0].embedding, abs=1e-6)
    assert several.data[0].embedding == pytest.approx(by_text.data[0].embedding, abs=1e-5)
    assert by_tokens.usage.prompt_tokens == by_text.usage.prompt_tokens == 4


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input", "invalid_value"),
        ({"input": [1, "a"]}, "input", "invalid_value"),
        ({"input": {"text": "a"}}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": [1 << 40]}, "input", "invalid_value"),
        ({"input": "word " * 300}, "input", "context_length_exceeded"),
        ({}, "input", "missing_required_parameter"),
        ({"input": "a", "dimensions": 8}, "dimensions", "unsupported_value"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
    ],
)
def test_what_cannot_be_embedded_is_refused(raw: httpx2.Client, body: dict[str, object], param: str, code: str) -> None:
    answer = raw.post("/embeddings", json={"model": MODEL} | body)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)


def test_models_that_write_do_not_embed_and_the_reverse(idle_client: openai.OpenAI, idle_server: RunningServer) -> None:
    assert MODEL in {model.id for model in idle_client.models.list()}
    with pytest.raises(openai.BadRequestError, match="writes texts"):
        idle_client.embeddings.create(model=idle_server.model, input="a")
    with pytest.raises(openai.NotFoundError) as caught:
        idle_client.embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="does not write"):
        idle_client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}])
    with pytest.raises(openai.BadRequestError, match="does not write"):
        idle_client.fine_tuning.jobs.create(model=MODEL, training_file="file-1")


def similarity(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
