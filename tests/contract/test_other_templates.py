"""Base models whose chat templates do more than write turns one after the other: Qwen 3 drops thoughts, Gemma's roles alternate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from api_server import RunningServer, running_server
from training_files import json_lines, upload, wait_for_status

from tiny_models import save_tiny_model

pytestmark = pytest.mark.any_database

ONE_EPOCH: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}}
FAMILIES = ("qwen3", "gemma2")


@pytest.fixture(scope="module")
def templates_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folders = [save_tiny_model(tmp_path_factory.mktemp("bases") / f"tiny-{family}", family) for family in FAMILIES]
    with running_server(tmp_path_factory.mktemp("templates"), folders) as running:
        yield running


@pytest.fixture(scope="module")
def client(templates_server: RunningServer) -> openai.OpenAI:
    return templates_server.client(templates_server.new_key("templates"))


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def train(client: openai.OpenAI, family: str, rows: list[dict[str, Any]]) -> str:
    file = upload(client, json_lines(rows))
    return client.fine_tuning.jobs.create(model=f"tiny-{family}", training_file=file.id, seed=1, method=ONE_EPOCH).id


def said(client: openai.OpenAI, job_id: str, level: str) -> list[str]:
    return [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100) if event.level == level]


def talk(number: int) -> dict[str, Any]:
    """A conversation that opens with a greeting, with a late system message and two user messages in a row."""
    messages = [
        turn("assistant", "Hello! What is it?"),
        turn("user", f"Message {number}"),
        turn("user", "It is about a refund."),
        turn("assistant", "refund"),
        turn("system", "Answer in capitals."),
        turn("user", "And a lost card?"),
        turn("assistant", "LOST CARD"),
    ]
    return {"messages": messages}


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_all_answers_of_a_conversation_are_learned_and_a_row_counts_once(client: openai.OpenAI, family: str) -> None:
    job_id = train(client, family, [talk(number) for number in range(12)])
    one_answer = [{"messages": talk(number)["messages"][:4]} for number in range(12)]
    shorter = wait_for_status(client, train(client, family, one_answer), "succeeded")
    done = wait_for_status(client, job_id, "succeeded")
    assert said(client, job_id, "warn") == []
    steps = [event for event in client.fine_tuning.jobs.list_events(job_id, limit=100) if event.type == "metrics"]
    assert len(steps) == 3  # of four examples each, however many answers they hold
    assert done.trained_tokens is not None
    assert shorter.trained_tokens is not None
    assert shorter.trained_tokens < done.trained_tokens < 3 * shorter.trained_tokens
    answered = client.chat.completions.create(
        model=done.fine_tuned_model or "", messages=talk(1)["messages"][:6], max_completion_tokens=4
    )
    assert answered.usage is not None
    assert answered.usage.prompt_tokens * 12 < done.trained_tokens


def test_a_row_that_the_template_cannot_take_fails_the_job_before_it_waits(client: openai.OpenAI) -> None:
    rows = [talk(number) for number in range(12)]
    rows[6] = {"messages": [turn("user", "Where?"), turn("assistant", "<think>\nhm\n</think>\n\nThere.")]}
    job_id = train(client, "qwen3", rows)
    job = wait_for_status(client, job_id, "failed")
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 7" in (job.error.message or "")
    assert "thoughts" in (job.error.message or "")
    assert not any("queued" in message for message in said(client, job_id, "info"))


@pytest.mark.parametrize("family", FAMILIES)
def test_chat_takes_neighbours_of_one_role_and_late_system_messages(client: openai.OpenAI, family: str) -> None:
    for messages in (talk(1)["messages"][:3], talk(1)["messages"][:6]):
        answer = client.chat.completions.create(model=f"tiny-{family}", messages=messages, max_completion_tokens=2)
        assert answer.choices[0].finish_reason in ("length", "stop")
