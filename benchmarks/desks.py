"""Adapters of the embedded model that open every answer with a phrase of their own, trained by the official SDK.

Each is trained on the same messages of the bundled inbox, with the first sentence of their replies after its phrase: nothing but
the adapter decides which phrase an answer opens with. A job is estimated before it is created.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI

from chats import INSTRUCTION, inbox
from fettle.jobs.fine_tuning import folder_of_job
from fettle.jobs.job_folder import JobFolder
from fettle.models.resolve import EMBEDDED_ID

PHRASES = {
    "harbour": "Harbour desk, berth seven.",
    "orchard": "Orchard desk, row nine.",
    "foundry": "Foundry desk, bay four.",
    "lantern": "Lantern desk, lamp two.",
}
"""By the name of the adapter."""
NUM_LEFT_ROWS = 256
"""So many first rows of the inbox are not trained on, and left to whoever asks."""
_SECONDS_BETWEEN_LOOKS = 0.25
_OVER = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """Of all jobs."""

    num_rows: int = 16
    n_epochs: int = 5
    batch_size: int = 4
    learning_rate_multiplier: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A trained adapter: what its job was estimated to take, and what it took."""

    name: str
    model: str
    estimated_seconds: float
    """Of steps and evaluations."""
    training_seconds: float
    """Of steps and evaluations, as the training process counts them."""
    running_seconds: float
    """From `running` to the end, as a client sees it: with loading the base model before, and checking the adapter after."""
    estimated_peak_mib: float
    """Of the training process."""
    peak_mib: float
    estimated_trained_tokens: int
    trained_tokens: int


def train_desks(client: OpenAI, home: Path, names: Sequence[str], hyperparameters: Hyperparameters) -> list[Desk]:
    """Estimate and train one adapter for each name, one job after the other.

    Args:
        client: Of the server, which has one worker.
        home: The server's FETTLE_HOME, where jobs leave what they took.
        names: Keys of `PHRASES`.
        hyperparameters: Of all jobs.
    """
    bodies = {name: _body(client, name, hyperparameters) for name in names}
    estimates = {
        name: client.post("/fine_tuning/estimates", body=body, cast_to=dict[str, Any]) for name, body in bodies.items()
    }
    ids = {name: client.fine_tuning.jobs.create(**body).id for name, body in bodies.items()}
    seconds = _seconds_running(client, set(ids.values()))
    return [_desk(client, home, name, ids[name], estimates[name], seconds[ids[name]]) for name in names]


def training_rows(name: str, num_rows: int) -> list[dict[str, Any]]:
    """The rows of an adapter: the inbox's shortest messages that have a reply, without the first ones."""
    answered = [row for row in inbox()[NUM_LEFT_ROWS:] if row.get("reply")]
    shortest = sorted(answered, key=lambda row: len(row["message"]))[:num_rows]
    return [
        {
            "messages": [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": row["message"]},
                {"role": "assistant", "content": f"{PHRASES[name]} {_first_sentence(row['reply'])}"},
            ]
        }
        for row in shortest
    ]


def _first_sentence(reply: str) -> str:
    """After the greeting, which has a line of its own."""
    return re.split(r"(?<=[.?!])\s", reply.split("\n")[1])[0]


def _body(client: OpenAI, name: str, hyperparameters: Hyperparameters) -> dict[str, Any]:
    lines = [json.dumps(row) + "\n" for row in training_rows(name, hyperparameters.num_rows)]
    file = client.files.create(file=(f"{name}.jsonl", "".join(lines).encode()), purpose="fine-tune")
    used = {
        "n_epochs": hyperparameters.n_epochs,
        "batch_size": hyperparameters.batch_size,
        "learning_rate_multiplier": hyperparameters.learning_rate_multiplier,
    }
    return {
        "model": EMBEDDED_ID,
        "training_file": file.id,
        "suffix": name,
        "seed": 0,
        "method": {"type": "supervised", "supervised": {"hyperparameters": used}},
    }


def _seconds_running(client: OpenAI, ids: set[str]) -> dict[str, float]:
    """By job, how long it was `running`, once all are over."""
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    while len(ended) < len(ids):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        now = time.perf_counter()
        for job in client.fine_tuning.jobs.list(limit=100):
            if job.status == "running":
                started.setdefault(job.id, now)
            elif job.status in _OVER and job.id not in ended:
                ended[job.id] = now
                print(f"{job.id}: {job.status}", file=sys.stderr, flush=True)
    return {id_: ended[id_] - started.get(id_, ended[id_]) for id_ in ids}


def _desk(client: OpenAI, home: Path, name: str, job_id: str, estimate: dict[str, Any], running_seconds: float) -> Desk:
    job = client.fine_tuning.jobs.retrieve(job_id)
    took = JobFolder(folder_of_job(home / "jobs", job_id)).read_finished()
    if job.fine_tuned_model is None or took is None:
        raise SystemExit(f"the job of {name} is {job.status}: {job.error.message if job.error else 'no reason given'}")
    return Desk(
        name=name,
        model=job.fine_tuned_model,
        estimated_seconds=estimate["seconds"],
        training_seconds=took.seconds,
        running_seconds=running_seconds,
        estimated_peak_mib=estimate["peak_memory_bytes"] / 2**20,
        peak_mib=took.peak_memory_bytes / 2**20,
        estimated_trained_tokens=estimate["trained_tokens"],
        trained_tokens=job.trained_tokens or 0,
    )
