"""The official JavaScript SDK against the same server. Skipped where there is no Node, or where its package cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from api_server import RunningServer

pytestmark = pytest.mark.any_database

SDK = "openai@6.49.0"
SCRIPT = Path(__file__).parent / "js" / "upload_train_chat.mjs"


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Node finds the SDK."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), SDK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not bring {SDK} in three minutes")
    if done.returncode != 0:
        pytest.skip(f"npm cannot bring {SDK}: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def test_upload_job_poll_results_and_chat(server: RunningServer, node_folder: Path) -> None:
    script = shutil.copy(SCRIPT, node_folder)
    arguments = [f"{server.url}/v1", server.new_key("javascript"), server.model]
    done = subprocess.run(
        ["node", script, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["status"], seen["error"]) == ("succeeded", None)
    assert seen["model"].split(":")[3] == "js"
    assert (seen["filename"], seen["fileStatus"], seen["sameBytes"]) == ("größe.jsonl", "processed", True)
    assert seen["events"][0].startswith("Created fine-tuning job")
    assert seen["events"][-1] == "The job has successfully completed"
    assert len(set(seen["events"])) == len(seen["events"])
    assert seen["checkpoints"]
    assert seen["found"]
    assert seen["results"].startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert seen["answer"] == seen["streamed"]
    assert seen["usage"] > 0
    assert seen["cancelled"] == "cancelled"
    assert seen["refusal"] == {"name": "NotFoundError", "status": 404, "code": "fine_tune_not_found"}
    assert seen["deleted"] == [True, True]
