from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fettle.errors import (
    ConfigError,
    DataError,
    DiskFullError,
    DivergedError,
    FettleError,
    IntegrityError,
    ModelError,
    ResourceError,
)
from fettle.jobs.failures import DeletedModelError, failure_of
from fettle.jobs.hyperparameters import run_settings, used_hyperparameters
from fettle.jobs.job_folder import (
    MAX_BATCH_SIZE,
    MAX_LEARNING_RATE_MULTIPLIER,
    MIN_LEARNING_RATE_MULTIPLIER,
    JobFolder,
    TrainingFailed,
    TrainingJob,
)
from fettle.records import Message, Prompt, Tool, ToolCall
from fettle.training.settings import Keep, derived_learning_rate

JOB = TrainingJob(training_file=Path("train.jsonl"))
CALL = ToolCall(id="call_1", name="seats", arguments='{"city": "Rome"}')
PROMPTS = (
    Prompt(
        example_id="check-0",
        messages=(
            Message(role="system", content="You sell tickets."),
            Message(role="user", content="Seats to Rome?"),
            Message(role="assistant", content="", tool_calls=(CALL,)),
            Message(role="tool", content="3", tool_call_id="call_1"),
        ),
        tools=(Tool(name="seats", description="Free seats", parameters='{"type": "object"}'),),
    ),
    Prompt(example_id="check-1", messages=(Message(role="user", content="Hello"),)),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.write_job(JOB)
    assert folder.read_job() == JOB
    assert (folder.read_started(), folder.read_finished(), folder.read_failed()) == (None, None, None)
    failed = TrainingFailed(code="out_of_memory", message="Too large.")
    folder.write_failed(failed)
    assert folder.read_failed() == failed
    folder.forget_failure()
    assert folder.read_failed() is None


def test_check_prompts_are_in_the_form_of_the_wire(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.write_check_prompts(PROMPTS)
    [first, second] = json.loads((tmp_path / "check_prompts.json").read_text())
    assert first["messages"][2]["tool_calls"][0]["function"] == {"name": "seats", "arguments": '{"city": "Rome"}'}
    assert first["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert second == {"messages": [{"role": "user", "content": "Hello"}]}
    assert folder.read_check_prompts() == PROMPTS


def test_one_process_works_in_a_folder(tmp_path: Path) -> None:
    with JobFolder(tmp_path).locked() as first, JobFolder(tmp_path).locked() as second:
        assert (first, second) == (True, False)
    with JobFolder(tmp_path).locked() as again:
        assert again


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": 51},
        {"batch_size": 257},
        {"learning_rate_multiplier": 0},
        {"learning_rate_multiplier": float("inf")},
        {"seed": -1},
        {"seed": 2**31},
        {"n_epochs": 3},
    ],
)
def test_jobs_that_cannot_be(values: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"training_file": "a.jsonl"} | values))
    with pytest.raises(ValidationError):
        JobFolder(tmp_path).read_job()


def test_what_the_user_gives_is_used_and_what_not_is_derived() -> None:
    given = JOB.model_copy(update={"epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5, "seed": 7})
    used = used_hyperparameters(given, 100)
    assert (used.epochs, used.batch_size, used.learning_rate_multiplier) == (2, 4, 0.5)
    settings = run_settings(given, used, num_rows=100, num_parameters=135_000_000)
    assert (
        settings.learning_rate == derived_learning_rate(135_000_000) * 0.5 * 0.5
    )  # root of 4 / 16, and the multiplier
    assert (settings.epochs, settings.batch_size, settings.seed, settings.kept_epochs) == (2, 4, 7, 3)
    assert (settings.keep, settings.evals_per_epoch, settings.evaluates_untrained) == (Keep.LAST, 2, False)
    assert used_hyperparameters(JOB, 100).model_dump() == {
        "epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.0
    }  # fmt: skip


def test_a_rate_that_cannot_be_is_refused() -> None:
    far_too_high = JOB.model_copy(update={"learning_rate_multiplier": 1e6})
    with pytest.raises(ConfigError, match="a learning_rate_multiplier of 1e\\+06 makes a learning rate of"):
        run_settings(far_too_high, used_hyperparameters(far_too_high, 100), num_rows=100, num_parameters=135_000_000)


@pytest.mark.parametrize("num_parameters", [1_000_000, 135_000_000, 8_000_000_000, 70_000_000_000, 10**12])
@pytest.mark.parametrize("multiplier", [MIN_LEARNING_RATE_MULTIPLIER, MAX_LEARNING_RATE_MULTIPLIER])
def test_what_can_be_asked_for_is_never_refused_late(num_parameters: int, multiplier: float) -> None:
    for batch_size in (1, 16, MAX_BATCH_SIZE):
        values = {"learning_rate_multiplier": multiplier, "batch_size": batch_size}
        job = JOB.model_copy(update=values)
        settings = run_settings(job, used_hyperparameters(job, 100), num_rows=100, num_parameters=num_parameters)
        assert settings.learning_rate is not None
        assert 0 < settings.learning_rate <= 1


@pytest.mark.parametrize(
    ("error", "code", "param", "words"),
    [
        (DataError("is no JSON", where="training_file:4"), "invalid_training_file", "training_file", "Line 4 of the"),
        (DataError("bad", where="validation_file:2"), "invalid_validation_file", "validation_file", "Line 2 of the"),
        (DivergedError("the loss is nan"), "training_diverged", None, "smaller learning_rate_multiplier"),
        (DiskFullError("the disk is full", where="/srv/x"), "disk_full", None, "Free some space"),
        (ResourceError("needs 9 GiB"), "out_of_memory", None, "Needs 9 GiB. Use a smaller base model"),
        (ModelError("no file '/srv/secret/a.json'"), "model_not_available", None, "No file 'a.json'. Use another"),
        (DeletedModelError("ft:a:b::c"), "model_not_available", None, "The model `ft:a:b::c`, which this job should"),
        (ConfigError("expected less", remedy="lower it"), "invalid_hyperparameters", None, "Expected less. lower it"),
        (IntegrityError("inactive"), "server_error", None, "its log says more"),
        (ZeroDivisionError("/srv/secret"), "server_error", None, "its log says more"),
        (FettleError("/srv/secret"), "server_error", None, "its log says more"),
    ],
)
def test_an_error_is_told_with_what_to_change_and_without_paths(
    error: Exception, code: str, param: str | None, words: str
) -> None:
    failed = failure_of(error)
    assert (failed.code, failed.param) == (code, param)
    assert words in failed.message
    assert "/srv" not in failed.message
