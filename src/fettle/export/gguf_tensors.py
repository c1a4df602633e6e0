"""A model's weights as the tensors of a GGUF file: their names, their order within a head, their types.

Shapes: O outputs, I inputs of a weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.errors import ModelError
from fettle.export.gguf_architecture import CONVERT_REMEDY, Architecture
from fettle.export.settings import WeightType

if TYPE_CHECKING:
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType
    from transformers import PreTrainedModel

_FINER = frozenset({"token_embd", "output", "attn_v", "ffn_down"})
"""What Q4_1 stores as Q8_0: 13 of 98 MB more of the embedded model, and a third of what is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """One tensor to be written."""

    name: str
    """In the file."""
    source: str
    """In the model."""
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    num_interleaved_heads: int | None
    """Heads whose values are interleaved; None: the values stay in their order."""

    @property
    def num_bytes(self) -> int:
        """In the file."""
        import gguf

        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


def plan_tensors(model: PreTrainedModel, architecture: Architecture, weight_type: WeightType) -> tuple[TensorPlan, ...]:
    """The tensors of a model, in the order in which they are written.

    Raises:
        ModelError: A weight has no place in this architecture.
    """
    import gguf

    config = model.config
    arch = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    is_tied = _head_is_embedding(model)
    plans = []
    for source, tensor in model.state_dict().items():
        if is_tied and source == "lm_head.weight":
            continue  # llama.cpp takes the embedding where there is no head
        module, _, part = source.rpartition(".")
        layer = module.rpartition(".")[2]
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None or (part == "bias" and layer not in architecture.biases):
            raise ModelError(
                f"the weight {source} has no place in llama.cpp's architecture {architecture.name}",
                where="--format gguf",
                remedy=CONVERT_REMEDY,
            )
        plans.append(
            TensorPlan(
                name=name,
                source=source,
                shape=tuple(tensor.shape),
                kind=_kind(name, tuple(tensor.shape), weight_type),
                num_interleaved_heads=heads.get(layer) if architecture.interleaves_rotary else None,
            )
        )
    return tuple(plans)


def encoded(plan: TensorPlan, weight: torch.Tensor, blocks: np.ndarray | None = None) -> np.ndarray:
    """The bytes of a weight as they stand in the file.

    Args:
        plan: Says its type, and its order in the file.
        weight: In the model.
        blocks: The weight in that type already, in the model's order; None: each value is rounded by itself.

    Raises:
        ModelError: A value is too large for the type.
    """
    import numpy as np

    data = _blocks(plan, weight) if blocks is None else blocks
    return (
        data
        if plan.num_interleaved_heads is None
        else np.ascontiguousarray(interleaved(data, plan.num_interleaved_heads))
    )


def rounded(plan: TensorPlan, weight: torch.Tensor, blocks: np.ndarray | None = None) -> np.ndarray:
    """The weight as its type holds it, fp32, in the model's own order."""
    import gguf

    return gguf.dequantize(_blocks(plan, weight) if blocks is None else blocks, plan.kind)


def _blocks(plan: TensorPlan, weight: torch.Tensor) -> np.ndarray:
    import gguf
    import numpy as np

    values = weight.detach().float().cpu().numpy()
    with np.errstate(over="ignore"):
        data = gguf.quantize(values, plan.kind)
        if not np.isfinite(gguf.dequantize(data, plan.kind)).all():
            raise ModelError(
                f"values of {plan.source} do not fit into {plan.kind.name}, they reach {np.abs(values).max():.3g}",
                where="--type",
                remedy="choose --type bf16",
            )
    return data


def interleaved(values: np.ndarray, num_heads: int) -> np.ndarray:
    """The rows [O, ...] of each head, its two halves interleaved: what transformers turns together becomes neighbours.

    >>> import numpy as np
    >>> interleaved(np.arange(8), num_heads=2).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    halves = values.reshape(num_heads, 2, len(values) // num_heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _head_is_embedding(model: PreTrainedModel) -> bool:
    """Asked of the tensors: a merge can part what the config calls tied."""
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert head is not None, "a causal language model has a head"
    return bool(torch.equal(head.weight, embedding.weight))  # pyright: ignore[reportArgumentType]


def _kind(name: str, shape: Sequence[int], weight_type: WeightType) -> GGMLQuantizationType:
    """The type of one tensor: vectors stay fp32, rows that are no whole blocks become F16, as llama.cpp's converter does it."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if len(shape) == 1:
        return kinds.F32
    is_finer = weight_type is WeightType.Q4_1 and name.split(".")[-2] in _FINER
    wanted = kinds.Q8_0 if is_finer else kinds[weight_type.name]
    return wanted if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0 else kinds.F16
