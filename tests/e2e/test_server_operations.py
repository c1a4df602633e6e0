"""A server as an operator sees it: how it stops, what its log tells and what it does not, and how it moves to another place."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from served import SECONDS, Running, environment, running, until

from tiny_models import save_tiny_model

pytestmark = pytest.mark.long

LINES_THAT_ARE_NO_JSON = re.compile(r"Fettle listens on |This is the first start|^$|^ ")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny", "qwen2")


def rows(count: int) -> bytes:
    made = [
        {"messages": [{"role": "user", "content": f"number {n}"}, {"role": "assistant", "content": f"it is {n}"}]}
        for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in made).encode()


def start_training(client: httpx2.Client, content: bytes) -> str:
    """A job that takes some hundred steps; its id."""
    form = {"files": {"file": ("rows.jsonl", content)}, "data": {"purpose": "fine-tune"}}
    file_id = client.post("/v1/files", **form).raise_for_status().json()["id"]
    body = {
        "model": "tiny", "training_file": file_id, "seed": 7, "hyperparameters": {"n_epochs": 10, "batch_size": 1}
    }  # fmt: skip
    return client.post("/v1/fine_tuning/jobs", json=body).raise_for_status().json()["id"]


def losses(client: httpx2.Client, job_id: str) -> dict[int, float]:
    events = client.get(f"/v1/fine_tuning/jobs/{job_id}/events?limit=1000").raise_for_status().json()["data"]
    steps = [(event["data"]["step"], event["data"]["train_loss"]) for event in events if event["type"] == "metrics"]
    assert len({step for step, _ in steps}) == len(steps)  # none is told twice
    return dict(steps)


def status(client: httpx2.Client, job_id: str) -> str:
    return client.get(f"/v1/fine_tuning/jobs/{job_id}").raise_for_status().json()["status"]


def wait_for_end(server: Running, client: httpx2.Client, job_id: str) -> None:
    assert until(lambda: status(client, job_id) in ("succeeded", "failed"), server.process)
    assert status(client, job_id) == "succeeded"


@pytest.mark.long
def test_a_server_that_is_stopped_ends_well_and_its_training_goes_on_with_the_next_one(
    tmp_path: Path, model: Path
) -> None:
    with running(tmp_path / "home", model) as server, server.client() as client:
        job_id = start_training(client, rows(12))
        until(lambda: len(losses(client, job_id)) >= 3, server.process)
        backup = tmp_path / "backup.tar.gz"
        made = subprocess.run(
            [sys.executable, "-m", "fettle", "backup", str(backup)],
            env=environment(server.home), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert "tiny (from" in made.stdout
        assert server.stop() == 0
    with running(tmp_path / "home", model) as server, server.client() as client:
        wait_for_end(server, client, job_id)
        undisturbed = losses(client, job_id)
        assert sorted(undisturbed) == list(range(1, 121))
    restored = subprocess.run(
        [sys.executable, "-m", "fettle", "restore", str(backup)],
        env=environment(tmp_path / "elsewhere"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert restored.returncode == 0, restored.stderr
    with running(tmp_path / "elsewhere", model) as server, server.client() as client:
        wait_for_end(server, client, job_id)
        assert losses(client, job_id) == undisturbed


@contextmanager
def half_a_request(server: Running) -> Iterator[socket.socket]:
    """A request whose second half is still to come, and which the server has begun to read."""
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"model": "tiny"}'
    head = (
        f"POST /v1/fine_tuning/jobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(head.encode())
        assert b"100 Continue" in connection.recv(1000)
        connection.sendall(body[:5])
        yield connection


def test_a_request_that_is_being_answered_is_answered_first(tmp_path: Path, model: Path) -> None:
    with running(tmp_path / "home", model, "--workers", "0") as server, half_a_request(server) as connection:
        server.process.send_signal(signal.SIGTERM)
        until(lambda: b"Shutting down" in server.log.read_bytes(), server.process)
        connection.sendall(b'{"model": "tiny"}'[5:])
        answer = b"".join(iter(lambda: connection.recv(10_000), b""))
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"training_file" in answer
        assert server.process.wait(SECONDS) == 0


def test_who_asks_twice_does_not_wait(tmp_path: Path, model: Path) -> None:
    with running(tmp_path / "home", model) as server, half_a_request(server):
        server.process.send_signal(signal.SIGTERM)
        until(lambda: b"Shutting down" in server.log.read_bytes(), server.process)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 128 + signal.SIGTERM


def test_the_log_tells_of_every_request_and_of_nothing_that_was_sent(tmp_path: Path, model: Path) -> None:
    secrets = {
        "key": "sk-fettle-planted-wrong-key",
        "message": "PLANTED-MESSAGE",
        "file": "PLANTED-CONTENT",
        "query": "PLANTED-QUERY",
        "path": "PLANTED-PATH",
        "name": "PLANTED-NAME",
    }
    good, bad = rows(10), rows(9) + json.dumps({"messages": [{"role": secrets["file"], "content": "x"}]}).encode()
    with running(tmp_path / "home", model) as server, server.client() as client:
        ids = []
        for content in (good.replace(b"number", secrets["file"].encode()), bad, secrets["file"].encode()):
            form = {"files": {"file": (secrets["name"], content)}, "data": {"purpose": "fine-tune"}}
            file_id = client.post("/v1/files", **form).json()["id"]
            body = {"model": "tiny", "training_file": file_id, "hyperparameters": {"n_epochs": 1}}
            ids.append(client.post("/v1/fine_tuning/jobs", json=body).json()["id"])
        asked = {"messages": [{"role": "user", "content": secrets["message"]}], "max_tokens": 4}
        for model_name in ("tiny", secrets["path"]):
            client.post("/v1/chat/completions", json={"model": model_name, **asked})
            client.post("/v1/chat/completions", json={"model": model_name, **asked, "stream": True})
        numbers = client.get("/metrics").text
        assert re.search(r'fettle_tokens_total{direction="in"} [1-9]', numbers)
        assert 'fettle_requests_total{method="POST",route="/v1/chat/completions",status="200"} 2.0' in numbers
        assert "fettle_first_token_seconds_count 2.0" in numbers
        assert "fettle_base_models_in_memory 1.0" in numbers
        while "fettle_workers 1.0" not in client.get("/metrics").text:  # it may still be starting
            client.get("/healthz")
        client.post("/v1/fine_tuning/jobs", content=secrets["message"])
        client.post("/v1/fine_tuning/jobs", json={"model": secrets["message"], "training_file": secrets["message"]})
        client.get(f"/v1/models/{secrets['path']}?q={secrets['query']}")
        client.get(f"/v1/{secrets['path']}", params={"after": secrets["query"]})
        client.get("/v1/models", headers={"authorization": f"Bearer {secrets['key']}"})
        until(lambda: all(status(client, job) in ("succeeded", "failed") for job in ids), server.process)
        answer = client.get("/v1/models")
        assert server.stop() == 0
    log = server.log.read_text()
    for planted in (*secrets.values(), server.key):
        assert planted not in log
    lines = [json.loads(line) for line in log.splitlines() if not LINES_THAT_ARE_NO_JSON.match(line)]
    (told,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert told["route"] == "/v1/models"
    assert (told["method"], told["status"]) == ("GET", 200)
    assert told["project_id"].startswith("proj_")
    assert told["key_id"].startswith("key_")
    assert told["milliseconds"] > 0
    assert [line for line in lines if line.get("route") == "/v1/files"]
