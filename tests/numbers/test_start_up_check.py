"""The start-up check: right engines pass it, planted faults do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import prompt

from fettle.answering.engines import running_batch
from fettle.answering.engines.local import LocalEngine
from fettle.answering.engines.plain import PlainEngine
from fettle.errors import IntegrityError
from fettle.models import lora_linear
from fettle.models.adapter import LoraSettings, LoraVariant, new_adapter, save_adapter, unload_adapters
from fettle.models.row_cache import RowCache
from tiny_models import FAMILIES

PROMPTS = [prompt(text) for text in ("Where is it?", "I was charged twice for the same order", "x")]


def adapter_folder(loaded: Any, folder: Path, variant: LoraVariant = LoraVariant.LORA) -> Path:
    peft = new_adapter(loaded, LoraSettings.of_rank(4, variant), seed=0, name="tuned")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    save_adapter(peft, folder, name="tuned")
    unload_adapters(peft)
    return folder


@pytest.fixture
def engine(tiny_model: Callable[[str], Any], tmp_path: Path) -> Iterator[LocalEngine]:
    loaded = tiny_model("llama")
    found = LocalEngine(loaded, adapter=adapter_folder(loaded, tmp_path))
    yield found
    found.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", [LoraVariant.LORA, LoraVariant.DORA])
@pytest.mark.parametrize("kind", [LocalEngine, PlainEngine])
def test_an_engine_that_answers_as_trained_passes(
    family: str, variant: LoraVariant, kind: type[LocalEngine], tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model(family)
    engine = kind(loaded, adapter=adapter_folder(loaded, tmp_path, variant))
    try:
        assert engine.require_as_trained(PROMPTS) < 1e-3
    finally:
        engine.close()
    assert kind(loaded).require_as_trained(PROMPTS) < 1e-3


def test_an_adapter_that_the_engine_leaves_out_is_found_out(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lora_linear, "_applied", lambda x, forwards: tuple(forward.module.base_layer(x) for forward in forwards)
    )
    with pytest.raises(IntegrityError, match="not answered with as it was trained"):
        engine.require_as_trained(PROMPTS)
    with pytest.raises(IntegrityError, match="inactive"):
        engine.require_adapter_active(PROMPTS)


def test_an_adapter_that_counts_twice_is_found_out(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(*tensors_and_scales: Any) -> Any:
        *tensors, scales = tensors_and_scales
        return outputs(*tensors, [2 * scale for scale in scales])

    outputs = lora_linear._outputs
    monkeypatch.setattr(lora_linear, "_outputs", doubled)
    with pytest.raises(IntegrityError, match="not answered with as it was trained"):
        engine.require_as_trained(PROMPTS)


def test_a_cache_that_forgets_is_found_out(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: RowCache, layer: int, key: torch.Tensor, value: torch.Tensor, **others: Any) -> None:
        fill(self, layer, key, torch.zeros_like(value), **others)

    fill = RowCache.fill
    monkeypatch.setattr(running_batch, "RowCache", type("Forgetful", (RowCache,), {"fill": forget}))
    with pytest.raises(IntegrityError, match="not answered with as it was trained"):
        engine.require_as_trained(PROMPTS)


def test_what_is_not_a_number_is_no_answer(engine: LocalEngine) -> None:
    weight = engine._model.get_output_embeddings().weight  # pyright: ignore[reportOptionalMemberAccess]
    before = weight.detach().clone()
    with torch.no_grad():
        weight[5] = float("nan")
    try:
        with pytest.raises(IntegrityError):
            engine.require_as_trained(PROMPTS)
    finally:
        with torch.no_grad():
            weight.copy_(before)
