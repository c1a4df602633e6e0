"""Older official Python SDKs against the same server. Skipped where a package cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from api_server import RunningServer
from search_server import SearchServer

pytestmark = pytest.mark.any_database

SCRIPTS = Path(__file__).parent / "python"
_NOT_HERE = ("httpx", "httpcore", "distro")
"""What older versions want, and this environment has no other use for."""


@pytest.fixture(scope="module", params=["1.109.1", "2.54.0"])
def sdk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A version of the SDK, and the folder in which it lies."""
    version, folder = str(request.param), tmp_path_factory.mktemp("sdk")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    install += [f"openai=={version}", *_NOT_HERE]
    brought = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    if brought.returncode != 0:
        pytest.skip(f"pip cannot bring openai {version}: {brought.stderr.strip().splitlines()[-1:]}")
    return version, folder


def seen_by(script: str, folder: Path, *arguments: str) -> Any:
    """What a script has seen with the SDK of a folder."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_upload_job_poll_results_and_chat(server: RunningServer, sdk: tuple[str, Path]) -> None:
    version, folder = sdk
    key = server.new_key(f"python {version}")
    seen = seen_by("upload_train_chat.py", folder, f"{server.url}/v1", key, server.model)
    assert (seen["version"], seen["status"], seen["same"]) == (version, "succeeded", True)
    assert seen["events"][0].startswith("Created fine-tuning job")
    assert seen["events"][-1] == "The job has successfully completed"
    assert seen["checkpoints"] > 0
    assert seen["results"].startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    assert seen["answer"] == seen["streamed"]
    assert seen["refusal"] == "fine_tune_not_found"
    assert seen["deleted"] == [True, True]


def test_attach_poll_search_and_answer(search_server: SearchServer, sdk: tuple[str, Path]) -> None:
    version, folder = sdk
    key = search_server.new_key(f"python {version}")
    seen = seen_by("vector_stores.py", folder, f"{search_server.url}/v1", key, search_server.model)
    assert (seen["version"], seen["status"], seen["counts"]) == (version, ["completed", "completed"], 1)
    assert seen["attributes"] == {"lang": "en", "year": 2026}
    assert seen["listed"]
    assert seen["found"] == [["refunds.md", "Refunds take five working days."]]
    assert seen["answered"] == ["file_search_call", "message"]
    assert seen["results"] == "refunds.md"
    assert seen["refusal"] == 404
    assert seen["deleted"] == [True, True]
