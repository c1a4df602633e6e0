"""The process that trains a job: however it is ended and started again, the job comes to what an undisturbed one does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import messages

from fettle.errors import EXIT_BUSY, EXIT_PAUSED, EXIT_USER
from fettle.jobs.job_folder import JobFolder, TrainingJob
from fettle.training.events import TrainingEvent, read_events
from tiny_models import save_tiny_model

pytestmark = pytest.mark.long

SECONDS = 120.0
NUM_ROWS, NUM_VALID = 24, 6
LONG = 50
"""Epochs of a job that is not over before something is done to it, however busy the machine is."""


@contextmanager
def started(folder: JobFolder, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a job, which is over when this ends."""
    environment = os.environ | {"FETTLE_HOME": str(home), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (folder.path / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fettle.jobs.training_process", str(folder.path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def wait_until(process: subprocess.Popen[bytes], is_so: Callable[[], bool]) -> bool:
    """Until something is so; False: the process ended before."""
    end = time.monotonic() + SECONDS
    while process.poll() is None:
        if is_so():
            return True
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.002)
    return False


def events(folder: JobFolder) -> list[TrainingEvent]:
    """What was logged, the times left out."""
    return [replace(event, seconds=0.0) for event in read_events(folder.events).events]


def steps(folder: JobFolder) -> int:
    return max((event.step for event in read_events(folder.events).events), default=0)


def weights(folder: JobFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.training / "adapter" / "adapter_model.safetensors")


def chat_file(path: Path, count: int, *, seed: int) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": queue}]}
        for asked, queue in messages(count, seed=seed)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Jobs:
    """Makes jobs of one model and one data set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.model = save_tiny_model(folder / "model", "qwen2")
        self.train = chat_file(folder / "train.jsonl", NUM_ROWS, seed=1)
        self.valid = chat_file(folder / "valid.jsonl", NUM_VALID, seed=2)

    def new(self, path: Path, **changed: Any) -> JobFolder:
        path.mkdir()
        folder = JobFolder(path)
        usual: dict[str, Any] = {
            "training_file": self.train, "validation_file": self.valid, "model": str(self.model), "epochs": 4,
            "batch_size": 2, "learning_rate_multiplier": 2.0, "precision": "exact", "seed": 5,
        }  # fmt: skip
        folder.write_job(TrainingJob(**(usual | changed)))
        return folder

    def run(self, folder: JobFolder) -> int:
        with started(folder, self.home) as process:
            return process.wait(SECONDS)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module")
def whole(jobs: Jobs) -> JobFolder:
    """An undisturbed job."""
    folder = jobs.new(jobs.folder / "whole")
    assert jobs.run(folder) == 0, (folder.path / "log").read_text()
    return folder


def assert_same(folder: JobFolder, whole: JobFolder) -> None:
    assert events(folder) == events(whole)
    ours, theirs = weights(folder), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    measured = {"seconds": 0.0, "peak_memory_bytes": 0}
    found, expected = folder.read_finished(), whole.read_finished()
    assert found is not None
    assert expected is not None
    assert found.model_copy(update=measured) == expected.model_copy(update=measured)


def test_a_job_says_what_it_comes_to_and_what_came_of_it(whole: JobFolder) -> None:
    begun, finished = whole.read_started(), whole.read_finished()
    assert begun is not None
    assert finished is not None
    assert begun.hyperparameters.model_dump() == {"epochs": 4, "batch_size": 2, "learning_rate_multiplier": 2.0}
    assert (begun.num_steps, begun.train.num_rows, begun.valid and begun.valid.num_rows) == (48, NUM_ROWS, NUM_VALID)
    assert finished.started == begun
    assert finished.num_trained_tokens == 4 * begun.train.num_tokens > 0
    assert (whole.path / finished.adapter / "adapter_model.safetensors").is_file()
    assert len(whole.read_check_prompts()) == 4
    assert whole.read_failed() is None
    told = events(whole)
    losses = [event.train_loss for event in told if event.train_loss is not None]
    assert len(losses) == 48
    assert sum(losses[-6:]) < sum(losses[:6])
    assert [event.step for event in told if event.is_full_evaluation] == list(range(6, 49, 6))  # few rows: all of them
    assert sorted(path.name for path in (whole.training / "epochs").iterdir()) == [
        "step-0000024", "step-0000036", "step-0000048"
    ]  # fmt: skip


def test_a_job_that_is_done_is_not_done_again(jobs: Jobs, whole: JobFolder) -> None:
    before = (whole.path / "result.json").stat().st_mtime_ns
    assert jobs.run(whole) == 0
    assert (whole.path / "result.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_job_that_is_killed_at_random_steps_comes_to_the_same(
    seed: int, jobs: Jobs, whole: JobFolder, tmp_path: Path
) -> None:
    folder = jobs.new(tmp_path / "job")
    for kill_at in sorted(random.Random(seed).sample(range(1, 40), 3)):
        with started(folder, jobs.home) as process:
            wait_until(process, lambda at=kill_at: steps(folder) >= at)
            process.send_signal(signal.SIGKILL)
            assert process.wait(SECONDS) in (-signal.SIGKILL, 0)  # on a busy machine it may have come to its end before
    assert jobs.run(folder) == 0
    assert_same(folder, whole)


@pytest.mark.long
def test_sigterm_pauses_after_the_step_and_sigint_is_for_others(jobs: Jobs, tmp_path: Path) -> None:
    folder = jobs.new(tmp_path / "job", epochs=LONG)
    with started(folder, jobs.home) as process:
        assert wait_until(process, lambda: steps(folder) >= 3)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == EXIT_PAUSED
    [*_, newest] = sorted((folder.training / "checkpoints").glob("step-*"))
    paused_after = steps(folder)
    assert json.loads((newest / "state.json").read_text())["step"] == paused_after < 12 * LONG
    assert (folder.read_finished(), folder.read_failed()) == (None, None)
    before = read_events(folder.events).events
    with started(folder, jobs.home) as process:
        assert wait_until(process, lambda: steps(folder) > paused_after)
    assert (
        read_events(folder.events).events[: len(before)] == before
    )  # no step was taken again, for its time would be another


def test_sigterm_before_the_training_ends_the_process_at_once(jobs: Jobs, tmp_path: Path) -> None:
    folder = jobs.new(tmp_path / "job")
    with started(folder, jobs.home) as process:
        assert wait_until(process, (folder.path / ".lock").exists)  # what comes next, the libraries, takes seconds
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == EXIT_PAUSED
    assert not folder.training.exists()


def test_it_ends_when_whoever_started_it_does(jobs: Jobs, tmp_path: Path) -> None:
    folder = jobs.new(tmp_path / "job", epochs=LONG)
    with started(folder, jobs.home) as process:
        assert wait_until(process, lambda: steps(folder) >= 1)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SECONDS) not in (0, EXIT_PAUSED, EXIT_USER)
    assert folder.read_finished() is None


def test_a_folder_in_which_another_process_works_is_left_alone(jobs: Jobs, tmp_path: Path) -> None:
    folder = jobs.new(tmp_path / "job")
    with folder.locked() as is_ours:
        assert is_ours
        assert jobs.run(folder) == EXIT_BUSY
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "job.json", "log"]


@pytest.mark.long
def test_training_goes_on_from_the_adapter_of_another_job(jobs: Jobs, whole: JobFolder, tmp_path: Path) -> None:
    job = {"adapter": whole.training / "epochs" / "step-0000048", "epochs": 1, "validation_file": None}
    folder = jobs.new(tmp_path / "job", **job)
    assert jobs.run(folder) == 0, (folder.path / "log").read_text()
    first, *_ = [event.train_loss for event in events(folder) if event.train_loss is not None]
    untrained, *_ = [event.train_loss for event in events(whole) if event.train_loss is not None]
    assert first < 0.8 * untrained
    assert not any(event.valid_loss is not None for event in events(folder))


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"model": "no-such-model"}, "model_not_available", "no-such-model"),
        ({"learning_rate_multiplier": 1e9}, "invalid_hyperparameters", "Use a learning_rate_multiplier below"),
        ({"max_row_tokens": 2}, "invalid_training_file", "nothing can be trained"),
    ],
)
def test_a_job_that_cannot_be_trained_says_why(
    changed: dict[str, Any], code: str, words: str, jobs: Jobs, tmp_path: Path
) -> None:
    folder = jobs.new(tmp_path / "job", **changed)
    assert jobs.run(folder) == EXIT_USER
    failed = folder.read_failed()
    assert failed is not None
    assert failed.code == code
    assert words in failed.message
    assert str(tmp_path) not in failed.message
    assert folder.read_finished() is None
