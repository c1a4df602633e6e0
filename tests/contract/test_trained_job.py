"""What a job that a worker has really trained leaves: numbers, events, checkpoints, a results file, models (sections 2, 5 to 8)."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from api_server import RunningServer
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from training_files import training_content, upload, wait_for_status

EPOCHS, BATCH, ROWS = 5, 4, 12
STEPS = EPOCHS * ROWS // BATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished job and all that can be seen of it."""

    client: openai.OpenAI
    job: FineTuningJob
    events: list[FineTuningJobEvent]
    """The oldest first."""
    checkpoints: list[FineTuningJobCheckpoint]
    """The newest first."""

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Data of the events of steps."""
        return [event.data for event in self.events if event.type == "metrics" and isinstance(event.data, dict)]


@pytest.fixture(scope="module")
def trained(server: RunningServer) -> Trained:
    client = server.client(server.new_key("trained"))
    training, validation = upload(client), upload(client, training_content(4))
    job = client.fine_tuning.jobs.create(
        model=server.model,
        training_file=training.id,
        validation_file=validation.id,
        suffix="my model",
        seed=3,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": EPOCHS, "batch_size": BATCH}},
        },
    )
    done = wait_for_status(client, job.id, "succeeded")
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=100))[::-1]
    return Trained(
        client=client, job=done, events=events, checkpoints=list(client.fine_tuning.jobs.checkpoints.list(job.id))
    )


def test_the_job_says_what_came_of_it(trained: Trained, server: RunningServer) -> None:
    job = trained.job
    assert (job.status, job.error, job.estimated_finish) == ("succeeded", None, None)
    assert job.finished_at is not None
    assert job.finished_at >= job.created_at
    assert re.fullmatch(rf"ft:{server.model}:[a-z0-9-]+:my-model:[A-Za-z0-9]{{8}}", job.fine_tuned_model or "")
    assert len(job.result_files) == 1


def test_automatic_values_have_become_numbers(trained: Trained) -> None:
    used = trained.job.hyperparameters
    assert (used.n_epochs, used.batch_size) == (EPOCHS, BATCH)
    assert isinstance(used.learning_rate_multiplier, int | float)
    assert trained.job.method is not None
    assert trained.job.method.to_dict() == {"type": "supervised", "supervised": {"hyperparameters": used.to_dict()}}


def test_trained_tokens_are_those_of_the_file_times_epochs(trained: Trained) -> None:
    assert trained.job.trained_tokens is not None
    assert trained.job.trained_tokens % EPOCHS == 0
    assert trained.job.trained_tokens > EPOCHS * ROWS


def test_events_tell_the_life_of_the_job_in_known_words(trained: Trained) -> None:
    told = [event.message for event in trained.events]
    job = trained.job
    wanted = [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {job.training_file} and validation file: {job.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    places = [told.index(message) for message in wanted]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, len(told) - 1)
    assert len(set(told)) == len(told)
    assert {event.level for event in trained.events} == {"info"}
    assert all(event.object == "fine_tuning.job.event" for event in trained.events)
    assert [event.created_at for event in trained.events] == sorted(event.created_at for event in trained.events)


def test_every_step_is_told_once_and_in_order(trained: Trained) -> None:
    assert [step["step"] for step in trained.steps] == list(range(1, STEPS + 1))
    for event in trained.events:
        if event.type == "metrics":
            assert isinstance(event.data, dict)
            step = event.data["step"]
            assert event.message.startswith(f"Step {step}/{STEPS}: training loss=")
            assert ("validation loss=" in event.message.replace("full validation", "full")) == (
                "valid_loss" in event.data
            )
            assert ("full validation loss=" in event.message) == ("full_valid_loss" in event.data)
        else:
            assert event.data == {}


def test_steps_are_measured(trained: Trained) -> None:
    for step in trained.steps:
        assert step["total_steps"] == STEPS
        assert math.isfinite(step["train_loss"])
        assert 0 <= step["train_mean_token_accuracy"] <= 1
    ends = [step for step in trained.steps if step["step"] % (STEPS // EPOCHS) == 0]
    assert len(ends) == EPOCHS
    for step in ends:
        assert math.isfinite(step["full_valid_loss"])
        assert 0 <= step["full_valid_mean_token_accuracy"] <= 1
    small = [step for step in trained.steps if "valid_loss" in step]
    assert small
    assert all(0 <= step["valid_mean_token_accuracy"] <= 1 for step in small)


def test_the_model_has_learned(trained: Trained) -> None:
    losses = [step["train_loss"] for step in trained.steps]
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.parametrize("limit", [1, 3, 20, 100, 1000])
def test_events_are_paged_without_loss(trained: Trained, limit: int) -> None:
    found = list(trained.client.fine_tuning.jobs.list_events(trained.job.id, limit=limit))
    assert [event.id for event in found] == [event.id for event in trained.events[::-1]]


def test_checkpoints_are_those_of_the_last_three_epochs(trained: Trained) -> None:
    per_epoch = STEPS // EPOCHS
    assert [found.step_number for found in trained.checkpoints] == [STEPS, STEPS - per_epoch, STEPS - 2 * per_epoch]
    for found in trained.checkpoints:
        assert found.object == "fine_tuning.job.checkpoint"
        assert found.id.startswith("ftckpt_")
        assert found.fine_tuning_job_id == trained.job.id
        assert found.metrics.step == found.step_number
        assert found.metrics.train_loss is not None
        assert found.metrics.full_valid_loss is not None
        assert found.metrics.full_valid_mean_token_accuracy is not None


def test_names_of_checkpoints_and_the_last_of_them_is_the_model(trained: Trained, server: RunningServer) -> None:
    names = [found.fine_tuned_model_checkpoint for found in trained.checkpoints]
    assert names[0] == trained.job.fine_tuned_model
    for found in trained.checkpoints[1:]:
        pattern = rf"ft:{server.model}:[a-z0-9-]+:my-model:[A-Za-z0-9]{{8}}:ckpt-step-{found.step_number}"
        assert re.fullmatch(pattern, found.fine_tuned_model_checkpoint)
    assert len({name.split(":")[4] for name in names}) == len(names)


def test_checkpoints_are_told_of(trained: Trained) -> None:
    told = "\n".join(event.message for event in trained.events)
    for found in trained.checkpoints:
        name = found.fine_tuned_model_checkpoint
        assert f"Checkpoint created at step {found.step_number} with Snapshot ID: {name}" in told


def test_checkpoints_are_paged(trained: Trained) -> None:
    jobs = trained.client.fine_tuning.jobs
    first = jobs.checkpoints.list(trained.job.id, limit=2)
    assert (first.has_more, first.first_id, first.last_id) == (True, first.data[0].id, first.data[1].id)
    paged = [found.id for found in jobs.checkpoints.list(trained.job.id, limit=1)]
    assert paged == [found.id for found in trained.checkpoints]


def test_models_of_the_job_are_listed_and_found(trained: Trained) -> None:
    listed = {model.id: model for model in trained.client.models.list()}
    assert trained.job.fine_tuned_model in listed
    for found in trained.checkpoints:
        assert trained.client.models.retrieve(found.fine_tuned_model_checkpoint).object == "model"


def test_the_results_file_is_plain_text_with_a_row_for_each_step(trained: Trained) -> None:
    [file_id] = trained.job.result_files
    about = trained.client.files.retrieve(file_id)
    assert (about.purpose, about.status) == ("fine-tune-results", "processed")
    content = trained.client.files.content(file_id).content
    assert len(content) == about.bytes
    rows = list(csv.reader(io.StringIO(content.decode())))
    assert rows[0][:5] == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [row[0] for row in rows[1:]] == [str(step) for step in range(1, STEPS + 1)]
    assert [float(row[1]) for row in rows[1:]] == [step["train_loss"] for step in trained.steps]
    assert [row[3] for row in rows[1:]] == [str(step.get("valid_loss", "")) for step in trained.steps]
    assert file_id in [file.id for file in trained.client.files.list(purpose="fine-tune-results")]


def test_a_job_that_has_ended_never_changes(trained: Trained) -> None:
    jobs = trained.client.fine_tuning.jobs
    for act in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError) as caught:
            act(trained.job.id)
        assert "succeeded" in caught.value.message
    assert jobs.retrieve(trained.job.id) == trained.job


def test_the_same_seed_gives_the_same_losses_whatever_becomes_of_the_files(
    trained: Trained, server: RunningServer
) -> None:
    client = server.client(server.new_key("again"))
    training, validation = upload(client), upload(client, training_content(4))
    job = client.fine_tuning.jobs.create(
        model=server.model,
        training_file=training.id,
        validation_file=validation.id,
        seed=3,
        hyperparameters={"n_epochs": EPOCHS, "batch_size": BATCH},
    )
    wait_for_status(client, job.id, "queued", "running", "succeeded")
    client.files.delete(training.id)
    client.files.delete(validation.id)
    done = wait_for_status(client, job.id, "succeeded")
    assert re.fullmatch(rf"ft:{server.model}:[a-z0-9-]+::[A-Za-z0-9]{{8}}", done.fine_tuned_model or "")
    events = client.fine_tuning.jobs.list_events(job.id, limit=100)
    steps = [event.data for event in events if event.type == "metrics"][::-1]
    again = [step["train_loss"] for step in steps if isinstance(step, dict)]
    assert again == pytest.approx([step["train_loss"] for step in trained.steps], rel=1e-5)
    assert trained.checkpoints[0].fine_tuned_model_checkpoint not in [model.id for model in client.models.list()]


def test_training_goes_on_from_a_tuned_model_and_from_a_checkpoint(trained: Trained, server: RunningServer) -> None:
    client = trained.client
    first_loss = trained.steps[0]["train_loss"]
    for found in trained.checkpoints[:2]:
        job = client.fine_tuning.jobs.create(
            model=found.fine_tuned_model_checkpoint,
            training_file=upload(client).id,
            seed=3,
            hyperparameters={"n_epochs": 1, "batch_size": BATCH},
        )
        assert job.model == found.fine_tuned_model_checkpoint
        done = wait_for_status(client, job.id, "succeeded")
        assert done.fine_tuned_model is not None
        assert done.fine_tuned_model.startswith(f"ft:{server.model}:")
        oldest = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"][-1]
        assert isinstance(oldest.data, dict)
        assert oldest.data["train_loss"] < first_loss  # it knows something already
        assert "valid_loss" not in oldest.data


def test_a_deleted_model_is_gone_and_its_job_is_not(trained: Trained, server: RunningServer) -> None:
    client = trained.client
    name = trained.checkpoints[-1].fine_tuned_model_checkpoint
    deleted = client.models.delete(name)
    assert (deleted.id, deleted.object, deleted.deleted) == (name, "model", True)
    for act in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            act(name)
        assert caught.value.code == "model_not_found"
    assert name not in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.create(model=name, training_file=upload(client).id)
    assert client.fine_tuning.jobs.retrieve(trained.job.id) == trained.job
