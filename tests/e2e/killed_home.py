"""A server with a home of its own, whose processes are killed and started again, and what its jobs look like from outside."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx2
import psutil
from tiny import messages

from databases import fresh_database
from fettle.files import peek_json_lines
from fettle.store.database import Store
from fettle.store.keys import create_key
from fettle.store.models import list_tuned_models

SECONDS = 180.0
NUM_STEPS, NUM_ROWS, NUM_EPOCHS = 60, 12, 5
_PLANTED = Path(__file__).parent / "planted"
_ENDED = ("succeeded", "failed", "cancelled")


class Role(StrEnum):
    """What a process of a server does, and how its command line shows it."""

    API = "serve"
    WORKER = "worker"
    TRAINING = "fettle.jobs.training_process"


def until(is_so: Callable[[], Any], what: str) -> Any:
    """What `is_so` says once it is no longer nothing."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := is_so():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it never came to this: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All of a finished job that does not differ from one undisturbed job to the next."""

    status: str
    events: list[tuple[Any, ...]]
    checkpoints: list[tuple[int, dict[str, float]]]
    results: bytes
    num_trained_tokens: int
    weights: dict[str, bytes]
    """Of the model and of the checkpoints that are left, by their steps."""


@dataclass(slots=True, kw_only=True)
class Served:
    """A home, its database, and the processes that work on it."""

    home: Path
    model: Path
    database_url: str | None
    key: str
    url: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.home / "log"

    def start(self, *options: str, **planted: str) -> None:
        """Start `fettle serve`, as a user does after it has died, and wait until it answers."""
        start = self.log.stat().st_size if self.log.exists() else 0
        process = self.spawn("serve", "--port", "0", "--model", str(self.model), *options, **planted)

        def address() -> re.Match[bytes] | None:
            assert process.poll() is None, self.log.read_text()[-3000:]
            return re.search(rb"listens on (\S+)", self.log.read_bytes()[start:])

        self.url = until(address, "the server listens")[1].decode()

    def spawn(self, *arguments: str, **planted: str) -> subprocess.Popen[bytes]:
        """Start a command on this home; `step_seconds` and `file_bytes` spoil its training processes (`planted/`)."""
        environment = os.environ | {"FETTLE_HOME": str(self.home), "FETTLE_LEASE_SECONDS": "1", "OMP_NUM_THREADS": "1"}
        if self.database_url is not None:
            environment["FETTLE_DATABASE_URL"] = self.database_url
        if planted:
            paths = [str(_PLANTED), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment |= {f"FETTLE_TEST_{name.upper()}": value for name, value in planted.items()}
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "fettle", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.processes.append(process)
        return process

    def alive(self, *roles: Role) -> list[psutil.Process]:
        """The processes of this home that live, by what they do; not the helpers that these fork for a moment."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                words = process.cmdline()
                is_wanted = any(role.value in words for role in roles or Role)
                if is_wanted and process.environ().get("FETTLE_HOME") == str(self.home):
                    found[process.pid] = process
        return [process for process in found.values() if _parent(process) not in found or Role.TRAINING not in roles]

    def kill(self, *roles: Role) -> int:
        """`kill -9` all processes of these roles at once; how many those were."""
        found = self.alive(*roles)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        until(lambda: all(is_gone(process) for process in found), "they are gone")
        for process in self.processes:  # no zombies
            process.poll()
        return len(found)

    def kill_all(self) -> None:
        """Leave nothing behind."""
        until(lambda: self.kill(*Role) == 0, "everything is gone")
        for process in self.processes:
            process.wait(SECONDS)

    def stop(self) -> None:
        """End the server as it should be ended; everything that it started ends with it."""
        self.processes[-1].send_signal(signal.SIGTERM)
        assert self.processes[-1].wait(SECONDS) == 0
        assert self.alive() == []

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store."""
        store = Store(self.home, self.database_url)
        try:
            yield store
        finally:
            store.close()

    def client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=f"{self.url}/v1", headers={"authorization": f"Bearer {self.key}"}, timeout=SECONDS
        )

    def get(self, path: str) -> Any:
        with self.client() as client:
            return client.get(path).raise_for_status().json()

    def post(self, path: str, **content: Any) -> httpx2.Response:
        with self.client() as client:
            return client.post(path, **content)

    def upload(self, content: bytes) -> str:
        answer = self.post("/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"})
        return answer.raise_for_status().json()["id"]

    def new_job(self, *, epochs: int = NUM_EPOCHS) -> str:
        """A job of twelve steps an epoch, with a validation file; its id."""
        body = {
            "model": self.model.name, "training_file": self.upload(rows(NUM_ROWS, seed=1)), "seed": 7,
            "validation_file": self.upload(rows(4, seed=2)),
            "hyperparameters": {"n_epochs": epochs, "batch_size": 1, "learning_rate_multiplier": 2.0},
        }  # fmt: skip
        return self.post("/fine_tuning/jobs", json=body).raise_for_status().json()["id"]

    def job(self, job_id: str) -> Any:
        return self.get(f"/fine_tuning/jobs/{job_id}")

    def do(self, job_id: str, what: str) -> None:
        """Pause, resume or cancel."""
        self.post(f"/fine_tuning/jobs/{job_id}/{what}").raise_for_status()

    def wait_for_end(self, job_id: str) -> str:
        """The status with which a job ends."""
        return until(lambda: (status := self.job(job_id)["status"]) in _ENDED and status, "the job ends")

    def events(self, job_id: str) -> list[Any]:
        """What a job has told, in order."""
        return self.get(f"/fine_tuning/jobs/{job_id}/events?limit=1000")["data"][::-1]

    def folder(self, job_id: str) -> Path:
        return self.home / "jobs" / job_id

    def steps_taken(self, job_id: str) -> int:
        """As the training process itself has written; told they are a little later."""
        lines = peek_json_lines(self.folder(job_id) / "training" / "events.jsonl")
        return max((line.get("step", 0) for line in lines), default=0)

    def wait_for_step(self, job_id: str, step: int) -> None:
        until(lambda: self.steps_taken(job_id) >= step, f"step {step}")

    def outcome(self, job_id: str) -> Outcome:
        """What has become of a job; nothing of it is told twice or lies about."""
        job, events = self.job(job_id), self.events(job_id)
        assert job["status"] == "succeeded", job["error"]
        assert len({event["id"] for event in events}) == len(events)
        assert [event["created_at"] for event in events] == sorted(event["created_at"] for event in events)
        checkpoints = self.get(f"/fine_tuning/jobs/{job_id}/checkpoints?limit=100")["data"]
        names = {checkpoint["fine_tuned_model_checkpoint"]: checkpoint["step_number"] for checkpoint in checkpoints}
        return Outcome(
            status=job["status"],
            events=[_without_names(event) for event in events],
            checkpoints=[(checkpoint["step_number"], checkpoint["metrics"]) for checkpoint in checkpoints],
            results=self._results(job_id, job["result_files"]),
            num_trained_tokens=job["trained_tokens"],
            weights=self._weights(job_id, job["fine_tuned_model"], names),
        )

    def _results(self, job_id: str, file_ids: list[str]) -> bytes:
        listed = [file for file in self.get("/files?limit=1000")["data"] if file["filename"] == f"{job_id}-results.csv"]
        assert [file["id"] for file in listed] == file_ids
        with self.client() as client:
            return client.get(f"/files/{file_ids[0]}/content").raise_for_status().content

    def _weights(self, job_id: str, model: str, checkpoints: dict[str, int]) -> dict[str, bytes]:
        with self.store() as store, store.reading() as connection:
            models = [model for model in list_tuned_models(connection) if model.job_id == job_id]
        assert {model.id for model in models} == {model, *checkpoints}
        assert [each.id for each in models if each.step is None] == [model]
        found = {
            path.relative_to(self.home / "models").as_posix() for path in (self.home / "models" / job_id).iterdir()
        }
        assert found == {model.folder for model in models}
        file = "adapter_model.safetensors"
        return {str(each.step): (self.home / "models" / each.folder / file).read_bytes() for each in models}


@contextmanager
def home(folder: Path, model: Path) -> Iterator[Served]:
    """A home in a fresh database; all of its processes are gone at the end."""
    with fresh_database() as url:
        store = Store(folder, url)
        key, _ = create_key(store, "of a test")
        store.close()
        served = Served(home=folder, model=model, database_url=url, key=key)
        try:
            yield served
        finally:
            served.kill_all()


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def rows(count: int, *, seed: int) -> bytes:
    """A training file."""
    made = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": queue}]}
        for asked, queue in messages(count, seed=seed)
    ]
    return "".join(json.dumps(row) + "\n" for row in made).encode()


def _without_names(event: dict[str, Any]) -> tuple[Any, ...]:
    names = r"ftjob-\w+|file-\w+|(ft:[^:\s]+:[^:\s]*:[^:\s]*:)\w+"
    message = re.sub(names, lambda found: f"{found[1] or 'id'}…", event["message"])
    return event["level"], event["type"], message, event["data"]
