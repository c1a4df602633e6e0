from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear

from fettle.models.adapter import LoraSettings, new_adapter, unload_adapters
from fettle.models.lora_linear import project


@pytest.fixture
def adapted(tiny_model: Callable[[str], Any]):
    loaded = tiny_model("llama")
    model = new_adapter(loaded, LoraSettings(rank=4, alpha=8), seed=0, name="t")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    yield loaded, model
    unload_adapters(model)


def layers_of(model: Any) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, Linear)]


def test_every_layer_of_an_adapter_runs_as_one_function(adapted):
    _, model = adapted
    layers = layers_of(model)
    assert layers
    assert all("forward" in vars(layer) for layer in layers)


def test_it_gives_what_peft_gives_forward_and_backward(adapted):
    _, model = adapted
    for layer in layers_of(model):
        x = torch.randn(3, 5, layer.in_features, generator=torch.Generator().manual_seed(2), requires_grad=True)
        ours = layer(x)
        ours.square().sum().backward()
        ours_grads = [x.grad.clone(), layer.lora_A["t"].weight.grad.clone(), layer.lora_B["t"].weight.grad.clone()]
        layer.zero_grad()
        x.grad = None
        peft = type(layer).forward(layer, x)
        peft.square().sum().backward()
        torch.testing.assert_close(ours, peft, rtol=1e-5, atol=1e-6)
        peft_grads = [x.grad, layer.lora_A["t"].weight.grad, layer.lora_B["t"].weight.grad]
        for our_grad, peft_grad in zip(ours_grads, peft_grads, strict=True):
            torch.testing.assert_close(our_grad, peft_grad, rtol=1e-4, atol=1e-5)


def test_a_disabled_adapter_leaves_the_base_model(adapted):
    loaded, model = adapted
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        tuned = loaded.model(input_ids=ids).logits
        with model.disable_adapter():
            base = loaded.model(input_ids=ids).logits
    unload_adapters(model)
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, base)
    assert not torch.equal(tuned, base)


def test_layers_of_one_input_give_together_what_they_give_alone(adapted):
    _, model = adapted
    attention = next(module for module in model.modules() if type(module).__name__ == "LlamaAttention")
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    upstream = [torch.randn(1, 7, layer.out_features) for layer in layers]
    results = []
    for run in (lambda x: project(x, layers), lambda x: tuple(layer(x) for layer in layers)):
        x = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(3), requires_grad=True)
        outputs = run(x)
        torch.autograd.backward(outputs, upstream)
        gradients = [layer.get_parameter(f"lora_{which}.t.weight").grad for layer in layers for which in "AB"]
        results.append([*outputs, x.grad, *(gradient.clone() for gradient in gradients)])
        model.zero_grad()
    for together, alone in zip(*results, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_layers_of_one_input_without_their_adapter_are_those_of_the_base_model(adapted):
    _, model = adapted
    attention = next(module for module in model.modules() if type(module).__name__ == "LlamaAttention")
    layers = [attention.q_proj, attention.k_proj]
    x = torch.randn(1, 7, 32)
    tuned = project(x, layers)
    with model.disable_adapter():
        for layer, output, changed in zip(layers, project(x, layers), tuned, strict=True):
            assert torch.equal(output, layer.base_layer(x))
            assert not torch.equal(output, changed)
