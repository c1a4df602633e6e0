"""What a job has trained, and its checkpoints, can be studied while the server runs: the study is a job of the same store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from api_server import RunningServer
from training_files import json_lines, upload, wait_for_status

_WORDS = ["amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath", "inlet", "jetty", "knoll", "maple"]


def row(number: int) -> dict[str, Any]:
    """A message like no other one, with its queue."""
    chosen = [f"{_WORDS[(number * step + step) % 12]}{number * step % 97}" for step in (1, 3, 5, 7, 11, 13)]
    asked, queue = " ".join(chosen), ("refund", "late parcel")[number % 2]
    system = {"role": "system", "content": "Answer with one label."}
    return {"messages": [system, {"role": "user", "content": asked}, {"role": "assistant", "content": queue}]}


def study(server: RunningServer, data: Path, model: str, out: Path) -> tuple[int, str]:
    environment = os.environ | {"FETTLE_HOME": str(server.home), "OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    if server.database_url is not None:
        environment["FETTLE_DATABASE_URL"] = server.database_url
    words = [sys.executable, "-m", "fettle", "study", str(data), "--model", model, "--out", str(out)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
def test_a_finished_job_and_its_checkpoint_are_studied(
    client: openai.OpenAI, server: RunningServer, tmp_path: Path
) -> None:
    training = upload(client, json_lines(row(number) for number in range(20)))
    validation = upload(client, json_lines(row(number) for number in range(20, 24)))
    job = client.fine_tuning.jobs.create(
        model=server.model,
        training_file=training.id,
        validation_file=validation.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
    )
    done = wait_for_status(client, job.id, "succeeded")
    [*_, first] = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert first.step_number == 5
    data = tmp_path / "all.jsonl"
    data.write_bytes(json_lines(row(number) for number in range(60)))
    assert done.fine_tuned_model is not None
    for name, step in ((done.fine_tuned_model, None), (first.fine_tuned_model_checkpoint, 5)):
        out = tmp_path / f"study-{step}"
        code, printed = study(server, data, name, out)
        assert code in (0, 3, 4), printed
        report = json.loads((out / "report.json").read_text())
        told = report["studied_model"]
        assert (told["name"], told["job"], told["step"], told["num_seen"]) == (name, job.id, step, 24)
        lines = {int(row["source"].rpartition(":")[2]) for row in report["rows"]}
        assert lines
        assert min(lines) > 24, "nothing of the job's files is tested"
    client.files.delete(training.id)  # what was deleted is not kept, and what a model has seen is not guessed
    code, printed = study(server, data, done.fine_tuned_model, tmp_path / "study-unknown")
    assert code == 2
    assert f"the training file {training.id} of {job.id} is not there any more" in printed
