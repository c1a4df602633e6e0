"""Attention modules of known classes run our forward; what it gives is compared with the library's in `tests/numbers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fettle.models.attention_layer import _KNOWN, fused_attention
from fettle.models.own_attention import own_attention
from fettle.models.segment_attention import AttentionForm
from tiny_models import FAMILIES, NARROW_WINDOW


class Recorded:
    """Stands in for attention: keeps what it is asked, gives the queries back."""

    def __init__(self) -> None:
        self.forms: list[AttentionForm] = []

    def attend(
        self, layer: int, query_TXD: torch.Tensor, key_THD: torch.Tensor, value_THD: torch.Tensor, form: AttentionForm
    ) -> torch.Tensor:
        self.forms.append(form)
        return query_TXD


def attention_modules(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module).__name__.endswith("Attention")]


@pytest.mark.parametrize("family", FAMILIES)
def test_known_classes_are_replaced_and_given_back(family: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family).model
    known = [module for module in attention_modules(model) if type(module).__name__ in _KNOWN]
    assert bool(known) is family.startswith(("llama", "mistral", "qwen", "smollm3"))
    with own_attention(model):
        assert all("forward" in vars(module) for module in known)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(("family", "window"), [("llama", None), ("mistral_narrow", NARROW_WINDOW), ("qwen3", None)])
def test_the_window_is_the_layer_s(family: str, window: int | None, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family).model
    modules, recorded = attention_modules(model), Recorded()
    hidden = torch.randn(1, 5, model.config.hidden_size)
    angles = tuple(torch.zeros(1, 5, modules[0].head_dim) for _ in range(2))
    for module in modules:
        forward = fused_attention(module)
        assert forward is not None
        forward(hidden_states=hidden, position_embeddings=angles, fettle_attention=recorded)
    assert [form.window for form in recorded.forms] == [window] * len(modules)
    assert all(form.scaling == modules[0].scaling for form in recorded.forms)
