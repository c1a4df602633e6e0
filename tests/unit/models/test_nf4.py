from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle.errors import ConfigError, IntegrityError, ModelError
from fettle.models.adapter import LoraSettings, new_adapter, unload_adapters
from fettle.models.load import (
    fits_machine,
    load_model,
    put_weights_away,
    reload_weights,
    require_form,
    stored_quantisation,
)  # fmt: skip
from fettle.models.nf4 import dequantised, import_bitsandbytes, nf4_layers, num_weight_bytes, require_nf4
from fettle.models.precision import BaseWeights, Precision
from fettle.models.resolve import resolve_model
from fettle.training.settings import derived_learning_rate
from tiny_models import load_tiny_model, save_tiny_model

TinyModel = Callable[[str], Any]


@pytest.fixture
def quantised(tiny_nf4_model: TinyModel, tmp_path: Path) -> Any:
    """A model that a test may spoil."""
    return load_tiny_model(save_tiny_model(tmp_path / "model", "llama"), in_nf4=True)


def test_all_linear_layers_but_the_head_are_held_in_4_bits(tiny_nf4_model: TinyModel, tiny_model: TinyModel) -> None:
    loaded, given = tiny_nf4_model("llama"), tiny_model("llama")
    assert len(nf4_layers(loaded.model)) == 2 * 7
    assert type(loaded.model.lm_head) is torch.nn.Linear
    assert torch.equal(loaded.model.lm_head.weight, given.model.lm_head.weight)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.model.num_parameters() == given.model.num_parameters(), "what the learning rate is derived from"
    assert derived_learning_rate(loaded.model.num_parameters()) == derived_learning_rate(given.model.num_parameters())
    num_quantised = sum(layer.in_features * layer.out_features for layer in nf4_layers(loaded.model))
    saved = num_weight_bytes(given.model) - num_weight_bytes(loaded.model)
    assert num_weight_bytes(given.model) == 4 * given.model.num_parameters()
    assert saved == pytest.approx(num_quantised * (4 - 0.5 - 1 / 64), rel=0.01)


def test_weights_are_within_half_a_step_of_nf4_of_those_given(tiny_nf4_model: TinyModel, tiny_model: TinyModel) -> None:
    given = dict(tiny_model("llama").model.named_modules())
    for name, layer in tiny_nf4_model("llama").model.named_modules():
        if layer in nf4_layers(tiny_nf4_model("llama").model):
            weight_64 = given[name].weight.reshape(-1, 64)
            error = (dequantised(layer, torch.float32).reshape(-1, 64) - weight_64).abs()
            # The widest gap between two levels is that from -1 to -0.696; the scale itself has 8 bits.
            assert bool((error <= (0.3038 / 2 + 0.01) * weight_64.abs().amax(-1, keepdim=True)).all())


