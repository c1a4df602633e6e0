"""Graders that ask models which are served here, through the official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from chat_server import BASE, ChatServer, serving_chat

pytestmark = pytest.mark.any_database


def score(model: str) -> Any:
    return {
        "type": "score_model",
        "name": "judge",
        "model": model,
        "input": [{"role": "user", "content": "Rate {{ sample.output_text }} against {{ item.answer }}"}],
        "range": [0, 10],
        "sampling_params": {"seed": 1, "temperature": 1.0, "max_completions_tokens": 400},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    with serving_chat(tmp_path_factory.mktemp("graders"), num_adapters=1) as running:
        yield running


@pytest.mark.parametrize("is_tuned", [False, True])
def test_a_served_model_gives_a_score(server: ChatServer, is_tuned: bool) -> None:
    model = server.tuned[0] if is_tuned else BASE
    run = server.client().fine_tuning.alpha.graders.run(
        grader=score(model), model_sample="the parcel", item={"answer": "a parcel"}
    )
    assert run.metadata.sampled_model_name == model
    assert run.metadata.token_usage
    # A random model may write steps without end; what it writes is in the form of the answer in any case.
    assert 0 <= run.reward <= 10
    assert not run.metadata.errors.model_grader_server_error


def test_a_model_that_is_not_served_is_refused(server: ChatServer) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        server.client().fine_tuning.alpha.graders.run(
            grader=score("gpt-9"), model_sample="the parcel", item={"answer": "a parcel"}
        )
    assert caught.value.status_code in (400, 404)
    assert "gpt-9" in str(caught.value)
