"""Linear layers with their LoRA updates as one function, in the base model's dtype, with a backward written out.

PEFT casts every input to the adapter's fp32 and back, and saves both; for small models that costs as much as the base product.
Here only the small A and B are cast. Layers of one input (query, key and value; gate and up) run together: their A are one product,
and the gradient of their input is added up where it lies. Nothing is patched but the `forward` of the layers of one model, and
taking the adapter off removes it. Weights that are held in 4 bits are made numbers in the forward pass and again in the backward
pass, and kept in neither.

Shapes: N rows (all leading dimensions), I inputs, O outputs, R rank, P the ranks of all layers together.
y = x W' + s (x A') B', Hu et al. 2021, eq. 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from fettle.errors import ModelError
from fettle.models.nf4 import is_nf4, weight_of

if TYPE_CHECKING:
    from peft import PeftModel


class _LoraLinears(torch.autograd.Function):
    """Gradients for x and for each layer's A and B; the base weights and biases are frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, layers: Sequence[torch.nn.Module], scales: Sequence[float], *factors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """`layers` are those of the base model; `factors` all A [R, I] and then all B [O, R]."""
        x_NI = x.reshape(-1, x.shape[-1])
        all_a, all_b = factors[: len(layers)], [b_OR.to(x.dtype) for b_OR in factors[len(layers) :]]
        outputs, inner_NP, a_PI = _outputs(x_NI, layers, all_a, all_b, scales)
        ctx.save_for_backward(x_NI, inner_NP, a_PI, *all_b)
        ctx.layers, ctx.scales = layers, scales
        ctx.ranks, ctx.master_dtype = [len(a_RI) for a_RI in all_a], all_a[0].dtype
        return tuple(y_NO.view(*x.shape[:-1], -1) for y_NO in outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x_NI, inner_NP, a_PI, *all_b = ctx.saved_tensors
        all_grad_NO = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        all_inner = [
            (grad_NO @ b_OR).mul_(scale) for grad_NO, b_OR, scale in zip(all_grad_NO, all_b, ctx.scales, strict=True)
        ]
        grad_inner_NP = torch.cat(all_inner, dim=1) if len(all_inner) > 1 else all_inner[0]
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = all_grad_NO[0] @ weight_of(ctx.layers[0], x_NI.dtype)
            for grad_NO, layer in zip(all_grad_NO[1:], ctx.layers[1:], strict=True):
                grad_x.addmm_(grad_NO, weight_of(layer, x_NI.dtype))
            grad_x = grad_x.addmm_(grad_inner_NP, a_PI).view(*grads[0].shape[:-1], -1)
        grad_a = (grad_inner_NP.T @ x_NI).to(ctx.master_dtype).split(ctx.ranks)
        grad_b = [  # the other way round it is four times slower
            (inner_NR.T @ grad_NO).T.to(ctx.master_dtype) * scale
            for inner_NR, grad_NO, scale in zip(inner_NP.split(ctx.ranks, dim=1), all_grad_NO, ctx.scales, strict=True)
        ]
        return grad_x, None, None, *grad_a, *grad_b


def _outputs(
    x_NI: torch.Tensor,
    layers: Sequence[Any],
    all_a: Sequence[torch.Tensor],
    all_b: Sequence[torch.Tensor],
    scales: Sequence[float],
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """All y [N, O], x A' [N, P], and A [P, I] in the dtype of x."""
    outputs = _base_outputs(x_NI, layers)
    return outputs, *_add_updates(outputs, x_NI, all_a, all_b, scales)


def _base_outputs(x_NI: torch.Tensor, layers: Sequence[Any]) -> list[torch.Tensor]:
    return [functional.linear(x_NI, weight_of(layer, x_NI.dtype), layer.bias) for layer in layers]


def _add_updates(
    outputs: Sequence[torch.Tensor],
    x_NI: torch.Tensor,
    all_a: Sequence[torch.Tensor],
    all_b: Sequence[torch.Tensor],
    scales: Sequence[float],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add s (x A') B' to each y; x A' [N, P], and A [P, I] in the dtype of x."""
    a_PI = (torch.cat([*all_a]) if len(all_a) > 1 else all_a[0]).to(x_NI.dtype)
    inner_NP = x_NI @ a_PI.T
    inners = inner_NP.split([len(a_RI) for a_RI in all_a], dim=1)
    for y_NO, inner_NR, b_OR, scale in zip(outputs, inners, all_b, scales, strict=True):
        y_NO.addmm_(inner_NR, b_OR.to(x_NI.dtype).T, alpha=scale)
    return inner_NP, a_PI


@dataclass(frozen=True, slots=True)
class _FusedForward:
    """The forward of one PEFT layer with one adapter."""

    module: Any
    name: str
    peft_forward: Any

    def __call__(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The layer's output; PEFT's own where anything but this adapter is asked for."""
        if args or kwargs or not self.is_in_charge:
            return self.peft_forward(x, *args, **kwargs)
        return _applied(x, [self])[0]

    @property
    def a(self) -> torch.Tensor:
        """A [R, I]."""
        return self.module.lora_A[self.name].weight

    @property
    def b(self) -> torch.Tensor:
        """B [O, R]."""
        return self.module.lora_B[self.name].weight

    @property
    def scale(self) -> float:
        """The factor s."""
        return self.module.scaling[self.name]

    @property
    def is_in_charge(self) -> bool:
        """The layer answers with this adapter alone."""
        module = self.module
        return not module.disable_adapters and not module.merged and module.active_adapters == [self.name]


@dataclass(frozen=True, slots=True)
class Route:
    """Neighbouring rows that one adapter answers; None: the base model."""

    adapter: str | None
    num_rows: int | None
    """None: all."""


@dataclass(slots=True)
class Routes:
    """Which adapter answers which of the rows that come next: said once for all layers."""

    now: Sequence[Route] = (Route(None, None),)


@dataclass(frozen=True, slots=True)
class _RoutedForward:
    """The forward of one PEFT layer with several adapters, each for some of the rows. It has no gradient."""

    module: Any
    routes: Routes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        return _routed(x, [self])[0]


def _routed(x: torch.Tensor, forwards: Sequence[_RoutedForward]) -> tuple[torch.Tensor, ...]:
    assert not torch.is_grad_enabled(), "adapters that answer together are not trained"
    x_NI = x.reshape(-1, x.shape[-1])
    outputs = _base_outputs(x_NI, [forward.module.base_layer for forward in forwards])
    start = 0
    for route in forwards[0].routes.now:
        end = len(x_NI) if route.num_rows is None else start + route.num_rows
        name = route.adapter
        having = [(y, f.module) for y, f in zip(outputs, forwards, strict=True) if name in f.module.lora_A]
        if having:
            _add_updates(
                [y_NO[start:end] for y_NO, _ in having],
                x_NI[start:end],
                [module.lora_A[name].weight for _, module in having],
                [module.lora_B[name].weight for _, module in having],
                [module.scaling[name] for _, module in having],
            )
        start = end
    assert start == len(x_NI), "every row is answered by somebody"
    return tuple(y_NO.view(*x.shape[:-1], -1) for y_NO in outputs)


def fuse_lora(model: PeftModel, *, name: str) -> int:
    """Let every plain LoRA layer of an adapter run as one function; the number of layers that do.

    Layers with dropout, bias in the update, a variant (DoRA), or base weights quantised otherwise than to NF4 keep PEFT's own
    forward.
    """
    from peft.tuners.lora import LoraLayer

    num_fused = 0
    for module in model.modules():
        if isinstance(module, LoraLayer) and _is_plain(module, name):
            module.forward = _FusedForward(module, name, module.forward)
            num_fused += 1
    return num_fused


def route_lora(model: PeftModel, routes: Routes, *, name: str) -> None:
    """Let all layers of the adapters on a model run as `routes` says; `name` is the adapter that was put on last.

    Raises:
        ModelError: This adapter does not run as one function, so it cannot answer beside others.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    if not all(_is_plain(module, name) for module in layers if name in module.lora_A):
        raise ModelError(
            f"the adapter {name!r} has layers that cannot answer beside those of other adapters (DoRA, biases, or dropout)",
            remedy="let an engine of its own answer with it, or train it as lora or rslora",
        )
    for module in layers:
        if not isinstance(vars(module).get("forward"), _RoutedForward):
            module.forward = _RoutedForward(module, routes)


@contextmanager
def as_peft_computes(model: torch.nn.Module) -> Iterator[None]:
    """Within it the layers of a model that were fused run PEFT's own forward: the reference."""
    fused = [
        module for module in model.modules() if isinstance(vars(module).get("forward"), _FusedForward | _RoutedForward)
    ]
    forwards = [vars(module).pop("forward") for module in fused]
    try:
        yield
    finally:
        for module, forward in zip(fused, forwards, strict=True):
            module.forward = forward


def project(x: torch.Tensor, layers: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """What several linear layers make of one input; those with LoRA updates that run as one function run together."""
    forwards = [vars(layer).get("forward") for layer in layers]
    fused = [forward for forward in forwards if isinstance(forward, _FusedForward) and forward.is_in_charge]
    if len(fused) == len(layers):
        return _applied(x, fused)
    if len(routed := [forward for forward in forwards if isinstance(forward, _RoutedForward)]) == len(layers):
        return _routed(x, routed)
    return tuple(layer(x) for layer in layers)


def _applied(x: torch.Tensor, forwards: Sequence[_FusedForward]) -> tuple[torch.Tensor, ...]:
    layers = [forward.module.base_layer for forward in forwards]
    all_a, all_b = [forward.a for forward in forwards], [forward.b for forward in forwards]
    scales = [forward.scale for forward in forwards]
    if torch.is_grad_enabled():
        return _LoraLinears.apply(x, layers, scales, *all_a, *all_b)  # pyright: ignore[reportReturnType]
    outputs, _, _ = _outputs(x.reshape(-1, x.shape[-1]), layers, all_a, all_b, scales)
    return tuple(y_NO.view(*x.shape[:-1], -1) for y_NO in outputs)


def _is_plain(module: Any, name: str) -> bool:
    base = module.base_layer
    return (
        (type(base) is torch.nn.Linear or is_nf4(base))
        and name in module.lora_A
        and name not in module.lora_variant
        and not module.lora_bias[name]
        and not module.fan_in_fan_out
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
    )
