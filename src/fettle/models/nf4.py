"""A frozen base model whose linear layers are held in 4-bit NormalFloat with double quantisation.

Each 64 weights share a scale, and each 256 scales one of their own: 4.13 bits a weight. The layers are made by bitsandbytes; each
product makes the weights of its layer anew, in the model's precision, and drops them. The library's own forward is not used: on
processors with bf16 instructions it turns the weights into another layout where nothing is trained, and multiplies them in bf16
there, so that what answers would not be what was trained. Embedding, head and norms stay as they are.

Source: Dettmers et al. 2023, "QLoRA", sections 3 (NF4, double quantisation) and equation 5.

Shapes: I inputs, O outputs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from fettle.errors import ConfigError, IntegrityError, ModelError
from fettle.models.division import held_part

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

MAMBA_TYPES = {"mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"}
"""Model types that read the weights of some layers past the layer: those cannot be quantised, nor `out_proj` carry an adapter."""
_PACKAGE = "bitsandbytes"


def import_bitsandbytes() -> bool:
    """Import bitsandbytes where it is installed, as PEFT does in any case; whether it is.

    On processors with bf16 instructions it looks for a kernel of the package `kernels` when it is imported, which would ask the
    network for it, and grumbles where there is none. Fettle opens no connection unasked, and has no use for that kernel.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        return False
    if _PACKAGE not in sys.modules:
        logging.getLogger(_PACKAGE).setLevel(logging.ERROR)
        hidden: dict[str, Any] = {name: sys.modules.pop(name) for name in ("kernels",) if name in sys.modules}
        sys.modules["kernels"] = None  # pyright: ignore[reportArgumentType] (Python's way of saying that it cannot be imported)
        try:
            importlib.import_module(_PACKAGE)
        finally:
            del sys.modules["kernels"]
            sys.modules.update(hidden)
    return True


def require_bitsandbytes() -> None:
    """Show that a model can be held in NF4 here.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    if not import_bitsandbytes():
        raise ConfigError(
            "holding the base model in 4 bits needs the package bitsandbytes",
            where="--method qlora",
            remedy="pip install 'fettle-llm[qlora]'",
        )


def refuse_what_cannot_be_quantised(model_type: str, *, where: str) -> None:
    """Show that a type of model computes through its layers alone.

    Raises:
        ModelError: It does not.
    """
    if model_type in MAMBA_TYPES:
        raise ModelError(
            f"models of the type {model_type} read weights past their layers, so these cannot be held in 4 bits",
            where=where,
            remedy="use --method lora",
        )


def nf4_config(dtype: torch.dtype) -> BitsAndBytesConfig:
    """What transformers is told, so that it quantises each layer as soon as it has read it."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def is_nf4_config(stored: Mapping[str, Any]) -> bool:
    """Whether the `quantization_config` of a model's files says that they hold NF4."""
    return bool(stored.get("load_in_4bit")) and stored.get("bnb_4bit_quant_type") == "nf4"


def nf4_layers(model: torch.nn.Module) -> tuple[Any, ...]:
    """The linear layers that compute with weights held in NF4, in order."""
    return tuple(module for module in model.modules() if is_nf4(module))


def is_nf4(module: torch.nn.Module) -> bool:
    """Whether a layer computes with weights held in NF4 (`compute_by_dequantising`)."""
    return isinstance(vars(module).get("forward"), _Nf4Forward)


def weight_of(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    """The weights [O, I] of a linear layer: its own, or made from their 4 bits in `dtype`."""
    return dequantised(layer, dtype) if is_nf4(layer) else layer.weight


def require_nf4(model: PreTrainedModel) -> None:
    """Show that every linear layer of a model is held in NF4, but its head and what its own files leave out.

    Raises:
        ModelError: It has no layer that could be.
        IntegrityError: One is not, or does not compute as this file says.
    """
    left_out = model.config.quantization_config.llm_int8_skip_modules or []
    head = model.get_output_embeddings()
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module is not head
        and not any(part in name.split(".") or name.endswith(part) for part in left_out)
        and ".lora_" not in name
    }
    if not linear:
        raise ModelError(
            f"{type(model).__name__} has no linear layers that could be held in 4 bits", remedy="use --method lora"
        )
    if wrong := [name for name, module in linear.items() if not (is_nf4(module) and _is_quantised(module))]:
        raise IntegrityError(
            f"{len(wrong)} of {len(linear)} linear layers should be held in NF4 and are not, the first is {wrong[0]}",
            remedy="use --method lora for this model, and report this",
        )


def _is_quantised(module: torch.nn.Module) -> bool:
    from bitsandbytes.nn.modules import Linear4bit

    if not isinstance(module, Linear4bit):
        return False
    weight: Any = module.weight
    return bool(weight.bnb_quantized) and weight.quant_state is not None and weight.quant_state.quant_type == "nf4"


def compute_by_dequantising(model: PreTrainedModel) -> None:
    """Let every layer of a model that is held in NF4 compute with its weights in the precision of its input."""
    for module in model.modules():
        if _is_quantised(module):
            module.forward = _Nf4Forward(module)


def free_what_was_quantised(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Let a model that was just quantised hold its weights and nothing else, those that were not quantised in `dtype`.

    These lie in the mapped file, all of which stays in memory for them (and some have the file's precision where it holds NF4
    already); and what quantising took in other threads is free there alone. Together as much as the weights as given (LOG.md).
    """
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point:
            parameter.data = parameter.data.to(dtype, copy=True)
    with contextlib.suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def dequantised(layer: Any, dtype: torch.dtype) -> torch.Tensor:
    """The weights [O, I] that an NF4 layer stands for.

    They are asked for as one row: given their true shape, the library's kernel for AVX-512 (0.50.2) takes wrong scales where I is
    no multiple of the 64 weights that share one.
    """
    from bitsandbytes.functional import dequantize_blockwise

    state = layer.weight.quant_state
    scales = dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
    flat = torch.ops.bitsandbytes.dequantize_4bit(
        layer.weight.data, scales, state.blocksize, state.quant_type, [state.shape.numel()], dtype
    )
    return flat.view(state.shape)


def num_weight_bytes(model: torch.nn.Module) -> int:
    """What the parameters of a model take in this process's memory, bytes, the scales of quantised ones included."""
    total = sum((part := held_part(weight)).numel() * part.element_size() for weight in model.parameters())
    for layer in nf4_layers(model):
        state = layer.weight.quant_state
        scales = [state.absmax, *([state.state2.absmax] if state.nested else [])]
        total += sum(tensor.numel() * tensor.element_size() for tensor in scales)
    return total


class _Nf4Linear(torch.autograd.Function):
    """y = x W' + bias; the gradient of x alone, for which W is made once more."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Any) -> torch.Tensor:
        ctx.layer = layer
        return functional.linear(x, dequantised(layer, x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (grad @ dequantised(ctx.layer, grad.dtype) if ctx.needs_input_grad[0] else None), None


@dataclass(frozen=True, slots=True)
class _Nf4Forward:
    """The forward of one layer."""

    layer: Any

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output."""
        return _Nf4Linear.apply(x, self.layer)  # pyright: ignore[reportReturnType]
