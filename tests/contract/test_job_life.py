"""Section 5.3 of the contract: jobs are cancelled, paused and resumed; several wait for each other; a worker may be killed."""

from __future__ import annotations

import csv
import io
import os
import signal
import time

import openai
import psutil
import pytest
from api_server import RunningServer
from openai.types.fine_tuning.job_create_params import Hyperparameters
from training_files import ENDLESS, ENDLESS_ROWS, training_content, upload, wait_for_status, wait_until

_ROWS_TO_THE_END = 12
_STEPS_TO_THE_END = _ROWS_TO_THE_END * 50
"""Of a job that is meant to succeed: so many that it does not before something was done to it."""


def start(client: openai.OpenAI, server: RunningServer, *, num_rows: int = ENDLESS_ROWS) -> str:
    """A job that runs, and has told of a step. With the usual number of rows it does not end by itself while a test runs."""
    job = client.fine_tuning.jobs.create(
        model=server.model,
        training_file=upload(client, training_content(num_rows)).id,
        seed=1,
        hyperparameters=ENDLESS,
    )
    wait_until(client, job.id, lambda _: bool(steps_of(client, job.id)), "at its first step")
    return job.id


def steps_of(client: openai.OpenAI, job_id: str) -> list[int]:
    """Steps that were told of, the first one first."""
    events = client.fine_tuning.jobs.list_events(job_id, limit=1000)
    return [event.data["step"] for event in events if event.type == "metrics" and isinstance(event.data, dict)][::-1]


def test_a_running_job_shows_the_numbers_in_use(client: openai.OpenAI, server: RunningServer) -> None:
    job_id = start(client, server)
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.status == "running"
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (50, 1)
    assert isinstance(job.hyperparameters.learning_rate_multiplier, int | float)
    assert (job.fine_tuned_model, job.finished_at, job.result_files, job.trained_tokens) == (None, None, [], None)
    client.fine_tuning.jobs.cancel(job_id)


def test_a_running_job_is_cancelled(client: openai.OpenAI, server: RunningServer) -> None:
    job_id = start(client, server)
    assert client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    wait_until(client, start(client, server), lambda job: job.status == "running", "running")  # the worker is free
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert (job.status, job.fine_tuned_model, job.error, job.estimated_finish) == ("cancelled", None, None, None)
    assert job.finished_at is not None
    newest = client.fine_tuning.jobs.list_events(job_id).data[0]
    assert (newest.level, "cancel" in newest.message) == ("error", True)
    for other in client.fine_tuning.jobs.list():
        client.fine_tuning.jobs.cancel(other.id)


@pytest.mark.long
def test_a_cancelled_job_keeps_the_results_of_the_steps_that_it_took(
    client: openai.OpenAI, server: RunningServer
) -> None:
    job_id = start(client, server)
    wait_until(client, job_id, lambda _: len(steps_of(client, job_id)) > 2, "two steps further")
    client.fine_tuning.jobs.cancel(job_id)
    ends = time.monotonic() + 60
    while not (job := client.fine_tuning.jobs.retrieve(job_id)).result_files and time.monotonic() < ends:
        time.sleep(0.1)  # until its worker has seen it
    assert job.status == "cancelled"
    [file_id] = job.result_files
    assert client.files.retrieve(file_id).purpose == "fine-tune-results"
    rows = list(csv.DictReader(io.StringIO(client.files.content(file_id).text)))
    steps = [int(row["step"]) for row in rows]
    assert steps == list(range(1, len(steps) + 1))
    assert steps_of(client, job_id)[-1] in steps


@pytest.mark.long
def test_a_job_is_paused_and_goes_on_where_it_was(client: openai.OpenAI, server: RunningServer) -> None:
    job_id = start(client, server, num_rows=_ROWS_TO_THE_END)
    paused = client.fine_tuning.jobs.pause(job_id)
    assert (paused.status, paused.finished_at, paused.estimated_finish) == ("paused", None, None)
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.pause(job_id)
    assert client.fine_tuning.jobs.resume(job_id).status in ("queued", "running")
    done = wait_for_status(client, job_id, "succeeded")
    assert done.fine_tuned_model
    assert steps_of(client, job_id) == list(range(1, _STEPS_TO_THE_END + 1))
    told = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=1000)]
    assert [told.count(text) for text in ("The job was paused", "The job was resumed", "Fine-tuning job started")] == [
        1
    ] * 3


@pytest.mark.long
def test_a_paused_job_is_cancelled(client: openai.OpenAI, server: RunningServer) -> None:
    job_id = start(client, server)
    client.fine_tuning.jobs.pause(job_id)
    assert client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.resume(job_id)


@pytest.mark.long
def test_a_second_job_waits_for_the_first(client: openai.OpenAI, server: RunningServer) -> None:
    first = start(client, server)
    second = client.fine_tuning.jobs.create(
        model=server.model, training_file=upload(client).id, hyperparameters={"n_epochs": 1}
    )
    wait_for_status(client, second.id, "queued")  # its files are read while the first one trains
    for verb in ("pause", "resume"):
        with pytest.raises(openai.BadRequestError):
            getattr(client.fine_tuning.jobs, verb)(second.id)
    assert client.fine_tuning.jobs.retrieve(first).status == "running"
    client.fine_tuning.jobs.cancel(first)
    assert wait_for_status(client, second.id, "succeeded").fine_tuned_model


@pytest.mark.long
def test_a_job_whose_model_is_deleted_while_it_waits_says_so(client: openai.OpenAI, server: RunningServer) -> None:
    once, rows = Hyperparameters(n_epochs=1), upload(client).id
    made = client.fine_tuning.jobs.create(model=server.model, training_file=rows, hyperparameters=once)
    tuned = wait_for_status(client, made.id, "succeeded").fine_tuned_model
    assert tuned
    first = start(client, server)
    second = client.fine_tuning.jobs.create(model=tuned, training_file=rows, hyperparameters=once)
    wait_for_status(client, second.id, "queued")
    client.models.delete(tuned)
    client.fine_tuning.jobs.cancel(first)
    error = wait_for_status(client, second.id, "failed").error
    assert error is not None
    assert (error.code, error.param) == ("model_not_available", None)
    assert f"`{tuned}`" in error.message
    assert "was deleted after the job was created. Create the job again" in error.message


def test_events_are_paged_without_loss_while_new_ones_come(client: openai.OpenAI, server: RunningServer) -> None:
    job_id = start(client, server)
    seen = list(client.fine_tuning.jobs.list_events(job_id, limit=1))
    wait_until(client, job_id, lambda _: len(steps_of(client, job_id)) > 10, "ten steps further")
    seen = list(client.fine_tuning.jobs.list_events(job_id, limit=2))
    ids = [event.id for event in seen]
    assert len(set(ids)) == len(ids)
    client.fine_tuning.jobs.cancel(job_id)
    everything = [event.id for event in client.fine_tuning.jobs.list_events(job_id, limit=1000)]
    assert ids == everything[everything.index(ids[0]) :]


def test_a_killed_worker_loses_and_doubles_nothing(client: openai.OpenAI, server: RunningServer) -> None:
    job_id = start(client, server, num_rows=_ROWS_TO_THE_END)
    for process in psutil.Process(server.process.pid).children():
        if "worker" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
    done = wait_for_status(client, job_id, "succeeded")
    assert done.error is None
    assert steps_of(client, job_id) == list(range(1, _STEPS_TO_THE_END + 1))
    told = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=1000)]
    assert len(set(told)) == len(told)
