"""Small training runs that tests cut off, continue and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from fettle.models.adapter import LoraSettings
from fettle.records import Message, Prompt, TokenisedExample
from fettle.training.events import TrainingEvent
from fettle.training.loop import TrainingResult, train
from fettle.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    epochs=3,
    batch_size=4,
    learning_rate=0.02,
    evals_per_epoch=2,
    patience=100,
    checkpoint_steps=2,
    micro_batch_tokens=60,
    lora=LoraSettings(rank=2, alpha=4),
)


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


def rows(count: int, *, seed: int, num_shared: int = 10) -> tuple[TokenisedExample, ...]:
    random = np.random.default_rng(seed)
    prefix = tuple(range(30, 30 + num_shared))
    made = []
    for number in range(count):
        num_prompt, num_answer = int(random.integers(2, 12)), int(random.integers(1, 5))
        label = int(random.integers(0, 3))
        rest = (*random.integers(100, 110, num_prompt).tolist(), *range(200 + label, 200 + label + num_answer))
        flags = (False,) * (num_shared + num_prompt) + (True,) * num_answer
        made.append(TokenisedExample(example_id=f"{seed}-{number}", token_ids=(*prefix, *rest), is_trained=flags))
    return tuple(made)


TRAIN, VALID = rows(14, seed=1), rows(6, seed=2)
NUM_STEPS = 3 * 4


def run(
    loaded: Any,
    folder: Path,
    settings: TrainingSettings = SETTINGS,
    *,
    run_key: str = "key",
    kill_at: int | None = None,
) -> TrainingResult:
    """Train; raise `KilledError` at the event with number `kill_at`, counted from 1."""
    seen: list[TrainingEvent] = []

    def on_event(event: TrainingEvent) -> None:
        seen.append(event)
        if len(seen) == kill_at:
            raise KilledError

    return train(loaded, TRAIN, VALID, settings, folder=folder, run_key=run_key, on_event=on_event)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def prompt(text: str) -> Prompt:
    return Prompt(example_id="p", messages=(Message(role="user", content=text),))
