"""A base model divided among processes: the steps of one process, however it ends, and never whole anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from training_runs import SETTINGS, TRAIN, VALID, KilledError, run, weights

from fettle.errors import IntegrityError, ModelError, ResourceError
from fettle.models import lora_linear
from fettle.models.division import decoder_layers
from fettle.models.load import LoadedModel
from fettle.models.nf4 import num_weight_bytes, weight_of
from fettle.models.precision import Precision
from fettle.models.resolve import resolve_model
from fettle.models.understood import own_logits
from fettle.training.events import TrainingEvent
from fettle.training.led_division import load_led
from fettle.training.loop import TrainingResult, train
from fettle.training.settings import Checkpointing
from tiny_models import load_tiny_model, save_deep_model, save_tiny_model, save_unknown_model

pytestmark = pytest.mark.long

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
        pytest.param("qwen3", DIVIDED, id="in-parts"),
        pytest.param(
            "gemma2", replace(DIVIDED, checkpointing=Checkpointing.ON), id="recomputed", marks=pytest.mark.long
        ),
        pytest.param(
            "tied llama", replace(DIVIDED, batch_size=1, epochs=1), id="one-has-nothing-to-do", marks=pytest.mark.long
        ),
        pytest.param(
            "llama",
            replace(DIVIDED, batch_size=8, micro_batch_tokens=20, epochs=1),
            id="a-row-a-call",
            marks=pytest.mark.long,
        ),
        pytest.param("phi3", replace(DIVIDED, processes=3, epochs=1), id="three-processes", marks=pytest.mark.long),
    ],
)
def test_a_divided_model_takes_the_steps_of_a_whole_one(family: str, settings: Any, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", family.removeprefix("tied "), tied=family.startswith("tied"))
    alone = run(load_tiny_model(folder), tmp_path / "alone", replace(settings, processes=1, shard=False))
    with divided(folder, num_processes=settings.processes) as loaded:
        together = run(loaded, tmp_path / "together", settings)
    assert losses(together) == pytest.approx(losses(alone), abs=TOLERANCE)
    assert (together.best_step, together.num_steps) == (alone.best_step, alone.num_steps)
    ours, theirs = weights(tmp_path / "together"), weights(tmp_path / "alone")
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)


@pytest.mark.long
def test_a_model_that_runs_in_the_plain_way_too(tmp_path: Path) -> None:
    folder = save_unknown_model(tmp_path / "model", "lfm2")
    settings = replace(DIVIDED, epochs=1)
    alone = run(load_tiny_model(folder), tmp_path / "alone", replace(settings, processes=1, shard=False))
    with divided(folder) as loaded:
        assert loaded.plain_reason is not None
        together = run(loaded, tmp_path / "together", settings)
    assert losses(together) == pytest.approx(losses(alone), abs=TOLERANCE)


@pytest.mark.long
def test_what_a_divided_model_began_a_whole_one_finishes_and_the_other_way_round(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "qwen3")
    whole_model = load_tiny_model(folder)
    whole = run(whole_model, tmp_path / "whole")
    with pytest.raises(KilledError), divided(folder) as loaded:
        run(loaded, tmp_path / "divided-first", DIVIDED, kill_at=9)
    assert helpers() == []
    with pytest.raises(KilledError):
        run(whole_model, tmp_path / "whole-first", SETTINGS, kill_at=9)
    results = [run(whole_model, tmp_path / "divided-first")]
    with divided(folder) as loaded:
        results += [run(loaded, tmp_path / "whole-first", DIVIDED)]
        results += [run(loaded, tmp_path / "again", DIVIDED)]  # the others lend again after a training, and train again
    for result in results:
        assert losses(result) == pytest.approx(losses(whole), abs=TOLERANCE)
        assert result.best_step == whole.best_step


@pytest.mark.long
def test_no_process_holds_the_model_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_deep_model(tmp_path / "model", num_layers=12)
    whole = load_tiny_model(folder).model
    matrices = [weight for layer in decoder_layers(whole) for weight in layer.parameters() if weight.ndim > 1]
    in_layers, all_bytes = sum(weight.nbytes for weight in matrices), num_weight_bytes(whole)
    with divided(folder) as loaded:
        division = loaded.division
        assert division is not None
        assert num_weight_bytes(loaded.model) == all_bytes - in_layers + in_layers // 2
        assert division.layer_bytes == in_layers // 12
        run_counted: list[int] = []

        def counted(layer: torch.nn.Module, dtype: torch.dtype) -> torch.Tensor:
            run_counted.append(sum(is_whole(one) for one in decoder_layers(loaded.model)))
            return weight_of(layer, dtype)

        monkeypatch.setattr(lora_linear, "weight_of", counted)  # by which each layer gets at its weights, either way
        run(loaded, tmp_path / "run", replace(DIVIDED, epochs=1))
        assert 1 <= min(run_counted) <= max(run_counted) <= 2, "the one that computes, and the next to do so"
        assert not any(is_whole(layer) for layer in decoder_layers(loaded.model))


def is_whole(layer: torch.nn.Module) -> bool:
    base = [weight for name, weight in layer.named_parameters() if weight.ndim > 1 and "lora" not in name]
    return any(not isinstance(weight, DTensor) for weight in base)


def test_a_process_that_is_killed_ends_the_training_with_its_reason(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "qwen3")

    def kill_it(event: TrainingEvent) -> None:
        if event.step == 5:
            [other] = helpers()
            other.kill()

    with divided(folder) as loaded, pytest.raises(ResourceError, match=r"has ended: it was killed by SIGKILL"):
        train(loaded, TRAIN, VALID, DIVIDED, folder=tmp_path / "run", run_key="key", on_event=kill_it)
    assert helpers() == []
    assert run(load_tiny_model(folder), tmp_path / "run").num_steps == 12


def test_a_process_that_is_killed_while_it_lends_is_missed(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "qwen3")
    with divided(folder) as loaded:
        own_logits(loaded.model, [5, 6, 7])
        [other] = helpers()
        other.kill()
        with pytest.raises(ResourceError, match=r"has ended: it was killed by SIGKILL"), loaded.in_use():
            own_logits(loaded.model, [5, 6, 7])


def test_files_that_cannot_be_divided_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "qwen3")
    tensors = load_file(folder / "model.safetensors")
    tensors["other.name"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors are not in the files .* model.layers.1.mlp.up_proj.weight"):
        load_led(resolve_model(str(folder)), Precision.EXACT, num_processes=2)
    assert helpers() == []


def test_a_model_must_be_held_as_the_settings_say(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="divided among 2 processes, and it is divided among none"):
        run(tiny_model("qwen3"), tmp_path, DIVIDED)
