"""The official JavaScript SDK against the same server. Skipped where there is no Node, or where its package cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from api_server import RunningServer
from search_server import SearchServer

pytestmark = pytest.mark.any_database

SDK = "openai@6.49.0"
SCRIPTS = Path(__file__).parent / "js"


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


def seen_by(script: str, node_folder: Path, *arguments: str) -> Any:
    """What a script has seen."""
    done = subprocess.run(
        ["node", shutil.copy(SCRIPTS / script, node_folder), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_upload_job_poll_results_and_chat(server: RunningServer, node_folder: Path) -> None:
    seen = seen_by("upload_train_chat.mjs", node_folder, f"{server.url}/v1", server.new_key("javascript"), server.model)
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


def test_attach_poll_search_and_answer(search_server: SearchServer, node_folder: Path) -> None:
    key = search_server.new_key("javascript")
    seen = seen_by("vector_stores.mjs", node_folder, f"{search_server.url}/v1", key, search_server.model)
    assert seen["status"] == ["completed", "completed"]
    assert seen["counts"] == {"in_progress": 0, "completed": 1, "failed": 0, "cancelled": 0, "total": 1}
    assert seen["attributes"] == {"lang": "en"}
    assert seen["listed"] == ["completed", "completed"]
    assert seen["contents"] == ["Refunds take five working days."]
    assert seen["found"] == ["größe.md"]
    kinds = ("in_progress", "searching", "completed")
    assert seen["searched"] == [f"response.file_search_call.{kind}" for kind in kinds]
    assert seen["refusal"] == {"name": "BadRequestError", "param": "rewrite_query"}
    assert seen["deleted"] == [True, True]
