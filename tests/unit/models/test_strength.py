"""An adapter at another strength, as everybody who loads it sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from fettle.errors import ConfigError
from fettle.models.adapter import LoraSettings, LoraVariant, new_adapter, save_adapter, unload_adapters
from fettle.models.strength import at_strength, tuned_sha256


@pytest.fixture(params=[LoraVariant.LORA, LoraVariant.RSLORA])
def adapter(request: pytest.FixtureRequest, tiny_model: Callable[[str], Any], tmp_path: Path) -> Path:
    peft = new_adapter(tiny_model("llama"), LoraSettings.of_rank(8, request.param), seed=0, name="tuned")
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    save_adapter(peft, tmp_path / "adapter", name="tuned")
    unload_adapters(peft)
    return tmp_path / "adapter"


def updates(loaded: Any, folder: Path) -> list[torch.Tensor]:
    """What PEFT itself adds to each weight."""
    model = PeftModel.from_pretrained(loaded.model, str(folder), adapter_name="tuned")
    found = [
        module.get_delta_weight("tuned").clone() for module in model.modules() if hasattr(module, "get_delta_weight")
    ]
    unload_adapters(model)
    return found


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.5])
def test_every_update_is_multiplied(
    adapter: Path, strength: float, tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    weaker = at_strength(adapter, strength, into=tmp_path / "weaker")
    whole, scaled = updates(tiny_model("llama"), adapter), updates(tiny_model("llama"), weaker)
    assert len(whole) == len(scaled) > 0
    for update, other in zip(whole, scaled, strict=True):
        assert torch.allclose(strength * update, other, atol=1e-7)
        assert float(update.abs().max()) > 0


def test_an_adapter_at_another_strength_is_another_model(adapter: Path, tmp_path: Path) -> None:
    weaker = at_strength(adapter, 0.5, into=tmp_path / "weaker")
    assert tuned_sha256(weaker) != tuned_sha256(adapter)
    assert tuned_sha256(at_strength(adapter, 1.0, into=tmp_path / "same")) == tuned_sha256(adapter)
    again = at_strength(adapter, 0.75, into=weaker)  # in place of the one that is there
    assert tuned_sha256(again) == tuned_sha256(at_strength(adapter, 0.75, into=tmp_path / "other"))


def test_whole_numbers_stay_whole(adapter: Path, tmp_path: Path) -> None:
    weaker = at_strength(adapter, 0.5, into=tmp_path / "weaker")
    before, after = (json.loads((folder / "adapter_config.json").read_text()) for folder in (adapter, weaker))
    assert after["lora_alpha"] == before["lora_alpha"] / 2
    assert isinstance(after["lora_alpha"], int)
    assert {**after, "lora_alpha": 0, "alpha_pattern": {}} == {**before, "lora_alpha": 0, "alpha_pattern": {}}


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_no_strength_at_all_is_refused(adapter: Path, strength: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="strength"):
        at_strength(adapter, strength, into=tmp_path / "none")
    assert not (tmp_path / "none").exists()
