"""Training files for the tiny models, and the waiting for what becomes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import openai
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.job_create_params import Hyperparameters

_QUEUES = ("refund", "late parcel", "lost card")
_SECONDS = 240.0
FINAL = ("succeeded", "failed", "cancelled")
ENDLESS_ROWS, ENDLESS = 1000, Hyperparameters(n_epochs=50, batch_size=1)
"""50,000 steps of the tiny model: a job that does not end by itself while a test runs, however slow the machine."""


def chat_row(number: int) -> dict[str, Any]:
    """A short conversation that ends with its wanted answer."""
    queue = _QUEUES[number % len(_QUEUES)]
    messages = [
        {"role": "system", "content": "Answer with one label."},
        {"role": "user", "content": f"Message {number} about a {queue}"},
        {"role": "assistant", "content": queue},
    ]
    return {"messages": messages}


def json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as the content of a file."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def training_content(num_rows: int = 12) -> bytes:
    """A valid training file."""
    return json_lines(chat_row(number) for number in range(num_rows))


def upload(client: openai.OpenAI, content: bytes | None = None, *, name: str = "rows.jsonl") -> FileObject:
    """A file of purpose `fine-tune`; by default a valid one."""
    file = (name, training_content() if content is None else content)
    return client.files.create(file=file, purpose="fine-tune")


def wait_until(client: openai.OpenAI, job_id: str, holds: Callable[[FineTuningJob], bool], what: str) -> FineTuningJob:
    """The job once something holds of it, asked again and again as clients do."""
    ends = time.monotonic() + _SECONDS
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if holds(job):
            return job
        if time.monotonic() > ends or job.status in FINAL:
            events = [event.message for event in client.fine_tuning.jobs.list_events(job_id, limit=100)]
            raise AssertionError(f"{job_id} is {job.status} ({job.error}) and not {what}; its events: {events}")
        time.sleep(0.1)


def wait_for_status(client: openai.OpenAI, job_id: str, *statuses: str) -> FineTuningJob:
    """The job once it has one of some statuses."""
    return wait_until(client, job_id, lambda job: job.status in statuses, " or ".join(statuses))


def cancel_or_ended(client: openai.OpenAI, job_id: str) -> None:
    """Let a short job go on no longer; on a busy machine it may be over before it is cancelled."""
    try:
        client.fine_tuning.jobs.cancel(job_id)
    except openai.BadRequestError:
        assert client.fine_tuning.jobs.retrieve(job_id).status in FINAL