def test_a_layer_computes_alike_whether_it_is_trained_or_only_asked(tiny_nf4_model: TinyModel) -> None:
    layer = nf4_layers(tiny_nf4_model("llama").model)[0]
    before = layer.weight.data.clone()
    x = torch.randn(40, layer.in_features, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        asked = layer(x)
    trained = layer(x.clone().requires_grad_())
    assert torch.equal(asked, trained)
    assert torch.equal(asked, torch.nn.functional.linear(x, dequantised(layer, torch.float32)))
    assert torch.equal(layer.weight.data, before), "the library would have turned them into another layout"


def test_the_gradient_of_a_bare_layer_is_that_of_the_product(tiny_nf4_model: TinyModel) -> None:
    layer = nf4_layers(tiny_nf4_model("qwen2").model)[0]
    x = torch.randn(2, 5, layer.in_features, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = layer(x)
    [found] = torch.autograd.grad(y.square().sum(), x)
    reference = torch.nn.functional.linear(x, dequantised(layer, torch.float32), layer.bias)
    [expected] = torch.autograd.grad(reference.square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_an_adapter_on_it_gives_what_peft_gives(quantised: Any) -> None:
    peft = new_adapter(quantised, LoraSettings(rank=4, alpha=8), seed=0, name="t")
    layers = [module for module in peft.modules() if hasattr(module, "lora_A")]
    assert len(layers) == len(nf4_layers(quantised.model))
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["t"].weight, std=0.1, generator=torch.Generator().manual_seed(1))
        x = torch.randn(3, 5, layer.in_features, generator=torch.Generator().manual_seed(2), requires_grad=True)
        wanted = [x, layer.lora_A["t"].weight, layer.lora_B["t"].weight]
        ours, of_peft = layer(x), type(layer).forward(layer, x)
        torch.testing.assert_close(ours, of_peft, rtol=1e-5, atol=1e-6)
        pairs = zip(
            torch.autograd.grad(ours.square().sum(), wanted),
            torch.autograd.grad(of_peft.square().sum(), wanted),
            strict=True,
        )
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    unload_adapters(peft)
    require_form(quantised)


def test_a_layer_that_is_not_quantised_is_found_out(quantised: Any) -> None:
    attention = quantised.model.model.layers[1].self_attn
    attention.v_proj = torch.nn.Linear(32, 16, bias=False)
    with pytest.raises(IntegrityError, match=r"1 of 14 linear layers .*layers\.1\.self_attn\.v_proj"):
        require_form(quantised)


def test_a_layer_with_the_librarys_own_forward_is_found_out(quantised: Any) -> None:
    del nf4_layers(quantised.model)[3].forward
    with pytest.raises(IntegrityError, match="1 of 14 linear layers"):
        require_nf4(quantised.model)


def test_in_bf16_it_computes_in_bf16(tiny_nf4_model: TinyModel, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    loaded = load_model(resolve_model(str(folder)), Precision.FAST, BaseWeights.NF4)
    layer = nf4_layers(loaded.model)[0]
    assert layer(torch.ones(1, layer.in_features, dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16, torch.uint8}


def test_files_that_hold_nf4_compute_in_bf16_too(tiny_nf4_model: TinyModel, tmp_path: Path) -> None:
    stored = tiny_nf4_model("qwen2")  # whose layers have biases
    stored.model.save_pretrained(tmp_path)
    stored.renderer.tokenizer.save_pretrained(tmp_path)
    again = load_model(resolve_model(str(tmp_path)), Precision.FAST, BaseWeights.NF4)
    assert {parameter.dtype for parameter in again.model.parameters()} == {torch.bfloat16, torch.uint8}
    ids = torch.arange(4, 24)[None]
    with torch.no_grad():
        logits, in_fp32 = again.model(input_ids=ids).logits, stored.model(input_ids=ids).logits
    assert torch.allclose(logits.float(), in_fp32, atol=0.05 * float(in_fp32.abs().max()))


def test_files_that_hold_nf4_already_are_taken_for_qlora_alone(quantised: Any, tmp_path: Path) -> None:
    folder = tmp_path / "stored"
    quantised.model.save_pretrained(folder)
    quantised.renderer.tokenizer.save_pretrained(folder)
    assert stored_quantisation(resolve_model(str(folder))) is not None
    again = load_tiny_model(folder, in_nf4=True)
    ids = torch.arange(4, 24)[None]
    with torch.no_grad():
        assert torch.equal(again.model(input_ids=ids).logits, quantised.model(input_ids=ids).logits)
    with pytest.raises(ModelError, match="cannot be trained themselves") as raised:
        load_tiny_model(folder)
    assert "--method qlora" in (raised.value.remedy or "")


@pytest.mark.parametrize("in_nf4", [False, True])
def test_files_quantised_otherwise_are_refused(in_nf4: bool, tiny_nf4_model: TinyModel, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="hold quantised weights \\(gptq\\)"):
        load_tiny_model(folder, in_nf4=in_nf4)


def test_without_bitsandbytes_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not import_bitsandbytes()
    with pytest.raises(ConfigError, match="needs the package bitsandbytes") as raised:
        load_tiny_model(save_tiny_model(tmp_path / "model", "llama"), in_nf4=True)
    assert raised.value.remedy == "pip install 'fettle-llm[qlora]'"


def test_importing_it_leaves_other_modules_alone(tiny_nf4_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # It would ask the network for a kernel through this package, where it is installed.
    marker = type(sys)("kernels")
    monkeypatch.setitem(sys.modules, "kernels", marker)
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    monkeypatch.setattr("importlib.import_module", lambda name: seen.append((name, sys.modules["kernels"])))
    seen: list[tuple[str, Any]] = []
    assert import_bitsandbytes()
    assert seen == [("bitsandbytes", None)]
    assert sys.modules["kernels"] is marker


def test_weights_that_were_put_away_come_back(tmp_path: Path) -> None:
    loaded = load_tiny_model(save_tiny_model(tmp_path / "model", "llama", tied=True))
    ids = torch.arange(4, 24)[None]
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
        put_weights_away(loaded)
        assert num_weight_bytes(loaded.model) == 0
        reload_weights(loaded)
        assert torch.equal(loaded.model(input_ids=ids).logits, before)
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.model.lm_head.weight is loaded.model.get_input_embeddings().weight


def test_what_fits_is_told_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve_model(str(save_tiny_model(tmp_path / "model", "llama")))
    num_bytes = 4 * load_tiny_model(source.path).model.num_parameters()
    assert fits_machine(source, Precision.EXACT)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for total, fits in ((1.6 * num_bytes, True), (1.4 * num_bytes, False)):
        monkeypatch.setattr("psutil.virtual_memory", lambda total=total: type("Memory", (), {"total": total}))
        assert fits_machine(source, Precision.EXACT) is fits
