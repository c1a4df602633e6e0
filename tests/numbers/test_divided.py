"""A base model divided among processes: the steps of one process, however it ends, and never whole anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from training_runs import SETTINGS, TRAIN, VALID, KilledError, run, weights

from fettle.errors import ConfigError, ResourceError
from fettle.models.load import LoadedModel
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.training.events import TrainingEvent
from fettle.training.led_division import load_led
from fettle.training.loop import TrainingResult, train
from fettle.training.settings import Checkpointing
from tiny_models import load_tiny_model, save_deep_model, save_tiny_model, save_unknown_model

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
DIVIDED = replace(SETTINGS, processes=2, shard=True)


def losses(result: TrainingResult) -> list[float]:
    return [
        point.train_loss if point.train_loss is not None else point.valid_loss or 0.0 for point in result.loss_points
    ]


def helpers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "fettle.training.helper" in one.cmdline()]


@contextmanager
def divided(folder: Path, *, num_processes: int = 2) -> Iterator[LoadedModel]:
    loaded = load_led(resolve_model(str(folder)), Precision.EXACT, num_processes=num_processes)
    try:
        yield loaded
    finally:
        loaded.release()
        assert helpers() == []


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("qwen3", DIVIDED),
        ("gemma2", replace(DIVIDED, checkpointing=Checkpointing.ON)),
        ("llama", replace(DIVIDED, batch_size=1, epochs=1)),
        ("llama", replace(DIVIDED, batch_size=8, micro_batch_tokens=20, epochs=1)),
        ("phi3", replace(DIVIDED, processes=3, epochs=1)),
    ],
    ids=["in-parts", "recomputed", "one-has-nothing-to-do", "a-row-a-call", "three-processes"],
)
def test_a_divided_model_takes_the_steps_of_a_whole_one(family: str, settings: Any, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", family)
    alone = run(load_tiny_model(folder), tmp_path / "alone", replace(settings, processes=1, shard=False))
    with divided(folder, num_processes=settings.processes) as loaded:
        together = run(loaded, tmp_path / "together", settings)
    assert losses(together) == pytest.approx(losses(alone), abs=TOLERANCE)
    assert (together.best_step, together.num_steps) == (alone.best_step, alone.num_steps)
    ours, theirs = weights(tmp_path / "together"), weights(tmp_path / "alone")
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)
