"""Older official Python SDKs against the same server. Skipped where a package cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from api_server import RunningServer

pytestmark = pytest.mark.any_database

SCRIPT = Path(__file__).parent / "python" / "upload_train_chat.py"


@pytest.mark.parametrize("version", ["1.109.1", "2.54.0"])
def test_upload_job_poll_results_and_chat(server: RunningServer, tmp_path: Path, version: str) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path), f"openai=={version}"]
    brought = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if brought.returncode != 0:
        pytest.skip(f"pip cannot bring openai {version}: {brought.stderr.strip().splitlines()[-1:]}")
    arguments = [f"{server.url}/v1", server.new_key(f"python {version}"), server.model]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["version"], seen["status"], seen["same"]) == (version, "succeeded", True)
    assert seen["events"][0].startswith("Created fine-tuning job")
    assert seen["events"][-1] == "The job has successfully completed"
    assert seen["checkpoints"] > 0
    assert seen["results"].startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert seen["answer"] == seen["streamed"]
    assert seen["refusal"] == "fine_tune_not_found"
    assert seen["deleted"] == [True, True]
