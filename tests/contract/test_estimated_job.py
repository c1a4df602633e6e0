"""The dry run before a job, by the official client: what it says is what the job comes to."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from api_server import RunningServer
from training_files import training_content, upload, wait_for_status


@pytest.mark.long
def test_the_job_comes_to_what_was_estimated(client: openai.OpenAI, server: RunningServer) -> None:
    body: dict[str, Any] = {
        "model": server.model,
        "training_file": upload(client).id,
        "validation_file": upload(client, training_content(4)).id,
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 4}}},
    }
    said = client.post("/fine_tuning/estimates", body=body, cast_to=dict[str, Any])
    job = client.fine_tuning.jobs.create(**body)
    done = wait_for_status(client, job.id, "succeeded")
    assert done.hyperparameters.to_dict() == said["hyperparameters"]
    assert done.trained_tokens == said["trained_tokens"]
    steps = [event for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"]
    assert len(steps) == said["num_steps"]
    assert 0 < said["minutes"] < 60
    assert said["peak_memory_bytes"] > 0


def test_files_of_others_are_not_there(
    client: openai.OpenAI, idle_client: openai.OpenAI, server: RunningServer
) -> None:
    body = {"model": server.model, "training_file": upload(idle_client).id}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/fine_tuning/estimates", body=body, cast_to=dict[str, Any])
    assert caught.value.param == "training_file"
