from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle.models.nf4 import nf4_layers, num_weight_bytes
from fettle.models.precision import BaseWeights
from fettle.training.base import base_of
from fettle.training.settings import Method
from tiny_models import load_tiny_model, save_tiny_model

IDS = torch.arange(4, 24)[None]


@pytest.mark.parametrize("method", [Method.LORA, Method.FULL])
def test_a_base_that_is_held_as_wanted_is_used_itself(method: Method, tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    with base_of(method, loaded) as base:
        assert base is loaded
        assert num_weight_bytes(loaded.model) > 0


def test_memory_never_holds_both_forms(tiny_nf4_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = load_tiny_model(save_tiny_model(tmp_path / "model", "llama"))
    with torch.no_grad():
        before = loaded.model(input_ids=IDS).logits
        with base_of(Method.QLORA, loaded) as base:
            assert base.base_weights is BaseWeights.NF4
            assert base.name == "model in NF4"
            assert len(nf4_layers(base.model)) == 14
            assert num_weight_bytes(loaded.model) == 0
        assert torch.equal(loaded.model(input_ids=IDS).logits, before)


def test_a_quantised_base_is_used_itself(tiny_nf4_model: Callable[[str], Any]) -> None:
    loaded = tiny_nf4_model("llama")
    with base_of(Method.QLORA, loaded) as base:
        assert base is loaded


def test_the_weights_come_back_after_an_error(tiny_nf4_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = load_tiny_model(save_tiny_model(tmp_path / "model", "llama"))
    before = loaded.model.lm_head.weight.clone()
    with pytest.raises(RuntimeError, match="stop"), base_of(Method.QLORA, loaded):
        raise RuntimeError("stop")
    assert torch.equal(loaded.model.lm_head.weight, before)
