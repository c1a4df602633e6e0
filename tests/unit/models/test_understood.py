from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle.errors import IntegrityError, ModelError
from fettle.models.head import logits_of
from fettle.models.own_attention import own_attention
from fettle.models.understood import require_understood, why_not_understood
from tiny_models import FAMILIES, load_tiny_model, save_tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model", "llama")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_are_understood_and_left_as_they_were(family: str, tiny_model: Callable[[str], Any]) -> None:
    model = tiny_model(family).model
    ids = torch.arange(4, 24)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        require_understood(model)
        assert torch.equal(model(input_ids=ids).logits, before)
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        assert torch.allclose(logits_of(model, hidden), before[0], atol=1e-5)


def test_a_head_that_does_more_is_found_out(folder: Path) -> None:
    loaded = load_tiny_model(folder)
    loaded.model.lm_head.register_forward_hook(lambda _module, _inputs, output: output)
    require_understood(loaded.model)  # a hook that changes nothing is fine
    forward = loaded.model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits * 1.5
        return output

    loaded.model.forward = scaled
    with pytest.raises(IntegrityError, match="does something Fettle does not know"):
        require_understood(loaded.model)


def test_layers_that_are_not_attention_are_not_understood(folder: Path) -> None:
    model = load_tiny_model(folder).model
    model.config.layer_types = ["full_attention", "linear_attention"]
    assert "linear_attention" in (why_not_understood(model) or "")
    with pytest.raises(IntegrityError, match="linear_attention"):
        require_understood(model)


def test_a_window_that_layers_do_not_pass_on_is_found_out(folder: Path) -> None:
    model = load_tiny_model(folder).model
    model.config.layer_types = ["full_attention", "sliding_attention"]  # llama's layers know nothing of it
    with pytest.raises(IntegrityError, match="sliding window"):
        require_understood(model)


def test_the_attention_is_given_back_after_an_error(folder: Path) -> None:
    model = load_tiny_model(folder).model
    before = model.config._attn_implementation

    def fail() -> None:
        with own_attention(model):
            assert model.config._attn_implementation == "fettle"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert model.config._attn_implementation == before


def test_a_class_that_does_not_choose_its_attention_is_not_understood(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_tiny_model(folder).model
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    assert "attention interface" in (why_not_understood(model) or "")


def test_damaged_weights_are_refused(folder: Path) -> None:
    model = load_tiny_model(folder).model
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="damaged"):
        why_not_understood(model)
