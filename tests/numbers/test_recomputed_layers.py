"""Activation checkpointing: the same gradients, with less kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_gradients import adapted, family_tree, gradients  # noqa: F401 (a fixture)
from training_runs import SETTINGS, run

from fettle.models.adapter import LoraSettings, new_adapter, unload_adapters
from fettle.training.accumulate import add_gradients
from fettle.training.settings import Checkpointing, Method
from tiny_models import load_tiny_model, save_deep_model, save_unknown_model

RELATIVE_TOLERANCE = 1e-6


@pytest.mark.parametrize("adapted", ["llama", "qwen3", "gemma3_narrow", "phi3"], indirect=True)
@pytest.mark.parametrize("max_tokens", [10_000, 60], ids=["at-once", "level-after-level"])
def test_gradients_are_the_same(adapted: Any, max_tokens: int) -> None:  # noqa: F811
    model, peft = adapted
    examples = family_tree(seed=11)
    kept = add_gradients(model, examples, max_tokens=max_tokens)
    expected = gradients(peft)
    recomputed = add_gradients(model, examples, max_tokens=max_tokens, recomputes=True)
    found = gradients(peft)
    assert recomputed == pytest.approx(kept, rel=RELATIVE_TOLERANCE)
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        assert float((found[name] - reference).norm() / reference.norm()) < RELATIVE_TOLERANCE, name


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, method=Method.FULL, learning_rate=0.003)])
def test_a_run_takes_the_same_steps(settings: Any, tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("qwen3")
    kept = run(loaded, tmp_path / "kept", replace(settings, checkpointing=Checkpointing.OFF))
    recomputed = run(loaded, tmp_path / "recomputed", replace(settings, checkpointing=Checkpointing.ON))
    assert recomputed.loss_points == kept.loss_points


@pytest.mark.parametrize("kind", ["lfm2", "mamba"])
def test_models_that_packed_rows_do_not_fit_too(kind: str, tmp_path: Path) -> None:
    loaded = load_tiny_model(save_unknown_model(tmp_path / kind, kind))
    kept = run(loaded, tmp_path / "kept", replace(SETTINGS, epochs=1, checkpointing=Checkpointing.OFF))
    recomputed = run(loaded, tmp_path / "recomputed", replace(SETTINGS, epochs=1, checkpointing=Checkpointing.ON))
    assert recomputed.loss_points == kept.loss_points


def most_bytes_kept(model: Any, *, recomputes: bool) -> int:
    """The most that the graph of a batch's loss holds at any moment, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    held: dict[int, int] = {}
    most = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal most
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        most = max(most, sum(held.values()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        add_gradients(model, family_tree(seed=3), max_tokens=10_000, recomputes=recomputes)
    return most


def test_little_is_kept(tmp_path: Path) -> None:
    loaded = load_tiny_model(save_deep_model(tmp_path / "deep", num_layers=12))
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8), seed=1, name="tuned")
    kept, recomputed = (most_bytes_kept(loaded.model, recomputes=recomputes) for recomputes in (False, True))
    unload_adapters(peft)
    assert recomputed < 0.2 * kept


def test_no_layer_is_left_otherwise(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    peft = new_adapter(loaded, LoraSettings(rank=4, alpha=8), seed=1, name="tuned")
    add_gradients(loaded.model, family_tree(seed=3), max_tokens=60, recomputes=True)
    assert not any("forward" in vars(layer) for layer in loaded.model.base_model.layers)
    unload_adapters(peft)
